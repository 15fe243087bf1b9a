"""Where a FAT or NTFS volume says that it lies: on real volumes, by the bytes that BIOS boot code reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from imaging.manifest import Partition
from imaging.resize import moved
from tests.imaging.disks import MIB, run

OLD, NEW = 2048, 3 * 2048
VOLUMES = {
    "ntfs": ("ntfs", 24, ("mkntfs", "-q", "-Q", "-F", "-s", "512", "-p", str(OLD), "-H", "16", "-S", "63")),
    "fat32": ("fat", 48, ("mkfs.vfat", "-F", "32", "-s", "1", "-h", str(OLD))),
    "fat16": ("fat", 24, ("mkfs.vfat", "-F", "16", "-h", str(OLD))),
}


class Disk:
    """A disk of one volume at its new place; ``hidden`` reads the number from a boot sector of it."""

    def __init__(self, path: Path, kind: str) -> None:
        filesystem, size, command = VOLUMES[kind]
        path.write_bytes(bytes(size * MIB))
        run(*command, path)
        self.data = bytearray(NEW * 512) + path.read_bytes()
        self.before = Partition(
            1, "", "", "", 0, OLD * 512, size * MIB, filesystem, "", "", size * MIB, "used", 7
        )
        self.now = dataclasses.replace(self.before, start=NEW * 512)

    def read(self, at: int, length: int) -> bytes:
        return bytes(self.data[at : at + length])

    def hidden(self, sector: int = 0) -> int:
        at = self.now.start + sector * 512 + 0x1C
        return int.from_bytes(self.data[at : at + 4], "little")

    def move(self) -> int:
        """Write what is to be written; how many pieces that was."""
        pieces = moved.boot_sectors(self.read, self.before, self.now, 512)
        for at, data in pieces:
            self.data[at : at + len(data)] = data
        return len(pieces)


@pytest.mark.parametrize(("kind", "copy"), [("ntfs", 24 * 2048 - 1), ("fat32", 6)])
def test_boot_sector_and_its_copy_name_the_new_place(kind: str, copy: int, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "volume", kind)
    assert (disk.hidden(), disk.hidden(copy)) == (OLD, OLD)
    old = bytes(disk.data)
    assert disk.move() == 2
    assert (disk.hidden(), disk.hidden(copy)) == (NEW, NEW)
    for at in (disk.now.start, disk.now.start + copy * 512):
        disk.data[at + 0x1C : at + 0x20] = OLD.to_bytes(4, "little")
    assert disk.data == old, "and nothing else was changed"
    disk.move()
    assert disk.move() == 2, "and so it does the second time"


def test_a_grown_ntfs_has_its_copy_at_its_new_end(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "volume", "ntfs")
    disk.data += bytes(8 * MIB)
    disk.now = dataclasses.replace(disk.now, size=disk.now.size + 8 * MIB)
    disk.move()
    end = disk.now.start + disk.now.size
    assert disk.read(end - 512, 512) == disk.read(disk.now.start, 512)


def test_fat16_has_no_copy(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "volume", "fat16")
    assert disk.move() == 1
    assert disk.hidden() == NEW


def test_what_is_no_copy_of_the_boot_sector_is_left_alone(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "volume", "fat32")
    at = disk.now.start + 6 * 512
    disk.data[at : at + 512] = b"\xaa" * 512
    assert disk.move() == 1
    assert disk.read(at, 512) == b"\xaa" * 512


def test_a_number_that_means_nothing_is_left_alone(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "volume", "ntfs")
    disk.now = dataclasses.replace(disk.now, logical=True)
    disk.before = dataclasses.replace(disk.before, logical=True, start=9 * MIB)
    assert disk.move() == 0, "counted from its extended boot record, as DOS did"
    disk.before = dataclasses.replace(disk.before, start=OLD * 512)
    assert disk.move() == 2, "counted from the disk's start"
    disk.data[disk.now.start + 0x1C : disk.now.start + 0x20] = bytes(4)
    assert disk.move() == 0, "never set: nothing depends on it"
