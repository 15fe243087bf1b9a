"""GPT: what sgdisk writes we read, what we write sgdisk accepts, and damage is named."""

import contextlib
import dataclasses
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.disk import gpt, mbr
from imaging.errors import UnsupportedDisk
from imaging.manifest import GptTable, Partition

MIB = 1 << 20
GUID = "54e9e10b-fea0-49ac-a1ef-ab679ecb431a"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
PROTECTIVE = bytes(446) + bytes.fromhex("00000200eeffffff01000000ff7f0000") + bytes(48) + b"\x55\xaa"


class Memory:
    """A disk in memory."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)

    def read_at(self, offset: int, length: int) -> bytes:
        piece = bytes(self.data[offset : offset + length])
        assert len(piece) == length, "read outside the disk"
        return piece

    def write(self, *pieces: tuple[int, bytes]) -> None:
        for offset, data in pieces:
            self.data[offset : offset + len(data)] = data


def a_partition(number: int, start: int, size: int, name: str = "data") -> Partition:
    return Partition(number, LINUX, GUID, name, 4, start, size, "unknown", "", "", 0, "whole")


def written(sector_size: int = 512, size: int = 16 * MIB) -> tuple[Memory, GptTable, tuple[Partition, ...]]:
    disk = Memory(size)
    table = GptTable(GUID, PROTECTIVE, 128, 34 if sector_size == 512 else 6)
    partitions = (a_partition(1, MIB, 2 * MIB, "first é"), a_partition(5, 4 * MIB, MIB))
    disk.write(*gpt.render(table, partitions, size, sector_size))
    return disk, table, partitions


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_what_is_written_is_read_back(sector_size: int) -> None:
    disk, table, partitions = written(sector_size)
    read_table, read_partitions = gpt.read(disk.read_at, len(disk.data), sector_size)
    assert read_partitions == partitions
    assert dataclasses.replace(read_table, mbr=b"") == dataclasses.replace(table, mbr=b"")


@pytest.mark.parametrize("at", [512 + 16, 512 + 80, 1024 + 40])
def test_a_damaged_primary_is_read_from_the_backup(at: int) -> None:
    disk, _, partitions = written()
    disk.data[at] ^= 1
    assert gpt.read(disk.read_at, len(disk.data), 512)[1] == partitions


def test_both_copies_damaged_is_an_error_that_says_what_to_do() -> None:
    disk, _, _ = written()
    disk.data[512 + 80] ^= 1
    disk.data[-512 + 80] ^= 1
    with pytest.raises(UnsupportedDisk, match="gdisk"):
        gpt.read(disk.read_at, len(disk.data), 512)


def test_kinds_of_first_sector() -> None:
    assert mbr.kind(PROTECTIVE) == "gpt"
    assert mbr.kind(bytes(512)) == "none"
    dos = bytes(446) + bytes.fromhex("80202100070000000008000000f00000") + bytes(48) + b"\x55\xaa"
    assert mbr.kind(dos) == "mbr"
    boot_code = b"\xeb\x3c\x90mkfs.fat" + bytes(435) + b"\x0d\x0a\x00" * 21 + b"\0" + b"\x55\xaa"
    assert mbr.kind(boot_code) == "none"


def test_the_protective_record_follows_the_size_of_the_disk() -> None:
    disk, _, _ = written(size=32 * MIB)
    assert int.from_bytes(disk.data[458:462], "little") == 32 * MIB // 512 - 1
    always = PROTECTIVE[:458] + b"\xff\xff\xff\xff" + PROTECTIVE[462:]
    (_, primary), _ = gpt.render(GptTable(GUID, always, 128, 34), (), 32 * MIB, 512)
    assert primary[:512] == always


@given(st.data())
def test_damaged_tables_raise_only_our_errors(data: st.DataObject) -> None:
    disk, _, _ = written(size=2 * MIB + 5 * MIB)
    places = st.one_of(st.integers(446, 1024 + 256), st.integers(len(disk.data) - 512, len(disk.data) - 400))
    for _ in range(data.draw(st.integers(1, 4))):
        disk.data[data.draw(places)] = data.draw(st.integers(0, 255))
    mbr.kind(bytes(disk.data[:512]))
    with contextlib.suppress(UnsupportedDisk):
        gpt.read(disk.read_at, len(disk.data), 512)


@given(st.binary(min_size=92, max_size=512), st.booleans())
def test_headers_of_noise_raise_only_our_errors(noise: bytes, checksum_right: bool) -> None:
    sector = bytearray((b"EFI PART\0\0\1\0\x5c\0\0\0" + noise).ljust(512, b"\0")[:512])
    if checksum_right:
        sector[16:20] = bytes(4)
        sector[16:20] = zlib.crc32(sector[:92]).to_bytes(4, "little")
    try:
        header = gpt.parse_header(bytes(sector), 1, 100_000)
    except UnsupportedDisk:
        return
    assert 4 <= header.entries <= 1024


@given(st.binary(max_size=1024))
def test_entries_of_noise_raise_only_our_errors(noise: bytes) -> None:
    with contextlib.suppress(UnsupportedDisk):
        for partition in gpt.parse_entries(noise, 512):
            assert partition.size > 0
            partition.name.encode()


needs_sgdisk = pytest.mark.skipif(shutil.which("sgdisk") is None, reason="sgdisk is not installed")


@needs_sgdisk
def test_sgdisk_reads_what_we_write_and_we_read_what_sgdisk_writes(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(32 * MIB))
    make = [
        "sgdisk",
        "--new=1:2048:+4M",
        "--typecode=1:ef00",
        "--change-name=1:ESP",
        "--new=3:0:+8M",
        str(path),
    ]
    subprocess.run(make, check=True, capture_output=True)
    made = Memory(0)
    made.data = bytearray(path.read_bytes())
    table, partitions = gpt.read(made.read_at, len(made.data), 512)
    assert [(p.number, p.name, p.start, p.size) for p in partitions] == [
        (1, "ESP", MIB, 4 * MIB),
        (3, "", 5 * MIB, 8 * MIB),
    ]
    # On the same size the result is the same, byte for byte; on a larger disk sgdisk finds no fault.
    for offset, data in gpt.render(table, partitions, len(made.data), 512):
        assert made.read_at(offset, len(data)) == data
    larger = Memory(48 * MIB)
    larger.write(*gpt.render(table, partitions, 48 * MIB, 512))
    path.write_bytes(larger.data)
    report = subprocess.run(["sgdisk", "-v", str(path)], check=True, capture_output=True, text=True).stdout
    assert "No problems found" in report
