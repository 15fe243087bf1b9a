"""The preview shows what the loaders are given."""

from __future__ import annotations

from typing import Any

from pxeboot.services import boot_entries, groups
from pxeboot.services.menu_preview import MenuPreview, menu_preview
from tests.plane import Plane


def preview(plane: Plane, group: str | None, firmware: str) -> MenuPreview:
    with plane.read() as session:
        return menu_preview(session, group, firmware, plane.settings)  # type: ignore[arg-type]


def furnish(plane: Plane) -> None:
    plane.room(1)
    with plane.write() as session:
        entries: list[dict[str, Any]] = [
            {"name": "rescue", "kind": "linux", "params": {"kernel": "r/vmlinuz"}, "key": "s"},
            {"name": "setup", "title": "Firmware set-up", "kind": "firmware-setup", "group": "B204"},
            {"name": "memtest", "title": "Memory test", "kind": "memtest", "hidden": True, "key": "m"},
            {"name": "off", "title": "Switched off", "kind": "reboot", "enabled": False},
        ]
        entries[0] |= {"title": "Système de secours", "password": "Geheim-1234"}
        for entry in entries:
            boot_entries.create_entry(session, **entry)


def lines(shown: MenuPreview) -> list[str]:
    return [" ".join(line.split()) for line in shown.text.splitlines()]


def test_a_groups_menu_by_firmware(plane: Plane) -> None:
    furnish(plane)
    assert lines(preview(plane, "B204", "uefi")) == [
        "pxeboot: what shall this computer start?",
        "",
        "> Start from its own disk [l]",
        "Start Windows [w]",
        "Start Linux [x]",
        "Systeme de secours [s] password",
        "Firmware set-up",
        "",
        "after 20 seconds: Start from its own disk",
        "not listed: Memory test [m]",
    ]
    assert "Firmware set-up" not in preview(plane, "B204", "bios").text
    assert "Firmware set-up" not in preview(plane, None, "uefi").text
    assert max(map(len, preview(plane, "B204", "uefi").text.splitlines())) < 80


def test_the_groups_rules_choose_default_and_time(plane: Plane) -> None:
    furnish(plane)
    assert not preview(plane, "B204", "uefi").shown
    with plane.write() as session:
        groups.update_group(
            session, "B204", boot={"default": "entry:rescue", "menu": "always", "menu_seconds": 0}
        )
    shown = preview(plane, "B204", "uefi")
    assert shown.shown
    assert "> Systeme de secours [s] password" in lines(shown)
    assert "waits until somebody chooses" in lines(shown)
    with plane.write() as session:
        groups.update_group(session, "B204", boot={"default": "windows", "menu": None, "menu_seconds": 5})
    shown = preview(plane, "B204", "bios")
    assert not shown.shown
    assert "windows" in shown.reason
    assert "after 5 seconds: Start Windows" in lines(shown)
