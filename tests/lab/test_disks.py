"""Disk files are what they claim, by tools that did not make them."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from pxeboot.lab import disks
from pxeboot.lab.disks import MIB, Partition
from pxeboot.lab.errors import LabError

BOOT = bytes(510) + b"\x55\xaa"


def core(sectors: int) -> bytes:
    """A core.img as grub-mkimage writes it: diskboot.img, whose block list lacks the start, then the rest."""
    first = bytearray(512)
    struct.pack_into("<QHH", first, 0x1F4, 2, sectors, 0x820)
    return bytes(first) + bytes(range(256)) * 2 * sectors


def test_grubs_boot_code_is_told_where_it_lies_and_leaves_the_table_alone(tmp_path: Path) -> None:
    disk, part = tmp_path / "d.raw", Partition(disks.BIOS_BOOT, 1, 1)
    disks.create(disk, 4 * MIB)
    disks.write_table(disk, "gpt", [part])
    before = disk.read_bytes()
    disks.embed_grub_bios(disk, b"\xeb" + BOOT[1:], core(3), part)
    after = disk.read_bytes()
    assert after[0] == 0xEB
    assert struct.unpack_from("<Q", after, 0x5C) == (2048,)
    assert after[0x66:0x68] == b"\x90\x90"
    assert after[0x1B8 : 34 * 512] == before[0x1B8 : 34 * 512]  # protective MBR and GPT
    assert struct.unpack_from("<QHH", after, MIB + 0x1F4) == (2049, 3, 0x820)


def test_boot_code_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    disk, part = tmp_path / "d.raw", Partition(disks.BIOS_BOOT, 1, 1)
    disks.create(disk, 4 * MIB)
    with pytest.raises(LabError, match="does not fit"):
        disks.embed_grub_bios(disk, BOOT, core(3000), part)
    with pytest.raises(LabError, match="not a boot sector"):
        disks.embed_grub_bios(disk, bytes(512), core(3), part)
    with pytest.raises(LabError, match="diskboot"):
        disks.embed_grub_bios(disk, BOOT, bytes(2048), part)


def test_a_foreign_disk_has_somebody_elses_partitions(tmp_path: Path) -> None:
    disk = tmp_path / "d.raw"
    disks.make_target(disk, 256 * MIB, foreign=True)
    table = subprocess.run(["sfdisk", "-J", disk], capture_output=True, text=True, check=True).stdout
    assert '"label": "dos"' in table
    assert "0x0ddba115" in table
    with disk.open("rb") as file:
        file.seek(MIB + 82)
        assert file.read(5) == b"FAT32"
        file.seek(65 * MIB + 1024 + 56)
        assert file.read(2) == b"\x53\xef"  # ext4's magic (Documentation/filesystems/ext4)
    assert disk.stat().st_size == 256 * MIB
    assert disks.used_bytes(disk) < 100 * MIB


def test_an_empty_disk_is_all_holes_and_a_clone_may_be_larger(tmp_path: Path) -> None:
    disk, copy = tmp_path / "d.raw", tmp_path / "c.raw"
    disks.make_target(disk, 64 * MIB)
    assert disks.used_bytes(disk) == 0
    with disk.open("r+b") as file:
        file.seek(MIB)
        file.write(b"data")
    disks.clone(disk, copy, size=128 * MIB)
    assert copy.stat().st_size == 128 * MIB
    assert copy.read_bytes()[MIB : MIB + 4] == b"data"
    with pytest.raises(LabError, match="smaller"):
        disks.clone(copy, disk, size=MIB)
