"""Entries of the boot menus: order, keys, names, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from pxeboot.errors import Conflict, Invalid, NotFound
from pxeboot.services import boot_entries, entry_passwords, groups, hosts, lookup
from pxeboot.services.views import BootEntryView
from tests.plane import Plane

MEMTEST = {"name": "memtest", "title": "Memory test", "kind": "memtest"}
RESCUE = {
    "name": "rescue",
    "title": "Rescue system",
    "kind": "linux",
    "params": {"kernel": "rescue/vmlinuz", "initrd": "rescue/initrd.img", "arguments": "quiet single"},
}


def add(plane: Plane, **values: Any) -> BootEntryView:
    with plane.write() as session:
        return boot_entries.create_entry(session, actor="ada", **values)


def change(plane: Plane, entry: str, /, **values: Any) -> BootEntryView:
    with plane.write() as session:
        return boot_entries.update_entry(session, entry, actor="ada", **values)


def names(plane: Plane, group: str | None = None) -> list[str]:
    with plane.read() as session:
        return [entry.name for entry in boot_entries.list_entries(session, group=group).items]


def test_entries_are_added_at_the_end_and_moved(plane: Plane) -> None:
    add(plane, **MEMTEST)
    add(plane, **RESCUE)
    add(plane, name="setup", title="Firmware set-up", kind="firmware-setup", position=0)
    assert names(plane) == ["setup", "memtest", "rescue"]
    with plane.read() as session:
        assert boot_entries.get_entry(session, "setup").firmware == "uefi", "as its kind wants it"
    with plane.write() as session:
        boot_entries.move_entry(session, "rescue", up=True)
        boot_entries.move_entry(session, "setup", up=True)  # is the first already
    assert names(plane) == ["setup", "rescue", "memtest"]
    assert plane.heard.changes[-1].what == "boot_entry"
    assert "Boot entry rescue was moved" in plane.heard.records[-1].sentence


def test_pages_of_entries_follow_the_menu(plane: Plane) -> None:
    for number in range(5):
        add(plane, name=f"e{number}", title="x", kind="reboot", position=100 - number // 2)
    with plane.read() as session:
        first = boot_entries.list_entries(session, limit=2)
        second = boot_entries.list_entries(session, limit=2, cursor=first.next_cursor)
        third = boot_entries.list_entries(session, limit=2, cursor=second.next_cursor)
    assert [e.name for page in (first, second, third) for e in page.items] == ["e4", "e2", "e3", "e0", "e1"]
    assert third.next_cursor is None


def test_machines_see_everybodys_entries_and_their_groups(plane: Plane) -> None:
    plane.room(1)
    with plane.write() as session:
        groups.create_group(session, name="C1")
    add(plane, **MEMTEST)
    add(plane, **RESCUE, group="B204", firmware="uefi")
    add(plane, name="off", title="Switched off", kind="poweroff", enabled=False)
    assert names(plane, "C1") == ["memtest", "off"]
    with plane.read() as session:
        room = lookup.group(session, "B204").id
        assert [row.name for row in boot_entries.seen_by(session, room)] == ["memtest", "rescue"]
        assert [row.name for row in boot_entries.seen_by(session, None)] == ["memtest"]
        entry = boot_entries.menu_entries(session, room)[1]
        assert (entry.params, entry.firmware, entry.protected) == (RESCUE["params"], "uefi", False)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "Mem Test"}, "name"),
        ({"name": "local"}, "name"),
        ({"title": ""}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"kind": "floppy"}, "kind"),
        ({"firmware": "coreboot"}, "firmware"),
        ({"kind": "linux"}, "params.kernel"),
        ({"params": {"kernel": "x"}}, "params.kernel"),
        ({"key": "l"}, "key"),
        ({"key": "é"}, "key"),
        ({"hidden": True}, "key"),
        ({"position": -1}, "position"),
        ({"password": "court"}, "password"),
        ({"password": "mot de passe"}, "password"),
        ({"kind": "shell"}, "password"),
        ({"group": "nowhere"}, None),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_field(
    plane: Plane, values: dict[str, Any], field: str | None
) -> None:
    with pytest.raises((Invalid, NotFound)) as caught:
        add(plane, **{**MEMTEST, **values})
    assert caught.value.data.get("field") == field
    assert names(plane) == []


def test_a_key_leads_to_one_entry_in_each_menu(plane: Plane) -> None:
    plane.room(1)
    with plane.write() as session:
        groups.create_group(session, name="C1")
    add(plane, **MEMTEST, key="m", group="B204", firmware="bios")
    add(plane, name="other-room", title="x", kind="reboot", key="m", group="C1")
    add(plane, name="other-firmware", title="x", kind="reboot", key="m", group="B204", firmware="uefi")
    add(plane, name="switched-off", title="x", kind="reboot", key="m", enabled=False)
    with pytest.raises(Conflict, match="The key m is memtest's already"):
        add(plane, name="everybody", title="x", kind="reboot", key="m", firmware="bios")
    with pytest.raises(Conflict):
        change(plane, "switched-off", enabled=True)
    with pytest.raises(Conflict, match="There is a boot entry memtest already"):
        add(plane, **MEMTEST)


def test_a_password_is_kept_sealed_and_can_be_taken_away(plane: Plane) -> None:
    entry = add(plane, **RESCUE, password="Geheim-1234")
    assert entry.protected
    assert "Geheim" not in entry.model_dump_json()
    with plane.read() as session:
        sealed = lookup.entry(session, "rescue").password_hash
    assert "Geheim" not in sealed
    assert entry_passwords.verifies(sealed, "Geheim-1234")
    assert entry_passwords.for_grub(sealed).startswith("grub.pbkdf2.sha512.10000.")
    assert change(plane, "rescue", title="Rescue").protected, "what is not named stays"
    assert not change(plane, "rescue", password=None).protected
    assert all("Geheim" not in record.sentence for record in plane.heard.records)


def test_a_renamed_entry_stays_the_default_and_a_used_one_is_not_removed(plane: Plane) -> None:
    plane.room(2)
    add(plane, **MEMTEST)
    with plane.write() as session:
        groups.update_group(session, "B204", boot={"default": "entry:memtest"})
        hosts.update_host(session, "pc2", boot={"default": "entry:memtest"})
    change(plane, "memtest", name="memtest86")
    with plane.read() as session:
        assert groups.get_group(session, "B204").boot == {"default": "entry:memtest86"}
        assert hosts.get_host(session, "pc2").boot == {"default": "entry:memtest86"}
    assert [change.what for change in plane.heard.changes[-3:]] == ["group", "host", "boot_entry"]
    with pytest.raises(Conflict, match="what B204, pc2 boots"), plane.write() as session:
        boot_entries.delete_entry(session, "memtest86")
    with plane.write() as session:
        groups.update_group(session, "B204", boot=None)
        hosts.update_host(session, "pc2", boot={"default": ""})
        boot_entries.delete_entry(session, "memtest86", actor="ada")
    assert plane.heard.records[-1].sentence == "Boot entry memtest86 was removed by ada."
    assert names(plane) == []


def test_a_group_takes_its_entries_with_it(plane: Plane) -> None:
    plane.room(0)
    add(plane, **MEMTEST, group="B204")
    with plane.write() as session:
        groups.delete_group(session, "B204")
    assert names(plane) == []


def test_an_empty_password_does_not_take_the_protection_away(plane: Plane) -> None:
    """A script whose variable is empty must not open what it was to close."""
    with plane.write() as session:
        boot_entries.create_entry(session, **RESCUE, password="Geheim-1234")
    with pytest.raises(Invalid) as refused, plane.write() as session:
        boot_entries.update_entry(session, "rescue", password="")
    assert refused.value.data["field"] == "password"
    with plane.read() as session:
        assert boot_entries.get_entry(session, "rescue").protected
