"""One door for all tables: what is refused and why, the boot code's gap, and writing that can be proved."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.disk import gpt, mbr
from imaging.disk.device import Disk
from imaging.disk.table import (
    boot_gap,
    read_table,
    room_before,
    table_bytes,
    table_right,
    usable,
    without_chain,
    write_table,
)
from imaging.errors import UnsupportedDisk
from imaging.runs import MERGE_GAP
from imaging.tables import GptTable, MbrTable, Partition
from tests.imaging.disk.boot_records import MIB, SECTORS, a_disk, a_record, a_sector, chained, reader

SIZE = 16 * MIB
GUID = "54e9e10b-fea0-49ac-a1ef-ab679ecb431a"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
PROTECTIVE = a_sector(a_record(0xEE, 1, SIZE // 512 - 1))


def disk_file(path: Path, sectors: dict[int, bytes], size: int = SIZE) -> Path:
    path.write_bytes(a_disk(size, sectors))
    return path


def a_gpt(path: Path, first: bytes = PROTECTIVE, sector_size: int = 512, **changes: str) -> Path:
    part = Partition(1, LINUX, GUID, "data", 0, MIB, 4 * MIB, "unknown", "", "", 0, "whole")
    table = GptTable(GUID, first, 128, 34 if sector_size == 512 else 6)
    data = bytearray(SIZE)
    for offset, piece in gpt.render(table, [dataclasses.replace(part, **changes)], SIZE, sector_size):
        data[offset : offset + len(piece)] = piece
    data[:512] = first
    path.write_bytes(data)
    return path


def refusal(path: Path, sector_size: int = 0) -> str:
    with Disk(path, sector_size=sector_size) as disk, pytest.raises(UnsupportedDisk) as caught:
        read_table(disk)
    return str(caught.value)


def test_each_kind_is_read(tmp_path: Path) -> None:
    with Disk(a_gpt(tmp_path / "gpt")) as disk:
        table, partitions = read_table(disk)
        assert isinstance(table, GptTable)
        assert [p.number for p in partitions] == [1]
    with Disk(disk_file(tmp_path / "mbr", chained())) as disk:
        table, partitions = read_table(disk)
        assert isinstance(table, MbrTable)
        assert [p.number for p in partitions] == [1, 5, 6]
    with Disk(disk_file(tmp_path / "none", {})) as disk:
        assert read_table(disk) == (None, ())


def test_a_gpt_that_no_mbr_announces_is_refused(tmp_path: Path) -> None:
    assert "without its protective MBR" in refusal(a_gpt(tmp_path / "a", bytes(512)))
    plain = a_sector(a_record(0x83, SECTORS, SECTORS))
    assert "two partition tables" in refusal(a_gpt(tmp_path / "b", plain))


def test_what_is_left_of_an_old_gpt_is_not_a_second_table(tmp_path: Path) -> None:
    path = a_gpt(tmp_path / "a", a_sector(a_record(0x83, SECTORS, SECTORS)))
    with open(path, "r+b") as file:
        file.seek(512 + 56)  # the header's checksum is wrong now
        file.write(b"\xff")
    with Disk(path) as disk:
        assert [p.number for p in read_table(disk)[1]] == [1]


@pytest.mark.parametrize(
    "kind", ["5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "af9b60a0-1431-4f62-bc68-3311714a69ad"]
)
def test_dynamic_disks_are_refused(tmp_path: Path, kind: str) -> None:
    assert "dynamic disk" in refusal(a_gpt(tmp_path / "a", type_guid=kind))


@pytest.mark.parametrize(("made_for", "has"), [(512, 4096), (4096, 512)])
def test_a_table_for_other_sectors_is_refused_by_name(tmp_path: Path, made_for: int, has: int) -> None:
    sentence = refusal(a_gpt(tmp_path / "a", sector_size=made_for), sector_size=has)
    assert f"has {has}-byte sectors, but its partition table was made for {made_for}" in sentence


# --- the gap ---


def gap_of(path: Path) -> list[tuple[int, int]]:
    with Disk(path) as disk:
        return boot_gap(disk, *read_table(disk))


def test_boot_code_before_the_first_partition_ends_with_its_last_sector(tmp_path: Path) -> None:
    path = disk_file(tmp_path / "a", chained() | {1: b"core" * 128, 60: b"end"})
    assert gap_of(path) == [(512, 60 * 512)]


def test_without_boot_code_one_sector_stays_against_an_older_gpt(tmp_path: Path) -> None:
    assert gap_of(disk_file(tmp_path / "a", chained())) == [(512, 512)]
    full = {0: a_sector(a_record(0x83, 1, SECTORS))}
    assert gap_of(disk_file(tmp_path / "b", full)) == []


def test_an_extended_partition_ends_the_gap(tmp_path: Path) -> None:
    sectors = {0: a_sector(a_record(0x0F, 64, 8 * SECTORS)), 40: b"code", 64: a_sector(), 80: b"not ours"}
    assert gap_of(disk_file(tmp_path / "a", sectors)) == [(512, 40 * 512)]


def test_a_gpt_has_no_gap(tmp_path: Path) -> None:
    assert gap_of(a_gpt(tmp_path / "a")) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=6),
    st.sets(st.integers(1, 400), max_size=6),
)
def test_boot_records_are_cut_out_of_runs(pieces: list[tuple[int, int]], records: set[int]) -> None:
    runs, at = [], 0
    for gap, length in pieces:
        runs.append((512 * (at + gap), 512 * length))
        at += gap + length + 1
    layout = mbr.read(reader(a_disk(SIZE, chained())), SIZE, 512)
    ebr = layout.table.chain[0]
    table = dataclasses.replace(
        layout.table, chain=tuple(dataclasses.replace(ebr, start=512 * lba) for lba in records)
    )
    cut = without_chain(runs, table, 512)

    def sectors(of: list[tuple[int, int]]) -> list[int]:
        return [lba for start, length in of for lba in range(start // 512, (start + length) // 512)]

    assert sectors(cut) == [lba for lba in sectors(runs) if lba not in records]
    assert without_chain(runs, None, 512) == runs


# --- writing and proving ---


def test_what_is_written_is_right_and_a_changed_byte_is_not(tmp_path: Path) -> None:
    layout = mbr.read(reader(a_disk(SIZE, chained())), SIZE, 512)
    target = disk_file(tmp_path / "target", {})
    with Disk(target, write=True) as disk:
        assert not table_right(disk, layout.table, layout.partitions)
        write_table(disk, layout.table, layout.partitions)
        assert table_right(disk, layout.table, layout.partitions)
    with Disk(target) as disk:
        assert read_table(disk) == (layout.table, layout.partitions)
    with open(target, "r+b") as file:
        file.seek(5 * MIB + 500)
        file.write(b"x")
    with Disk(target) as disk:
        assert not table_right(disk, layout.table, layout.partitions)


def test_nothing_is_written_without_a_table(tmp_path: Path) -> None:
    with Disk(disk_file(tmp_path / "a", {}), write=True) as disk:
        write_table(disk, None, ())
        assert table_right(disk, None, ())
    assert table_bytes(None, (), SIZE, 512) == ()


def test_an_old_gpt_does_not_survive_an_mbr(tmp_path: Path) -> None:
    """Its header in LBA 1 is overwritten with the gap, its backup with the table."""
    target = a_gpt(tmp_path / "target")
    layout = mbr.read(reader(a_disk(SIZE, chained())), SIZE, 512)
    with Disk(target, write=True) as disk:
        write_table(disk, layout.table, layout.partitions)
    assert target.read_bytes()[-512:] == bytes(512)


def test_usable_room_of_each_kind() -> None:
    layout = mbr.read(reader(a_disk(SIZE, chained())), SIZE, 512)
    assert usable(layout.table, SIZE, 512) == (512, SIZE)
    assert usable(layout.table, 4 << 40, 512) == (512, 2 << 40)
    assert usable(GptTable(GUID, PROTECTIVE, 128, 34), SIZE, 512) == (34 * 512, SIZE - 33 * 512)
    assert usable(None, SIZE, 512) == (0, SIZE)
    assert [room_before(layout.table, p, 512) for p in layout.partitions] == [0, MIB, MIB]
    assert room_before(None, layout.partitions[0], 512) == 0


def test_near_runs_are_further_apart_than_a_boot_record_allows() -> None:
    """Why runs are cut: with 63-sector tracks an EBR lies in a gap that would be closed."""
    assert MERGE_GAP > 63 * 512


# --- hybrid MBRs ---

HYBRID = a_sector(a_record(0xEE, 1, SECTORS - 1), a_record(0x83, SECTORS, 4 * SECTORS, active=True))


def test_a_hybrid_mbr_stays_as_it_is_and_follows_its_partition(tmp_path: Path) -> None:
    with Disk(a_gpt(tmp_path / "a", HYBRID)) as disk:
        table, partitions = read_table(disk)
    assert isinstance(table, GptTable)
    _, (_, head) = table_bytes(table, partitions, 40 * MIB, 512)
    assert head[:512] == HYBRID
    grown = (dataclasses.replace(partitions[0], start=2 * MIB, size=9 * MIB),)
    _, (_, head) = table_bytes(table, grown, 40 * MIB, 512, source=partitions)
    protective, mirror = mbr.Record.of(head[:512])[:2]
    assert protective == mbr.Record.of(HYBRID)[0]
    assert (mirror.status, mirror.kind, mirror.start, mirror.size) == (0x80, 0x83, 2 * SECTORS, 9 * SECTORS)


def test_a_hybrid_mbr_that_cannot_follow_is_refused(tmp_path: Path) -> None:
    with Disk(a_gpt(tmp_path / "a", HYBRID)) as disk:
        table, partitions = read_table(disk)
    far = (dataclasses.replace(partitions[0], start=3 << 40),)
    with pytest.raises(UnsupportedDisk, match="hybrid MBR"):
        table_bytes(table, far, 4 << 40, 512, source=partitions)


@pytest.mark.skipif(shutil.which("sgdisk") is None, reason="sgdisk is not installed")
def test_sgdisks_hybrid_mbr_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    for words in (["-n", "1:2048:+4M", "-n", "2:0:+2M"], ["-h", "1:2"]):
        subprocess.run(["sgdisk", *words, str(path)], check=True, capture_output=True)
    before = path.read_bytes()
    with Disk(path) as disk:
        table, partitions = read_table(disk)
    for offset, data in table_bytes(table, partitions, SIZE, 512):
        assert before[offset : offset + len(data)] == data
