"""Registration, names, approval, finding."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from pxeboot.errors import Conflict, Invalid, NotFound, Unauthorized
from pxeboot.services import groups, hosts, lookup, names, tokens
from pxeboot.services.views import HostView
from tests.plane import NOW, Plane, ip, mac


def credential(plane: Plane, number: int) -> str:
    with plane.write() as session:
        token = tokens.issue(
            session, mac=mac(number), address=ip(number), mode="register", host_id=None, task_id=None,
            seconds=600, now=NOW,
        )  # fmt: skip
    return plane.checkin(number, token).credential


def register(plane: Plane, text: str, name: str | None = None, group: str | None = None) -> HostView:
    with plane.write() as session:
        return hosts.register(
            session, text, name=name, group=group, image=None, settings=plane.settings, now=NOW
        )


def test_quick_names_are_allotted_once_each(plane: Plane) -> None:
    credentials = [credential(plane, number) for number in range(1, 9)]
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda text=text: names.append(register(plane, text).name))
        for text in credentials
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(names) == [f"PC-{number:03d}" for number in range(1, 9)]


def test_registering_gives_a_pending_host_with_what_the_agent_saw(plane: Plane) -> None:
    with plane.write() as session:
        groups.create_group(session, name="B204", name_template="B204-##")
    host = register(plane, credential(plane, 1), group="B204")
    assert (host.name, host.state, host.group, host.macs) == ("B204-01", "pending", "B204", [mac(1)])
    assert (host.firmware, host.secure_boot, host.serial) == ("uefi", True, "S1")
    assert "host.registered" in plane.heard.kinds


def test_asking_twice_registers_once_and_a_second_machine_cannot_take_the_name(plane: Plane) -> None:
    text = credential(plane, 1)
    assert register(plane, text, "pc1").id == register(plane, text, "pc1").id
    with pytest.raises(Conflict, match="name pc1 is taken"):
        register(plane, credential(plane, 2), "PC1")
    with pytest.raises(Conflict, match="already registered as pc1"):
        register(plane, credential(plane, 1), "other")


def test_a_task_credential_registers_nobody(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="inventory", group="B204")
    text = plane.checkin(1, plane.boot(1).token).credential
    with pytest.raises(Unauthorized):
        register(plane, text)


def test_names_and_addresses_are_checked(plane: Plane) -> None:
    plane.room(1)
    with plane.write() as session:
        for bad in ("", "-pc", "pc_1", "a" * 64, "pc.local", "é"):
            with pytest.raises(Invalid):
                hosts.create_host(session, name=bad, macs=[mac(9)])
        with pytest.raises(Invalid):
            hosts.create_host(session, name="ok", macs=["01:00:5e:00:00:01"])
        with pytest.raises(Conflict, match="belongs to host pc1"):
            hosts.create_host(session, name="ok", macs=[mac(1)])


def test_next_name_fills_gaps_and_grows(plane: Plane) -> None:
    with plane.write() as session:
        for number in (1, 3):
            hosts.create_host(session, name=f"x{number}", macs=[mac(number)])
        assert names.next_name(session, "x#") == "x2"
        hosts.create_host(session, name="X2", macs=[mac(2)])  # names are compared without case
        assert names.next_name(session, "x#") == "x4"
        for number in range(4, 10):
            hosts.create_host(session, name=f"x{number}", macs=[mac(number)])
        assert names.next_name(session, "x#") == "x10"
        with pytest.raises(Invalid):
            names.next_name(session, "nothing")


def test_a_host_is_found_by_whatever_people_have_at_hand(plane: Plane) -> None:
    plane.room(2)
    uuid = "12345678-1234-1234-1234-123456789ABC"
    with plane.write() as session:
        hosts.create_host(session, name="srv", macs=[mac(7)], uuid=uuid)
    with plane.read() as session:
        for key in ("pc1", 1, "1", mac(1), mac(1).upper().replace(":", "-"), "5254.0000.0001"):
            assert hosts.get_host(session, key).name == "pc1"
        assert hosts.get_host(session, uuid).name == "srv"
        with pytest.raises(NotFound, match=r"Did you mean pc[12]"):
            hosts.get_host(session, "pc11")
        # A replaced network card: the UUID still says who it is.
        assert (found := hosts.find_by_identity(session, mac(99), uuid)) is not None
        assert found.name == "srv"
        assert hosts.find_by_identity(session, mac(99), "00000000-0000-0000-0000-000000000000") is None


def test_a_uuid_is_found_however_the_firmware_read_its_first_fields(plane: Plane) -> None:
    uuid, swapped = "12345678-1234-5678-1234-123456789abc", "78563412-3412-7856-1234-123456789abc"
    with plane.write() as session:
        hosts.create_host(session, name="a", macs=[mac(1)], uuid=uuid)
        hosts.create_host(session, name="b", macs=[mac(2)])
    assert lookup.uuid_readings(swapped) == (swapped, uuid)
    with plane.read() as session:
        for text in (uuid, swapped, swapped.upper()):
            assert (found := hosts.find_by_identity(session, mac(99), text)) is not None
            assert found.name == hosts.get_host(session, text).name == "a"
        assert (found := hosts.find_by_identity(session, mac(2), uuid)) is not None
        assert found.name == "b", "the MAC address comes first"
    with plane.write() as session:
        hosts.create_host(session, name="c", macs=[mac(3)], uuid=swapped)
        assert hosts.find_by_identity(session, mac(99), uuid) is None, "it could be either"
        with pytest.raises(NotFound, match="Several hosts share this UUID: a, c"):
            hosts.get_host(session, uuid)


def test_pages_of_hosts(plane: Plane) -> None:
    plane.room(5)
    with plane.read() as session:
        first = hosts.list_hosts(session, limit=2, group="B204")
        second = hosts.list_hosts(session, limit=2, cursor=first.next_cursor)
        third = hosts.list_hosts(session, limit=2, cursor=second.next_cursor)
        names = [host.name for page in (first, second, third) for host in page.items]
        assert names == ["pc1", "pc2", "pc3", "pc4", "pc5"]
        assert third.next_cursor is None
        assert [host.name for host in hosts.list_hosts(session, q="00:03").items] == ["pc3"]
        assert hosts.list_hosts(session, q="100%").items == []
        assert hosts.list_hosts(session, state="pending").items == []
        for bad in ("nonsense", "W10", "eyJ4IjoxfQ"):
            with pytest.raises(Invalid):
                hosts.list_hosts(session, cursor=bad)


def test_a_busy_host_is_not_deleted_and_an_idle_one_leaves_nothing(plane: Plane) -> None:
    plane.room(1)
    plane.start(kind="inventory", group="B204")
    with pytest.raises(Conflict, match="cancel operation"), plane.write() as session:
        hosts.delete_host(session, "pc1")
    plane.boot(1, NOW)
    with plane.write() as session:
        from pxeboot.services import tasks

        tasks.fail(session, tasks.active(session, 1).id, reason="x", code="y", now=NOW + timedelta(1))  # type: ignore[union-attr]
        hosts.delete_host(session, "pc1")
        assert hosts.find_by_identity(session, mac(1)) is None


@pytest.mark.parametrize("text", ["52:54:00:12:34:56", "52-54-00-12-34-56", "525400123456", "5254.0012.3456"])
def test_mac_spellings(text: str) -> None:
    assert lookup.normal_mac(text) == "52:54:00:12:34:56"


@pytest.mark.parametrize("text", ["", "52:54:00:12:34", "52:54:00:12:34:5g", "hello", "1"])
def test_not_a_mac(text: str) -> None:
    assert lookup.normal_mac(text) is None
