"""Reading master boot records and the chain of extended boot records that holds the logical partitions.

An MBR has four records. One of them may be an extended partition, whose first sector is an extended boot
record (EBR) of the same shape: one record for a logical partition, counted from the EBR itself, and one that
links to the next EBR, counted from the start of the extended partition. No standard describes it; what is
accepted and how partitions are numbered follows Linux (block/partitions/msdos.c), except that a chain Linux
would cut short in silence is refused here: an image must not lack a partition without a word.

Places are in sectors of the disk's logical size. Writing is in :mod:`imaging.disk.mbr_render`.
"""

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from imaging.errors import TableInvalid, UnsupportedDisk
from imaging.tables import Ebr, MbrTable, Partition

ReadAt = Callable[[int, int], bytes]
"""(offset, length) -> exactly length bytes, or DiskError."""

RECORD = struct.Struct("<B3sB3sII")  # UEFI 2.10 table 5.2
RECORDS_AT = 446
#: CHS, LBA and Linux's own number for an extended partition.
EXTENDED = (0x05, 0x0F, 0x85)
PROTECTIVE = 0xEE
_DYNAMIC = 0x42
_ACTIVE = 0x80
#: EBRs in a chain. Linux's sfdisk makes 56 logical partitions at most, Windows 24 letters.
MAX_CHAIN = 128
#: Sectors that a 32-bit LBA can name: 2 TiB of 512 bytes.
LIMIT = 1 << 32


class Record(NamedTuple):
    """One of the four records of an MBR or EBR; ``start`` and ``size`` in sectors."""

    status: int
    first_chs: bytes
    kind: int
    last_chs: bytes
    start: int
    size: int

    @property
    def used(self) -> bool:
        return self.kind != 0 and self.size != 0

    @property
    def extended(self) -> bool:
        return self.kind in EXTENDED

    @classmethod
    def of(cls, sector: bytes) -> "tuple[Record, ...]":
        """The four records of 512 bytes."""
        return tuple(cls(*RECORD.unpack_from(sector, RECORDS_AT + 16 * i)) for i in range(4))


class Extended(NamedTuple):
    """The extended partition: its slot (0 to 3) among the primaries, and its record."""

    slot: int
    record: Record

    @property
    def start(self) -> int:
        return self.record.start

    @property
    def end(self) -> int:
        return self.record.start + self.record.size


class Layout(NamedTuple):
    """A parsed MBR: the table as it is kept, its partitions, and the extended partition around some."""

    table: MbrTable
    partitions: tuple[Partition, ...]
    extended: Extended | None


def kind(sector: bytes) -> str:
    """What the first 512 bytes of a disk say: ``gpt`` (a protective record), ``mbr`` or ``none``."""
    if len(sector) < 512 or sector[510:512] != b"\x55\xaa":
        return "none"
    records = Record.of(sector)
    # FAT and NTFS boot sectors end in 55AA too; there these bytes are code, which makes no sane records.
    if any(record.status & 0x7F for record in records):
        return "none"
    if any(record.kind == PROTECTIVE for record in records):
        return "gpt"
    used = [record for record in records if record.used]
    return "mbr" if used and all(record.start for record in used) else "none"


def read(read_at: ReadAt, size: int, sector_size: int) -> Layout:
    """Read the table of a disk (sizes in bytes) whose :func:`kind` is ``mbr``.

    Raises TableInvalid when it is damaged or contradicts the disk, UnsupportedDisk for a dynamic disk or more
    than one extended partition, and what ``read_at`` raises.
    """
    sectors = size // sector_size

    def fetch(lba: int) -> bytes:
        if lba >= sectors:
            raise TableInvalid(_damaged("its chain of logical partitions leaves the disk"))
        return read_at(lba * sector_size, 512)

    layout = _walk(fetch, sector_size)
    for p in layout.partitions:
        if p.start + p.size > size:
            raise TableInvalid(
                f"Partition {p.number} ends at byte {p.start + p.size}, behind the end of the disk "
                f"({size} bytes): make it smaller with the disk's own system, then try again."
            )
    return layout


def parse(table: MbrTable, sector_size: int) -> Layout:
    """The partitions of a table that was kept; raises TableInvalid, UnsupportedDisk.

    Its chain must be the one that its sectors link, no record more or less.
    """
    kept = {ebr.start: ebr.sector for ebr in table.chain}

    def fetch(lba: int) -> bytes:
        if lba == 0:
            return table.mbr
        if not kept:
            return bytes(512)  # an extended partition in which nothing was ever made
        try:
            return kept[lba * sector_size]
        except KeyError:
            raise TableInvalid(_damaged("its chain of logical partitions is cut")) from None

    if len(table.mbr) != 512 or any(len(ebr.sector) != 512 for ebr in table.chain):
        raise TableInvalid(_damaged("a boot record is not 512 bytes long"))
    layout = _walk(fetch, sector_size)
    if layout.table.chain != table.chain:
        raise TableInvalid(_damaged("its chain of logical partitions does not hold together"))
    return layout


