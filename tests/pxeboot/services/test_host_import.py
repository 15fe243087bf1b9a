"""A room from a list: all lines or none."""

from __future__ import annotations

import pytest

from pxeboot.errors import Invalid
from pxeboot.services import groups, host_csv, hosts
from pxeboot.services.host_import import ImportReport, export_hosts, import_hosts
from tests.plane import Plane, mac


def take(plane: Plane, text: str) -> ImportReport:
    with plane.write() as session:
        return import_hosts(session, host_csv.parse(text), actor="ada")


def results(report: ImportReport) -> list[tuple[int, str, str, str]]:
    return [(each.line, each.host, each.result, each.was) for each in report.hosts]


def test_new_machines_are_added_and_known_ones_found_by_mac_then_by_name(plane: Plane) -> None:
    plane.room(3)
    text = (
        "name,macs,group,address,state\n"
        f"B204-01,{mac(1)},,10.20.0.31,\n"  # pc1, which gets its name
        f"pc2,52-54-00-00-00-F2,,,\n"  # a second card of pc2
        f"pc3,{mac(3)},B204,,approved\n"
        f"B204-09,{mac(9)} {mac(10)},B204,10.20.0.39,pending\n"
    )
    assert results(take(plane, text)) == [
        (2, "B204-01", "changed", "pc1"),
        (3, "pc2", "changed", ""),
        (4, "pc3", "same", ""),
        (5, "B204-09", "new", ""),
    ]
    with plane.read() as session:
        first, second = hosts.get_host(session, "B204-01"), hosts.get_host(session, "pc2")
        assert (first.group, first.reserved_address, first.macs) == ("B204", "10.20.0.31", [mac(1)])
        assert second.macs == [mac(2), "52:54:00:00:00:f2"]
        new = hosts.get_host(session, "B204-09")
        assert (new.state, new.reserved_address, new.macs) == ("pending", "10.20.0.39", [mac(9), mac(10)])
    assert {each.result for each in take(plane, text).hosts} == {"same"}, "again changes nothing"


def test_a_dash_takes_away_and_an_empty_cell_leaves(plane: Plane) -> None:
    plane.room(1)
    take(plane, f"name,macs,address,serial\npc1,{mac(1)},10.20.0.31,S1\n")
    take(plane, "name,group,address,serial\npc1,-,-,\n")
    with plane.read() as session:
        host = hosts.get_host(session, "pc1")
        assert (host.group, host.reserved_address, host.serial) == (None, "", "S1")


def test_one_wrong_line_leaves_everything_as_it_was_and_every_wrong_line_is_named(plane: Plane) -> None:
    plane.room(2)
    said = len(plane.heard.records)
    text = (
        "name,macs,group,address,uuid,state\n"
        f"new,{mac(7)},B204,10.20.0.31,,\n"
        f"other,{mac(8)},C9,,,\n"
        "bad name,52:54:00:00:00:0b,,,,\n"
        f"pc1,{mac(2)},,,,\n"
        f"twin,{mac(9)},,10.20.0.31,,\n"
        "noline,52:54,,,,\n"
        f"pc2,{mac(2)},,,nonsense,\n"
        f"pc2,{mac(2)},,,,-\n"
    )
    with pytest.raises(Invalid, match="7 of 8 lines") as caught:
        take(plane, text)
    errors = {error["field"]: error["msg"] for error in caught.value.data["errors"]}
    assert list(errors) == [f"line {number}" for number in range(3, 10)]
    assert "Did you mean" in errors["line 3"] or "Known: B204" in errors["line 3"]
    assert "several hosts: pc1, pc2" in errors["line 5"]
    assert "reserved for new already" in errors["line 6"]
    with plane.read() as session:
        assert [host.name for host in hosts.list_hosts(session).items] == ["pc1", "pc2"]
    assert len(plane.heard.records) == said, "nothing is told of what did not happen"


def test_what_is_exported_changes_nothing_when_it_is_imported(plane: Plane) -> None:
    plane.room(2)
    with plane.write() as session:
        groups.create_group(session, name="C1")
        hosts.create_host(
            session, name="srv", macs=[mac(7)], group="C1", serial="=1+1", state="blocked",
            uuid="12345678-1234-1234-1234-123456789abc",
        )  # fmt: skip
        hosts.update_host(session, "pc1", reserved_address="10.20.0.31")
    with plane.read() as session:
        everything = host_csv.render(export_hosts(session))
        assert [row.name for row in export_hosts(session, "C1")] == ["srv"]
    assert {each.result for each in take(plane, everything).hosts} == {"same"}
    assert len(everything.splitlines()) == 4


def test_a_uuid_alone_is_a_change_that_everybody_hears_of(plane: Plane) -> None:
    plane.room(1)
    plane.heard.changes.clear()
    plane.heard.records.clear()
    take(plane, "name,uuid\npc1,4c4c4544-0036-3510-8052-b4c04f303532\n")
    assert [change.what for change in plane.heard.changes] == ["host"]  # DHCP knows machines by it
    assert "SMBIOS UUID" in plane.heard.records[0].sentence
