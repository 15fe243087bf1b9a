"""The reference guest is a real Debian that starts from its own disk with every firmware, without a
network.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pxeboot.lab import disks, guest
from pxeboot.lab.machine import MachineSpec, QemuMachine
from pxeboot.lab.room import Room

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
CACHE = Path(__file__).parents[2] / "var" / "cache"


def test_the_guest_boots_from_its_own_disk(tmp_path: Path) -> None:
    """By UEFI; that it boots by BIOS and under Secure Boot too is what `tests/e2e/test_story.py` sees."""
    built = guest.build(CACHE)
    assert built.used >= 600 * disks.MIB
    disk = tmp_path / "disk.raw"
    disks.clone(built.path, disk)
    with Room(tmp_path / "room") as room:
        machine = QemuMachine(room, MachineSpec("pc", firmware="uefi", disk=disk, network_first=False))
        machine.power_on()
        hello = machine.console.expect(guest.HELLO, 180)
        assert hello.groups() == (built.hostname, "uefi", "off")
        machine.console.answer("login: ", "root", 180)
        machine.console.answer(re.escape(f"root@{built.hostname}:~#"), "swapon --show; poweroff", 60)
        machine.console.expect("partition", 60)
        machine.wait_off(120)