def _damaged(what: str) -> str:
    return f"The partition table is damaged ({what}): repair it (Linux: sfdisk or testdisk), then try again."


def _walk(fetch: Callable[[int], bytes], sector_size: int) -> Layout:
    mbr = fetch(0)
    if kind(mbr) != "mbr":
        raise TableInvalid(_damaged("no record that makes sense"))
    extended: Extended | None = None
    partitions = []
    for slot, record in enumerate(Record.of(mbr)):
        if not record.used:
            continue
        _refuse_dynamic(record)
        if not record.extended:
            partitions.append(_partition(slot + 1, record, record.start, sector_size))
        elif extended is None:
            extended = Extended(slot, record)
        else:
            raise UnsupportedDisk(
                "The disk has two extended partitions, of which Windows sees one: move the logical "
                "partitions into one of them, then try again."
            )
    chain: tuple[Ebr, ...] = ()
    if extended:
        chain, logical = _follow(extended, sector_size, fetch)
        partitions += logical
    _check(partitions, chain, extended, sector_size)
    return Layout(MbrTable(mbr, chain), tuple(partitions), extended)


def _follow(
    extended: Extended, sector_size: int, fetch: Callable[[int], bytes]
) -> tuple[tuple[Ebr, ...], list[Partition]]:
    """Follow the links; each EBR is read once, so a loop ends the walk as surely as the limit does."""
    chain: dict[int, Ebr] = {}
    partitions: list[Partition] = []
    at: int | None = extended.start
    while at is not None:
        if at in chain:
            raise TableInvalid(_damaged("its chain of logical partitions runs in a circle"))
        if len(chain) == MAX_CHAIN:
            raise TableInvalid(_damaged(f"it has more than {MAX_CHAIN} extended boot records"))
        sector = fetch(at)
        if not chain and sector == bytes(512):
            return (), []  # an extended partition in which nothing was ever made
        if len(sector) != 512 or sector[510:512] != b"\x55\xaa":
            raise TableInvalid(_damaged(f"no extended boot record in sector {at}"))
        chain[at] = Ebr(at * sector_size, sector)
        record, link = _choose(sector, at, extended)
        if record is not None:
            _refuse_dynamic(record)
            start = at + record.start
            if not record.start or start + record.size > extended.end:
                raise TableInvalid(_damaged(f"a logical partition of sector {at} leaves its extended one"))
            partitions.append(_partition(5 + len(partitions), record, start, sector_size, logical=True))
        at = None
        if link is not None:
            at = extended.start + link.start
            if at >= extended.end:
                raise TableInvalid(_damaged("its chain of logical partitions leaves the extended one"))
    return tuple(chain.values()), partitions


def _choose(sector: bytes, at: int, extended: Extended) -> tuple[Record | None, Record | None]:
    """The partition and the link of an EBR, either of which may be missing."""
    records = Record.of(sector)
    data = [record for record in records[:2] if record.used and not record.extended]
    # Some old systems left garbage in the last two places: like Linux, believe it only when it fits.
    data += [
        record
        for record in records[2:]
        if record.used and not record.extended and at + record.start + record.size <= extended.end
    ]
    links = [record for record in records if record.used and record.extended]
    if len(data) > 1 or len(links) > 1:
        raise UnsupportedDisk(
            f"The extended boot record in sector {at} describes several partitions at once: "
            "make the logical partitions anew with sfdisk, then try again."
        )
    return (data[0] if data else None), (links[0] if links else None)


def _refuse_dynamic(record: Record) -> None:
    if record.kind == _DYNAMIC:
        raise UnsupportedDisk(
            "The disk is a Windows dynamic disk, whose volumes do not stand in the partition table: convert "
            "it to a basic disk (diskpart: convert basic, which needs empty volumes), then try again."
        )


def _partition(
    number: int, record: Record, start: int, sector_size: int, *, logical: bool = False
) -> Partition:
    return Partition(
        number=number,
        type_guid="",
        unique_guid="",
        name="",
        attributes=0,
        start=start * sector_size,
        size=record.size * sector_size,
        filesystem="unknown",
        label="",
        uuid="",
        used=0,
        capture="whole",
        type_byte=record.kind,
        active=record.status == _ACTIVE,
        logical=logical,
    )


def _check(
    partitions: Sequence[Partition], chain: Sequence[Ebr], extended: Extended | None, sector_size: int
) -> None:
    """Nothing overlaps: partitions each other, a primary the extended one, an EBR anything."""
    taken = [(p.start, p.start + p.size) for p in partitions]
    taken += [(ebr.start, ebr.start + sector_size) for ebr in chain]
    end = sector_size
    for start, stop in sorted(taken):
        if start < end:
            raise TableInvalid(_damaged("partitions overlap each other or the table"))
        end = stop
    if extended:
        first, last = extended.start * sector_size, extended.end * sector_size
        if first < sector_size or any(
            p.start < last and p.start + p.size > first for p in partitions if not p.logical
        ):
            raise TableInvalid(_damaged("the extended partition overlaps another one or the table"))
