"""A machine with Windows and Linux goes round: captured, put on a larger disk with both grown, and started.

The capture and the deploy are done by simulated hosts (the real agent on disk files, the real daemon); the
deployed disk is then put into an emulated machine with Secure Boot and Microsoft's keys.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.lab import disks, guest
from pxeboot.lab.classroom import GUEST_LIMIT, Classroom
from pxeboot.lab.machine import MachineSpec, QemuMachine
from tests.e2e import dualboot
from tests.e2e.dualboot import ESP, MEMORY, MSR, RECOVERY, ROOT, SWAP, WINDOWS
from tests.e2e.test_light_room import STAGE_LIMIT
from tests.imaging.customise.windows import NAMES, value
from tests.imaging.disks import MIB, run
from tests.imaging.matrix.filesystems import fat_facts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(2400)]

LARGER = dualboot.SIZE + 640 * MIB
HOST = "b204-07"


@pytest.fixture
def classroom(var: Path, boot_files: Path) -> Iterator[Classroom]:
    directory = var / "dualboot"
    shutil.rmtree(directory, ignore_errors=True)
    with Classroom(directory, boot_files, say=print) as classroom:
        yield classroom
    shutil.rmtree(directory / "server" / "store", ignore_errors=True)
    for disk in directory.glob("*.raw"):
        disk.unlink()


def test_windows_and_linux_go_round_to_a_larger_disk(
    classroom: Classroom, reference: guest.Guest, tmp_path: Path
) -> None:
    source, target = (classroom.simulated_seat(name, size) for name, size in (("old", 0), ("new", LARGER)))
    dualboot.make(source.disk, tmp_path, reference.path)
    for seat, name in ((source, "old"), (target, HOST)):
        classroom.call("POST", "/hosts", {"name": name, "macs": [seat.sim().mac]})
    captured = classroom.start("capture", hosts=["old"], image="dualboot")
    source.power_on()
    assert classroom.follow(captured, STAGE_LIMIT)["state"] == "done"
    disks.make_foreign(target.disk, LARGER)
    how = {"transport": "http", "deploy": {"grow": [WINDOWS, ROOT]}}
    deployed = classroom.start("deploy", hosts=[HOST], image="dualboot@1", **how)
    target.power_on()
    done = classroom.follow(deployed, STAGE_LIMIT)
    assert done["state"] == "done", done
    assert done["tasks"][0]["verified"]
    assert target.sim().wait_off(180)[-1].kind == "local"

    the_table_is_the_source_s_with_two_larger_partitions(source.disk, target.disk)
    the_loaders_are_there(source.disk, target.disk, tmp_path)
    windows_is_whole_and_has_its_name(source.disk, target.disk, tmp_path)
    linux_is_whole_and_has_its_name(source.disk, target.disk, tmp_path)
    linux_starts_with_secure_boot(classroom, target.disk)


def the_table_is_the_source_s_with_two_larger_partitions(source: Path, target: Path) -> None:
    assert "No problems found" in run("sgdisk", "-v", target)
    old, new = dualboot.partitions(source), dualboot.partitions(target)
    assert old.keys() == new.keys()
    for number, p in new.items():
        was = old[number]
        assert (p.type_guid, p.unique_guid, p.name) == (was.type_guid, was.unique_guid, was.name)
        assert p.attributes == was.attributes
        if number not in (WINDOWS, ROOT):
            assert p.size == was.size
    assert new[RECOVERY].type_guid == "de94bba4-06d1-4d40-a16a-bfd50179d6ac"
    assert new[RECOVERY].attributes == dualboot.NO_LETTER
    for number in (ESP, MSR, WINDOWS):
        assert new[number].start == old[number].start
    gained = {number: new[number].size - old[number].size for number in (WINDOWS, ROOT)}
    assert all(size > 64 * MIB for size in gained.values()), gained
    assert 638 * MIB < sum(gained.values()) <= 640 * MIB
    for number in (RECOVERY, ROOT, SWAP):
        assert new[number].start > old[number].start


def the_loaders_are_there(source: Path, target: Path, scratch: Path) -> None:
    with dualboot.opened(source, ESP) as old, dualboot.opened(target, ESP) as new:
        facts = fat_facts(new, scratch)
        assert facts == fat_facts(old, scratch)
        run("fsck.fat", "-n", new)
    assert {"EFI/Microsoft/Boot/bootmgfw.efi", "EFI/debian/shimx64.efi"} <= facts.keys()


def windows_is_whole_and_has_its_name(source: Path, target: Path, scratch: Path) -> None:
    for number in (WINDOWS, RECOVERY):
        p = dualboot.partitions(target)[number]
        with dualboot.opened(target, number) as part:
            run("ntfsfix", "-n", part)
            said = run("ntfsresize", "--info", "--force", "--force", "--no-progress-bar", part)
            size = next(line for line in said.splitlines() if line.startswith("Current volume size"))
            assert p.size - int(size.split()[3]) < 64 << 10, "it fills its partition"
        # A BIOS would start from what it says of its own place, in the boot sector and its copy.
        ends = (p.start, p.start + p.size - 512)
        assert [dualboot.hidden_sectors(target, at) for at in ends] == [p.start // 512] * 2
    assert dualboot.ntfs(target, RECOVERY, scratch) == dualboot.ntfs(source, RECOVERY, scratch)

    before, after = (dualboot.ntfs(path, WINDOWS, scratch) for path in (source, target))
    hive = "Windows/System32/config/SYSTEM"
    assert before.pop(hive) != after.pop(hive)
    for name, size in MEMORY.items():
        assert before.pop(name)[:5] == (memory := after.pop(name))[:5], "the file is still there"
        assert memory[4] == size
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed <= {"Windows/System32/config"}, "a new time, for the hive in it was written"
    assert len(before) > 120
    copy = dualboot.read(target, WINDOWS, hive, scratch / "SYSTEM", scratch)
    assert value(copy, rf"{NAMES.format(1)}\ComputerName", "ComputerName") == HOST.upper()


def linux_is_whole_and_has_its_name(source: Path, target: Path, scratch: Path) -> None:
    p = dualboot.partitions(target)[ROOT]
    with dualboot.opened(target, ROOT) as part:
        run("e2fsck", "-f", "-n", part)
        said = dict(line.split(":", 1) for line in run("dumpe2fs", "-h", part).splitlines() if ":" in line)
        blocks, size = int(said["Block count"]), int(said["Block size"])
        assert blocks * size == p.size // size * size, "it fills its partition"
    before, after = dualboot.linux(source, scratch), dualboot.linux(target, scratch)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    allowed = {"etc/hostname", "etc/hosts", "etc/machine-id", "etc"}
    assert {"etc/hostname"} <= changed <= allowed, changed
    assert len(before) > 5000


def linux_starts_with_secure_boot(classroom: Classroom, disk: Path) -> None:
    spec = MachineSpec("larger", firmware="uefi-secureboot", disk=disk, network_first=False)
    machine = QemuMachine(classroom.room, spec)
    machine.power_on()
    shown = machine.console.expect(guest.HELLO, GUEST_LIMIT)
    assert shown.groups() == (HOST, "uefi", "on")
    machine.power_off()
