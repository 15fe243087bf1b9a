"""Reading MBRs: partitions numbered as Linux does, chains that end, and damage that is named."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.disk import mbr
from imaging.errors import TableInvalid, UnsupportedDisk
from imaging.tables import Ebr, MbrTable
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


def read(sectors: dict[int, bytes], size: int = SIZE, sector_size: int = 512) -> mbr.Layout:
    return mbr.read(reader(a_disk(size, sectors, sector_size)), size, sector_size)


@pytest.mark.parametrize("sector_size", [512, 4096])
def test_primary_and_logical_partitions_are_found_and_numbered(sector_size: int) -> None:
    layout = read(chained(sector_size), sector_size=sector_size)
    assert told(layout.partitions) == [
        (1, 1, 4, 0x07, True, False),
        (5, 6, 3, 0x83, False, True),
        (6, 10, 4, 0x82, False, True),
    ]
    assert layout.table.signature == 0x1234ABCD
    assert [ebr.start for ebr in layout.table.chain] == [5 * MIB, 9 * MIB]
    assert mbr.parse(layout.table, sector_size) == layout


def test_the_first_logical_partition_may_have_been_deleted() -> None:
    sectors = chained()
    sectors[5 * SECTORS] = a_sector(bytes(16), a_record(0x05, 4 * SECTORS, 5 * SECTORS))
    layout = read(sectors)
    assert told(layout.partitions)[1:] == [(5, 10, 4, 0x82, False, True)]
    assert len(layout.table.chain) == 2


def test_an_extended_partition_may_be_empty() -> None:
    primary_only = {0: chained()[0]}
    layout = read(primary_only)
    assert told(layout.partitions) == [(1, 1, 4, 0x07, True, False)]
    assert layout.table.chain == ()
    assert mbr.parse(layout.table, 512) == layout
    layout = read(primary_only | {5 * SECTORS: a_sector()})
    assert len(layout.partitions) == 1
    assert len(layout.table.chain) == 1


def test_a_chain_may_run_backwards_on_the_disk() -> None:
    sectors = chained()
    sectors[5 * SECTORS] = a_sector(a_record(0x83, 7 * SECTORS, SECTORS), a_record(0x05, SECTORS, SECTORS))
    sectors[6 * SECTORS] = a_sector(a_record(0x83, SECTORS, SECTORS))
    assert told(read(sectors).partitions)[1:] == [(5, 12, 1, 0x83, False, True), (6, 7, 1, 0x83, False, True)]


def linked_to(target: int) -> Callable[[dict[int, bytes]], None]:
    def change(sectors: dict[int, bytes]) -> None:
        link = a_record(0x05, target, SECTORS)
        sectors[9 * SECTORS] = a_sector(a_record(0x82, SECTORS, 4 * SECTORS), link)

    return change


def changed(lba: int, *records: bytes) -> Callable[[dict[int, bytes]], None]:
    return lambda sectors: sectors.update({lba: a_sector(*records)})


PRIMARY = a_record(0x07, SECTORS, 4 * SECTORS)
EXTENDED = a_record(0x0F, 5 * SECTORS, 10 * SECTORS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (linked_to(0), "circle"),
        (linked_to(4 * SECTORS), "circle"),
        (linked_to(10 * SECTORS), "leaves the extended"),
        (linked_to(9 * SECTORS), "no extended boot record in sector 28672"),
        (lambda sectors: sectors.update({5 * SECTORS: b"\1" * 512}), "no extended boot record"),
        (changed(9 * SECTORS, a_record(0x83, SECTORS, 6 * SECTORS)), "leaves its extended"),
        (changed(9 * SECTORS, a_record(0x83, 0, SECTORS)), "leaves its extended"),
        (changed(9 * SECTORS, a_record(0x83, 1, 8), a_record(0x83, 16, 8)), "several partitions"),
        (changed(0, PRIMARY, a_record(0x0F, 4 * SECTORS, 10 * SECTORS)), "overlaps"),
        (changed(0, PRIMARY, a_record(0x07, 4 * SECTORS, SECTORS)), "overlap each other"),
        (changed(0, PRIMARY, EXTENDED, a_record(0x05, 15 * SECTORS, SECTORS)), "two extended"),
        (changed(0, PRIMARY, EXTENDED, a_record(0x07, 15 * SECTORS, 2 * SECTORS)), "behind the end"),
        (changed(0, a_record(0x42, SECTORS, SECTORS)), "dynamic disk.*convert"),
    ],
)
def test_what_cannot_be_trusted_is_refused_by_name(
    change: Callable[[dict[int, bytes]], None], words: str
) -> None:
    sectors = chained()
    change(sectors)
    with pytest.raises(UnsupportedDisk, match=words):
        read(sectors)


def test_an_endless_chain_is_cut_off() -> None:
    count = 300
    sectors = {0: a_sector(a_record(0x05, 2048, count * 4))}
    for i in range(count):
        link = a_record(0x05, 4 * (i + 1), 4)
        sectors[2048 + 4 * i] = a_sector(a_record(0x83, 1, 2), link)
    reads = 0
    inner = reader(a_disk(SIZE, sectors))

    def counting(offset: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        return inner(offset, length)

    with pytest.raises(TableInvalid, match="more than 128"):
        mbr.read(counting, SIZE, 512)
    assert reads <= 130


def test_a_kept_chain_must_hold_together() -> None:
    table = read(chained()).table
    for chain in (
        table.chain[:1],
        table.chain[::-1],
        (*table.chain, Ebr(11 * MIB, a_sector())),
        (table.chain[0], Ebr(9 * MIB, b"")),
    ):
        with pytest.raises(TableInvalid):
            mbr.parse(MbrTable(table.mbr, chain), 512)


def test_kinds_of_first_sector() -> None:
    assert mbr.kind(chained()[0]) == "mbr"
    assert mbr.kind(bytes(512)) == "none"
    assert mbr.kind(a_sector()) == "none"
    assert mbr.kind(a_sector(a_record(0xEE, 1, 100))) == "gpt"
    assert mbr.kind(a_sector(a_record(0x0C, 2048, 100), a_record(0xEE, 1, 100))) == "gpt"
    boot_code = b"\xeb\x3c\x90mkfs.fat" + bytes(435) + b"\x0d\x0a\x00" * 21 + b"\0" + b"\x55\xaa"
    assert mbr.kind(boot_code) == "none"


# --- foreign bytes ---


@settings(deadline=None)
@given(st.data())
def test_damaged_chains_raise_only_our_errors(data: st.DataObject) -> None:
    disk = a_disk(SIZE, chained())
    spots = st.sampled_from([0, 5 * MIB, 9 * MIB])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(spots) + 446 + data.draw(st.integers(0, 65))
        disk[at] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from([0x05, 0x0F, 0x83])))
    with contextlib.suppress(UnsupportedDisk):
        layout = mbr.read(reader(disk), SIZE, 512)
        assert mbr.parse(layout.table, 512) == layout


records = st.builds(
    mbr.RECORD.pack,
    st.sampled_from([0, 0x80]),
    st.binary(min_size=3, max_size=3),
    st.sampled_from([0, 0x05, 0x07, 0x0F, 0x83, 0x42]),
    st.binary(min_size=3, max_size=3),
    st.one_of(st.integers(0, 40), st.integers(0, 0xFFFFFFFF)),
    st.one_of(st.integers(0, 40), st.integers(0, 0xFFFFFFFF)),
)


@settings(deadline=None)
@given(st.lists(st.lists(records, max_size=4), min_size=1, max_size=40))
def test_chains_of_noise_end_and_raise_only_our_errors(sectors: list[list[bytes]]) -> None:
    disk = a_disk(MIB, {lba: a_sector(*content) for lba, content in enumerate(sectors)})
    with contextlib.suppress(UnsupportedDisk):
        layout = mbr.read(reader(disk), MIB, 512)
        assert mbr.parse(layout.table, 512) == layout
