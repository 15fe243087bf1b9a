"""Writing MBRs: byte for byte where nothing moved, right by sfdisk's judgement where something did."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.disk import mbr, mbr_render
from imaging.disk.mbr_render import render
from imaging.errors import UnsupportedDisk
from imaging.tables import MbrTable, Partition
from tests.imaging.disk.boot_records import (
    MIB,
    SECTORS,
    a_disk,
    a_record,
    a_sector,
    chained,
    reader,
    told,
)

SIZE = 16 * MIB


def layout_of(sectors: dict[int, bytes], sector_size: int = 512) -> mbr.Layout:
    return mbr.read(reader(a_disk(SIZE, sectors, sector_size)), SIZE, sector_size)


def put_down(
    table: MbrTable, partitions: tuple[Partition, ...], size: int, sector_size: int = 512, fill: int = 0xE5
) -> bytearray:
    """What a disk full of ``fill`` has after the table was written."""
    disk = bytearray([fill]) * size
    for offset, data in render(table, partitions, size, sector_size):
        disk[offset : offset + len(data)] = data
    return disk


def moved(partitions: tuple[Partition, ...], number: int, **changes: int) -> tuple[Partition, ...]:
    return tuple(dataclasses.replace(p, **changes) if p.number == number else p for p in partitions)


@pytest.mark.parametrize("sector_size", [512, 4096])
@pytest.mark.parametrize("size", [SIZE, 40 * MIB, 15 * MIB])
def test_where_nothing_moved_the_sectors_go_back_byte_for_byte(size: int, sector_size: int) -> None:
    sectors = chained(sector_size)
    layout = layout_of(sectors, sector_size)
    disk = put_down(layout.table, layout.partitions, size, sector_size)
    for lba, sector in sectors.items():
        at = lba * sector_size
        assert disk[at : at + sector_size] == sector.ljust(sector_size, b"\0")
    # A GPT of earlier times would have its backup in the last sector.
    assert disk[-sector_size:] == bytes(sector_size)
    assert sum(byte == 0xE5 for byte in disk) == size - 4 * sector_size


def test_the_master_record_comes_last() -> None:
    layout = layout_of(chained())
    places = [offset for offset, _ in render(layout.table, layout.partitions, SIZE, 512)]
    assert places == [SIZE - 512, 9 * MIB, 5 * MIB, 0]


def test_a_last_partition_keeps_its_last_sector() -> None:
    layout = layout_of({0: a_sector(a_record(0x07, SECTORS, 15 * SECTORS))})
    assert [offset for offset, _ in render(layout.table, layout.partitions, SIZE, 512)] == [0]


def test_a_smaller_disk_cuts_the_extended_partition_and_moves_nothing() -> None:
    layout = layout_of(chained())
    disk = put_down(layout.table, layout.partitions, 14 * MIB)
    again = mbr.read(reader(disk), 14 * MIB, 512)
    assert told(again.partitions) == told(layout.partitions)
    assert again.extended is not None
    assert again.extended.end == 14 * SECTORS
    assert disk[:446] == chained()[0][:446]


def test_a_grown_logical_partition_grows_the_extended_one() -> None:
    layout = layout_of(chained())
    placed = moved(layout.partitions, 6, size=20 * MIB)
    disk = put_down(layout.table, placed, 40 * MIB)
    again = mbr.read(reader(disk), 40 * MIB, 512)
    assert told(again.partitions) == told(placed)
    assert again.extended is not None
    assert (again.extended.start, again.extended.end) == (5 * SECTORS, 30 * SECTORS)
    assert [ebr.start // MIB for ebr in again.table.chain] == [5, 9]


def test_partitions_that_moved_take_their_boot_records_along() -> None:
    layout = layout_of(chained())
    placed = moved(layout.partitions, 1, size=12 * MIB)
    placed = moved(moved(placed, 5, start=14 * MIB), 6, start=18 * MIB)
    disk = put_down(layout.table, placed, 40 * MIB)
    again = mbr.read(reader(disk), 40 * MIB, 512)
    assert told(again.partitions) == told(placed)
    assert [ebr.start // MIB for ebr in again.table.chain] == [13, 17]
    assert again.extended is not None
    assert again.extended.start == 13 * SECTORS


def test_an_extended_partition_in_which_nothing_is_stays_empty() -> None:
    layout = layout_of({0: chained()[0]})
    again = mbr.read(reader(put_down(layout.table, layout.partitions, SIZE)), SIZE, 512)
    assert again == layout
    smaller = mbr.read(reader(put_down(layout.table, layout.partitions, 8 * MIB)), 8 * MIB, 512)
    assert told(smaller.partitions) == told(layout.partitions)
    assert smaller.extended is not None
    assert smaller.extended.end == 8 * SECTORS
    # Below the extended partition's start nothing is left of it.
    tiny = mbr.read(reader(put_down(layout.table, layout.partitions, 5 * MIB)), 5 * MIB, 512)
    assert tiny.extended is None


def test_a_primary_between_logical_partitions_is_refused() -> None:
    layout = layout_of(chained())
    apart = moved(moved(layout.partitions, 1, start=20 * MIB, size=MIB), 6, start=30 * MIB)
    touching = moved(layout.partitions, 6, start=9 * MIB)
    for placed in (apart, touching):
        with pytest.raises(UnsupportedDisk, match="logical ones must lie together"):
            render(layout.table, placed, 40 * MIB, 512)


def test_an_mbr_ends_at_two_tebibytes() -> None:
    layout = layout_of(chained())
    size = 3 << 40
    with pytest.raises(UnsupportedDisk, match="Partition 6 would end behind 2199023255552 bytes"):
        render(layout.table, moved(layout.partitions, 6, size=size - 20 * MIB), size, 512)
    assert render(layout.table, moved(layout.partitions, 6, size=(2 << 40) - 20 * MIB), size, 512)


def test_room_is_kept_for_boot_records() -> None:
    layout = layout_of(chained())
    assert [mbr_render.room_before(layout.table, p, 512) for p in layout.partitions] == [0, MIB, MIB]
    tight = chained()
    tight[5 * SECTORS] = a_sector(a_record(0x83, 63, 2 * SECTORS), a_record(0x05, 4 * SECTORS, 5 * SECTORS))
    layout = layout_of(tight)
    assert mbr_render.room_before(layout.table, layout.partitions[1], 512) == 63 * 512


def test_known_geometry_is_kept_for_what_moves() -> None:
    """Old BIOSes and Windows XP boot by CHS: 240 heads stay 240 heads."""
    track = 63 * 240
    kept = mbr.RECORD.pack(0x80, b"\x01\x01\x00", 7, b"\xef\x3f\x01", 63, 2 * track - 63)
    layout = layout_of({0: a_sector(kept)})
    disk = put_down(layout.table, moved(layout.partitions, 1, size=(3 * track - 63) * 512), 64 * MIB)
    assert mbr.Record.of(bytes(disk[:512]))[0] == (
        0x80,
        b"\x01\x01\x00",
        7,
        b"\xef\x3f\x02",
        63,
        3 * track - 63,
    )


def test_another_signature_changes_four_bytes() -> None:
    table = layout_of(chained()).table
    other = mbr_render.with_signature(table, 0xDEADBEEF)
    assert other.signature == 0xDEADBEEF
    assert (other.mbr[:440], other.mbr[444:]) == (table.mbr[:440], table.mbr[444:])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=8, max_size=8),
    st.integers(0, 2),
)
def test_any_placement_that_keeps_order_and_room_can_be_described(
    before: list[tuple[int, int]], after: list[tuple[int, int]], primaries: int
) -> None:
    """Lay (gap, size) in units of 8 sectors out one after the other; the first ``primaries`` are primary."""
    unit = 8
    size = 128 * unit * 512
    sectors: dict[int, bytes] = {}
    records, spots, at = [], [], 0
    for number, (gap, length) in enumerate(before):
        at += gap
        if number < primaries:
            records.append(a_record(0x83, at * unit, length * unit))
        else:
            spots.append((at, length))
        at += length
    if spots:
        first = spots[0][0] - 1
        floor = max(1, *(r.start + r.size for r in mbr.Record.of(a_sector(*records))))
        start = max(first * unit, floor)
        if start >= spots[0][0] * unit:
            return  # no room for the first EBR
        records.append(a_record(0x0F, start, at * unit - start))
        ebrs = [start] + [b * unit - 1 for b, _ in spots[1:]]
        for i, (begin, length) in enumerate(spots):
            link = bytes(16)
            if i + 1 < len(spots):
                link = a_record(0x05, ebrs[i + 1] - start, spots[i + 1][1] * unit + 1)
            own = a_record(0x83, begin * unit - ebrs[i], length * unit)
            sectors[ebrs[i]] = a_sector(own, link)
    sectors[0] = a_sector(*records)
    layout = mbr.read(reader(a_disk(size, sectors)), size, 512)
    placed, at = [], 0
    for p, (gap, length) in zip(layout.partitions, after, strict=False):
        placed.append(dataclasses.replace(p, start=(at + gap) * unit * 512, size=length * unit * 512))
        at += gap + length
    again = mbr.read(reader(put_down(layout.table, tuple(placed), size)), size, 512)
    assert list(again.partitions) == placed


# --- beside programs we did not write ---

needs_sfdisk = pytest.mark.skipif(shutil.which("sfdisk") is None, reason="sfdisk is not installed")
SCRIPT = """label: dos
label-id: 0x5eedc0de
start=2048, size=8192, type=7, bootable
size=8192, type=83
size=8192, type=c
type=5
size=6144, type=83
size=2048, type=82
size=10240, type=7
"""


def sfdisk(*arguments: str, input: str = "") -> str:
    return subprocess.run(
        ["sfdisk", *arguments], input=input, check=True, capture_output=True, text=True
    ).stdout


def dump(path: Path) -> list[dict[str, Any]]:
    table = json.loads(sfdisk("--json", str(path)))["partitiontable"]
    for p in table["partitions"]:
        p["node"] = p["node"].rsplit(".", 1)[-1]
    assert table["label"] == "dos"
    assert table["id"] == "0x5eedc0de"
    found: list[dict[str, Any]] = table["partitions"]
    return found


def made_by_sfdisk(path: Path, size: int = 32 * MIB) -> mbr.Layout:
    path.write_bytes(bytes(size))
    sfdisk("-q", str(path), input=SCRIPT)
    return mbr.read(reader(path.read_bytes()), size, 512)


@needs_sfdisk
def test_what_sfdisk_writes_is_what_we_read(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    layout = made_by_sfdisk(path)
    assert [
        (p.number, p.start // 512, p.size // 512, f"{p.type_byte:x}", p.active) for p in layout.partitions
    ] == [
        (i + 1, p["start"], p["size"], p["type"], p.get("bootable", False))
        for i, p in enumerate(dump(path))
        if p["type"] != "5"
    ]
    assert [p.logical for p in layout.partitions] == [False] * 3 + [True] * 3
    original = path.read_bytes()
    assert put_down(layout.table, layout.partitions, 32 * MIB, fill=0) == original


@needs_sfdisk
@pytest.mark.parametrize("size", [25, 31, 33, 64])
def test_sfdisk_finds_the_same_partitions_on_other_sizes(tmp_path: Path, size: int) -> None:
    path, other = tmp_path / "disk", tmp_path / "other"
    layout = made_by_sfdisk(path)
    other.write_bytes(put_down(layout.table, layout.partitions, size * MIB, fill=0))
    expected, found = dump(path), dump(other)
    if size < 32:
        expected[3]["size"] = size * MIB // 512 - expected[3]["start"]
    for p in expected + found:
        p.pop("node")
    assert found == expected
    assert "No errors detected" in sfdisk("--verify", str(other))


@needs_sfdisk
def test_sfdisk_finds_no_fault_with_partitions_that_moved(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    layout = made_by_sfdisk(path)
    placed = moved(layout.partitions, 7, start=40 * MIB, size=20 * MIB)
    path.write_bytes(put_down(layout.table, placed, 64 * MIB, fill=0))
    found = dump(path)
    assert (found[6]["start"], found[6]["size"]) == (40 * SECTORS, 20 * SECTORS)
    assert "No errors detected" in sfdisk("--verify", str(path))
