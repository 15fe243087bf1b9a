"""Reading and writing GUID partition tables (UEFI 2.10 §5.2, §5.3) for 512- to 4096-byte sectors.

Parsing takes a function that reads bytes, rendering returns bytes: no device is touched here. The table is
not part of an image's chunks but is written anew for the target's size, so that both copies are right on any
disk.
"""

import dataclasses
import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence

from imaging.disk import mbr
from imaging.disk.mbr import ReadAt as ReadAt
from imaging.disk.mbr import Record
from imaging.errors import TableInvalid, UnsupportedDisk
from imaging.tables import GPT_ENTRY_SIZE, GptTable, Partition

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")  # table 5.5, 92 bytes
_ENTRY = struct.Struct("<16s16sQQQ72s")  # table 5.6
_SIGNATURE = b"EFI PART"
_REVISION = 0x00010000
_MAX_ENTRIES = 1024
#: Logical Disk Manager's metadata and data: a Windows dynamic disk.
_DYNAMIC = ("5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "af9b60a0-1431-4f62-bc68-3311714a69ad")
NO_TYPE = uuid.UUID(int=0)


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """One copy of the GPT header; all places in LBA."""

    my_lba: int
    alternate_lba: int
    first_usable: int
    last_usable: int
    guid: str
    entries_lba: int
    entries: int
    entries_crc: int


def parse_header(sector: bytes, lba: int, sectors: int) -> Header:
    """Check one header that was read from ``lba`` of a disk with that many sectors; raises TableInvalid."""
    if len(sector) < _HEADER.size or sector[:8] != _SIGNATURE:
        raise TableInvalid("no GPT header")
    (
        _,
        revision,
        size,
        crc,
        _,
        mine,
        alternate,
        first,
        last,
        guid,
        entries_lba,
        count,
        entry_size,
        entries_crc,
    ) = _HEADER.unpack_from(sector)
    if revision >> 16 != 1 or not _HEADER.size <= size <= len(sector):
        raise TableInvalid(f"GPT header of unknown revision {revision:#x} or size {size}")
    if zlib.crc32(sector[:16] + bytes(4) + sector[20:size]) != crc:
        raise TableInvalid("GPT header with a wrong checksum")
    if mine != lba:
        raise TableInvalid("GPT header in the wrong place")
    if entry_size != GPT_ENTRY_SIZE:
        raise UnsupportedDisk(f"The partition table has entries of {entry_size} bytes; only 128 are known.")
    if not 4 <= count <= _MAX_ENTRIES:
        raise TableInvalid(f"GPT with {count} entries")
    entry_sectors = -(-count * GPT_ENTRY_SIZE // len(sector))
    if not (
        2 <= entries_lba <= sectors - entry_sectors and 2 + entry_sectors <= first <= last + 1 <= sectors
    ):
        raise TableInvalid("GPT header that points outside the disk")
    return Header(
        mine, alternate, first, last, str(uuid.UUID(bytes_le=guid)), entries_lba, count, entries_crc
    )


def parse_entries(data: bytes, sector_size: int) -> tuple[Partition, ...]:
    """The used entries as partitions, without file systems; raises TableInvalid."""
    partitions = []
    for number in range(len(data) // GPT_ENTRY_SIZE):
        kind, unique, first, last, attributes, name = _ENTRY.unpack_from(data, number * GPT_ENTRY_SIZE)
        type_guid = uuid.UUID(bytes_le=kind)
        if type_guid == NO_TYPE:
            continue
        if str(type_guid) in _DYNAMIC:
            raise UnsupportedDisk(
                "The disk is a Windows dynamic disk, whose volumes do not stand in the partition table: "
                "convert it to a basic disk (diskpart: convert basic, which needs empty volumes), "
                "then try again."
            )
        if last < first:
            raise TableInvalid(
                f"The partition table is damaged: partition {number + 1} ends before it starts."
            )
        partitions.append(
            Partition(
                number=number + 1,
                type_guid=str(type_guid),
                unique_guid=str(uuid.UUID(bytes_le=unique)),
                name=name.decode("utf-16-le", "replace").split("\0")[0],
                attributes=attributes,
                start=first * sector_size,
                size=(last - first + 1) * sector_size,
                filesystem="unknown",
                label="",
                uuid="",
                used=0,
                capture="whole",
            )
        )
    return tuple(partitions)


def announced(read_at: ReadAt, size: int, sector_size: int) -> bool:
    """Whether a valid header lies in LBA 1, whatever the MBR says. Raises what ``read_at`` raises."""
    sectors = size // sector_size
    if sectors < 6:
        return False
    try:
        parse_header(read_at(sector_size, sector_size), 1, sectors)
    except UnsupportedDisk:
        return False
    return True


def read(read_at: ReadAt, size: int, sector_size: int) -> tuple[GptTable, tuple[Partition, ...]]:
    """Read the table of a disk (sizes in bytes), from its backup when the primary is damaged.

    Raises TableInvalid when both copies are damaged or contradict the disk, UnsupportedDisk.
    """
    sectors = size // sector_size
    if sectors < 6:
        raise TableInvalid("The disk is too small to hold a partition table.")
    reasons = []
    for lba in (1, sectors - 1):
        try:
            header = parse_header(read_at(lba * sector_size, sector_size), lba, sectors)
            length = header.entries * GPT_ENTRY_SIZE
            entries = read_at(header.entries_lba * sector_size, length)
            if zlib.crc32(entries) != header.entries_crc:
                raise TableInvalid("GPT entries with a wrong checksum")
            partitions = parse_entries(entries, sector_size)
            _check(partitions, header, sector_size)
        except TableInvalid as error:
            reasons.append(str(error))
        else:
            mbr = read_at(0, 512)
            return GptTable(header.guid, mbr, header.entries, header.first_usable), partitions
    raise TableInvalid(
        f"The partition table is damaged ({reasons[0]}; backup: {reasons[1]}): "
        "repair it with gdisk, then try again."
    )


def _check(partitions: Sequence[Partition], header: Header, sector_size: int) -> None:
    end = header.first_usable * sector_size
    for p in sorted(partitions, key=lambda p: p.start):
        if p.start < end:
            raise TableInvalid("partitions that overlap each other or the table")
        end = p.start + p.size
    if end > (header.last_usable + 1) * sector_size:
        raise TableInvalid("a partition outside the usable area")


def render(
    table: GptTable,
    partitions: Sequence[Partition],
    size: int,
    sector_size: int,
    source: Sequence[Partition] = (),
) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """Both copies for a disk of ``size`` bytes: ((0, MBR + header + entries), (offset, entries + header)).

    The caller has checked that the disk is large enough (DiskImage.minimum_size). ``source`` are the
    partitions where the image has them, when they moved: a hybrid MBR's records follow them.
    """
    sectors = size // sector_size
    entry_sectors = -(-table.entries * GPT_ENTRY_SIZE // sector_size)
    entries = bytearray(entry_sectors * sector_size)
    for p in partitions:
        first, last = p.start // sector_size, (p.start + p.size) // sector_size - 1
        _ENTRY.pack_into(
            entries,
            (p.number - 1) * GPT_ENTRY_SIZE,
            uuid.UUID(p.type_guid).bytes_le,
            uuid.UUID(p.unique_guid).bytes_le,
            first,
            last,
            p.attributes,
            p.name.encode("utf-16-le"),
        )
    crc = zlib.crc32(entries[: table.entries * GPT_ENTRY_SIZE])
    last_usable = sectors - 2 - entry_sectors

    def header(mine: int, alternate: int, entries_lba: int) -> bytes:
        def packed(own_crc: int) -> bytes:
            return _HEADER.pack(
                _SIGNATURE,
                _REVISION,
                _HEADER.size,
                own_crc,
                0,
                mine,
                alternate,
                table.first_usable,
                last_usable,
                uuid.UUID(table.guid).bytes_le,
                entries_lba,
                table.entries,
                GPT_ENTRY_SIZE,
                crc,
            )

        return packed(zlib.crc32(packed(0))).ljust(sector_size, b"\0")

    moved = _moved(partitions, source, sector_size)
    lba0 = _fit_protective(table.mbr, sectors, moved).ljust(sector_size, b"\0")
    primary = lba0 + header(1, sectors - 1, 2) + bytes(entries)
    backup = bytes(entries) + header(sectors - 1, 1, sectors - 1 - entry_sectors)
    return (0, primary), (size - len(backup), backup)


def _moved(
    partitions: Sequence[Partition], source: Sequence[Partition], sector_size: int
) -> dict[tuple[int, int], tuple[int, int]]:
    """Old (start, size) to new, in sectors."""
    now = {p.number: (p.start // sector_size, p.size // sector_size) for p in partitions}
    return {(p.start // sector_size, p.size // sector_size): now[p.number] for p in source if p.number in now}


def _fit_protective(data: bytes, sectors: int, moved: Mapping[tuple[int, int], tuple[int, int]]) -> bytes:
    """The protective record covers the whole disk, or 0xFFFFFFFF sectors of it (UEFI 2.10 table 5.4).

    In a hybrid MBR (other records beside it) it stays as its maker made it, and a record that mirrors a
    partition goes where that went. CHS is then "beyond": nobody boots these by CHS.
    """
    records = list(Record.of(data))
    hybrid = sum(1 for record in records if record.kind) > 1
    for i, record in enumerate(records):
        # Some partitioners always write 0xFFFFFFFF: that is right on every disk.
        if not hybrid and record.kind == mbr.PROTECTIVE and record.start == 1 and record.size != 0xFFFFFFFF:
            records[i] = record._replace(size=min(sectors - 1, 0xFFFFFFFF))
        place = moved.get((record.start, record.size), (record.start, record.size))
        if hybrid and record.kind != mbr.PROTECTIVE and place != (record.start, record.size):
            if sum(place) > mbr.LIMIT:
                raise UnsupportedDisk(
                    "The disk has a hybrid MBR, which cannot follow its partition behind 2^32 sectors: "
                    "make it protective again (gdisk), then capture the image again."
                )
            records[i] = record._replace(
                first_chs=b"\xfe\xff\xff", last_chs=b"\xfe\xff\xff", start=place[0], size=place[1]
            )
    packed = b"".join(mbr.RECORD.pack(*record) for record in records)
    return data[: mbr.RECORDS_AT] + packed + data[510:]
