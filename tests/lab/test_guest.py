"""The reference guest is a real Debian that starts from its own disk with every firmware, without a
network.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pxeboot.lab import disks, guest
from pxeboot.lab.machine import Firmware, MachineSpec, QemuMachine
from pxeboot.lab.room import Room

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
CACHE = Path(__file__).parents[2] / "var" / "cache"


@pytest.mark.parametrize(
    ("firmware", "said"),
    [("bios", ("bios", "none")), ("uefi", ("uefi", "off")), ("uefi-secureboot", ("uefi", "on"))],
)
def test_the_guest_boots_from_its_own_disk(tmp_path: Path, firmware: Firmware, said: tuple[str, str]) -> None:
    built = guest.build(CACHE)
    assert built.used >= 600 * disks.MIB
    disk = tmp_path / "disk.raw"
    disks.clone(built.path, disk)
    with Room(tmp_path / "room") as room:
        machine = QemuMachine(room, MachineSpec("pc", firmware=firmware, disk=disk, network_first=False))
        machine.power_on()
        hello = machine.console.expect(guest.HELLO, 180)
        assert hello.groups() == (built.hostname, *said)
        machine.console.answer("login: ", "root", 180)
        machine.console.answer(re.escape(f"root@{built.hostname}:~#"), "swapon --show; poweroff", 60)
        machine.console.expect("partition", 60)
        machine.wait_off(120)
