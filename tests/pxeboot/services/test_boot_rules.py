"""Boot rules: the host's over its group's over the site's, each with who said it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pxeboot.errors import Invalid
from pxeboot.services import boot_entries, boot_rules, groups, hosts, lookup
from tests.plane import Plane


def holding(plane: Plane, host: str) -> dict[str, tuple[object, str]]:
    with plane.read() as session:
        rules = boot_rules.effective(session, lookup.host(session, host), plane.settings)
    return {key: (rule.value, rule.origin) for key, rule in rules.items()}


def say(plane: Plane, host: str = "", group: str = "", **rules: Any) -> None:
    with plane.write() as session:
        if host:
            hosts.update_host(session, host, actor="ada", boot=rules or None)
        else:
            groups.update_group(session, group, actor="ada", boot=rules or None)


def test_the_first_that_says_something_wins(plane: Plane) -> None:
    plane.room(2)
    assert holding(plane, "pc1")["default"] == ("local", "site")
    say(plane, group="B204", default="windows", menu_seconds=0)
    say(plane, host="pc1", default="linux")
    assert holding(plane, "pc1")["default"] == ("linux", "host")
    assert holding(plane, "pc2")["default"] == ("windows", "group")
    assert holding(plane, "pc1")["menu_seconds"] == (0, "group"), "waiting for ever is something said"
    assert holding(plane, "pc1")["local_boot"] == ("auto", "site")


def test_the_site_speaks_through_its_settings(tmp_path: Path) -> None:
    plane = Plane(tmp_path / "data", boot={"default": "linux", "menu_seconds": 7})
    plane.room(1)
    assert holding(plane, "pc1") == {
        "default": ("linux", "site"),
        "local_boot": ("auto", "site"),
        "menu": ("never", "site"),
        "menu_seconds": (7, "site"),
    }
    plane.database.close()


def test_a_rule_that_is_not_named_stays_and_none_takes_one_away(plane: Plane) -> None:
    plane.room(1)
    say(plane, host="pc1", default="linux", local_boot="sanboot")
    say(plane, host="pc1", menu="always")
    say(plane, host="pc1", local_boot=None)
    with plane.read() as session:
        assert hosts.get_host(session, "pc1").boot == {"default": "linux", "menu": "always"}
    say(plane, host="pc1")
    assert {origin for _, origin in holding(plane, "pc1").values()} == {"site"}


def test_a_change_is_journaled_with_who_did_it_and_tells_the_caches(plane: Plane) -> None:
    plane.room(1)
    say(plane, host="pc1", default="windows")
    say(plane, group="B204", menu="always")
    sentences = [record.sentence for record in plane.heard.records[-2:]]
    assert sentences[0] == "Host pc1 was changed by ada: boot default windows."
    assert "by ada: boot menu always" in sentences[1]
    assert [change.what for change in plane.heard.changes[-2:]] == ["host", "group"]
    before = len(plane.heard.records)
    say(plane, host="pc1", default="windows")
    assert len(plane.heard.records) == before, "what changes nothing is not told"


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"default": "wndows"}, "boot.default"),
        ({"menu": "maybe"}, "boot.menu"),
        ({"menu_seconds": -1}, "boot.menu_seconds"),
        ({"local_boot": "partition:sda1"}, "boot.local_boot"),
        ({"colour": "red"}, "boot.colour"),
        ({"default": "entry:memtset"}, "boot.default"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_field(
    plane: Plane, rules: dict[str, Any], field: str
) -> None:
    plane.room(1)
    with pytest.raises(Invalid) as caught:
        say(plane, host="pc1", **rules)
    assert caught.value.data["field"] == field


def test_an_entry_can_be_the_default_of_those_who_have_it(plane: Plane) -> None:
    plane.room(1)
    with plane.write() as session:
        groups.create_group(session, name="C1")
        boot_entries.create_entry(session, name="memtest", title="Memory test", kind="memtest", group="C1")
    with pytest.raises(Invalid, match="another group"):
        say(plane, host="pc1", default="entry:memtest")
    say(plane, group="C1", default="entry:memtest")
    with plane.write() as session:
        hosts.set_group(session, ["pc1"], "C1")
    assert holding(plane, "pc1")["default"] == ("entry:memtest", "group")


def test_a_default_entry_is_kept_by_its_name(plane: Plane) -> None:
    plane.room(1)
    with plane.write() as session:
        entry = boot_entries.create_entry(session, name="memtest", title="Memory test", kind="memtest")
    with pytest.raises(Invalid):
        say(plane, host="pc1", default=f"entry:{entry.id}")  # `decide` knows names alone


def test_a_default_that_is_the_menu_is_told_as_a_menu_that_is_shown(plane: Plane) -> None:
    plane.room(1)
    say(plane, group="B204", default="menu")
    assert holding(plane, "pc1")["menu"] == ("always", "group")
    say(plane, host="pc1", menu="never")
    assert holding(plane, "pc1")["menu"] == ("never", "host")
