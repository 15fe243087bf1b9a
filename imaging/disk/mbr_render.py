"""Writing master boot records and their chains for a disk of any size, with partitions where they now are.

Where nothing moved and the disk holds the extended partition, the sectors go back byte for byte. Otherwise
the records are made anew around the same boot code and signature: each logical partition gets its EBR where
it had it, seen from the partition's start, and the extended partition keeps its bounds as far as it can.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from imaging.disk import mbr
from imaging.errors import TableInvalid, UnsupportedDisk
from imaging.tables import Ebr, MbrTable, Partition

#: Kept free before a logical partition for its EBR, where the source had as much (one alignment unit).
ROOM = 1 << 20
_NEVER = b"\xfe\xff\xff"  # "beyond CHS": cylinder 1023, head 254, sector 63
_HEADS = (255, 240, 128, 64, 32, 16)
_SECTORS = 63


class _Bounds(NamedTuple):
    start: int
    end: int


def room_before(table: MbrTable, partition: Partition, sector_size: int) -> int:
    """Bytes that must stay free before ``partition`` (as the image has it): what its EBR needs.

    0 for a primary partition. Whoever moves partitions leaves this much between one and the next.
    """
    if not partition.logical:
        return 0
    return min(ROOM, _distances(table, sector_size).get(partition.number, 1) * sector_size)


def render(
    table: MbrTable, partitions: Sequence[Partition], size: int, sector_size: int
) -> tuple[tuple[int, bytes], ...]:
    """The pieces (offset, bytes) of the table for a disk of ``size`` bytes, in the order to write them.

    The disk's last sector is zeroed where it belongs to no partition: a GPT's backup header of earlier times
    may lie there. The MBR comes last: without it the disk does not look bootable. Raises UnsupportedDisk when
    an MBR cannot describe these partitions.
    """
    source = mbr.parse(table, sector_size)
    placed = sorted(partitions, key=lambda p: p.number)
    if _places(placed) != _places(source.partitions) or not _fits(source, size // sector_size):
        table = _anew(source, placed, size // sector_size, sector_size)
    pieces = [(ebr.start, ebr.sector.ljust(sector_size, b"\0")) for ebr in reversed(table.chain)]
    if source.extended and not source.table.chain and not table.chain:
        pieces.append((source.extended.start * sector_size, bytes(sector_size)))  # still nothing in it
    last = size - sector_size
    if last > 0 and not any(p.start <= last < p.start + p.size for p in placed):
        pieces = [(last, bytes(sector_size)), *(piece for piece in pieces if piece[0] != last)]
    return (*pieces, (0, table.mbr.ljust(sector_size, b"\0")))


def with_signature(table: MbrTable, signature: int) -> MbrTable:
    """The same table under another disk signature (u32)."""
    return dataclasses.replace(table, mbr=table.mbr[:440] + signature.to_bytes(4, "little") + table.mbr[444:])


def _places(partitions: Sequence[Partition]) -> list[tuple[object, ...]]:
    return [(p.number, p.start, p.size, p.type_byte, p.active, p.logical) for p in partitions]


def _fits(layout: mbr.Layout, sectors: int) -> bool:
    return layout.extended is None or layout.extended.end <= sectors


def _distances(table: MbrTable, sector_size: int) -> dict[int, int]:
    """Sectors from each logical partition's EBR to its start, by number."""
    layout = mbr.parse(table, sector_size)
    starts = {p.number: p.start for p in layout.partitions if p.logical}
    found, number = {}, 5
    for ebr in table.chain:
        records = mbr.Record.of(ebr.sector)
        if any(record.used and not record.extended for record in records[:2]) and number in starts:
            found[number] = (starts[number] - ebr.start) // sector_size
            number += 1
    return found


class _Chs:
    """Sector numbers as cylinder, head and sector: known ones as the source has them, others calculated."""

    def __init__(self, layout: mbr.Layout, sector_size: int) -> None:
        self._known: dict[int, bytes] = {}
        for sector, base in [(layout.table.mbr, 0)] + [
            (ebr.sector, ebr.start // sector_size) for ebr in layout.table.chain
        ]:
            for record in mbr.Record.of(sector)[: 4 if base == 0 else 2]:
                if not record.used:
                    continue
                start = base + record.start
                if base and record.extended and layout.extended:
                    start = layout.extended.start + record.start
                self._known.setdefault(start, record.first_chs)
                self._known.setdefault(start + record.size - 1, record.last_chs)
        self._heads = next((heads for heads in _HEADS if self._agrees(heads)), _HEADS[0])

    def _agrees(self, heads: int) -> bool:
        judged = [lba for lba, chs in self._known.items() if lba < 1023 * heads * _SECTORS]
        return bool(judged) and all(self._calculated(lba, heads) == self._known[lba] for lba in judged)

    @staticmethod
    def _calculated(lba: int, heads: int) -> bytes:
        track, sector = divmod(lba, _SECTORS)
        cylinder, head = divmod(track, heads)
        if cylinder > 1023:
            return _NEVER
        return bytes((head, sector + 1 | cylinder >> 2 & 0xC0, cylinder & 0xFF))

    def __call__(self, lba: int) -> bytes:
        return self._known.get(lba) or self._calculated(lba, self._heads)

    def record(self, status: int, kind: int, start: int, size: int, base: int = 0) -> bytes:
        """16 bytes of a record for ``size`` sectors from ``start``, counted from ``base``."""
        last = start + size - 1
        return mbr.RECORD.pack(status, self(start), kind, self(last), start - base, size)


def _anew(source: mbr.Layout, placed: Sequence[Partition], sectors: int, sector_size: int) -> MbrTable:
    for p in placed:
        if (p.start + p.size) // sector_size > mbr.LIMIT:
            raise UnsupportedDisk(
                f"Partition {p.number} would end behind {mbr.LIMIT * sector_size} bytes, where an MBR "
                "partition table ends: keep it smaller, or convert the source disk to GPT."
            )
    chs = _Chs(source, sector_size)
    logical = [p for p in placed if p.logical]
    slots = [bytes(16)] * 4
    for p in placed:
        if not p.logical:
            status = 0x80 if p.active else 0
            slots[p.number - 1] = chs.record(
                status, p.type_byte, p.start // sector_size, p.size // sector_size
            )
    chain: list[Ebr] = []
    if source.extended:
        records = _records(source, placed, sector_size)
        bounds = _bounds(source, placed, records, sectors, sector_size)
        if bounds.end > bounds.start:
            old = source.extended.record
            slots[source.extended.slot] = chs.record(
                old.status, old.kind, bounds.start, bounds.end - bounds.start
            )
            chain = _chain(logical, [bounds.start, *records[1:]], chs, bounds.start, sector_size)
    made = MbrTable(source.table.mbr[: mbr.RECORDS_AT] + b"".join(slots) + b"\x55\xaa", tuple(chain))
    try:
        checked = mbr.parse(made, sector_size) if placed or chain else None
    except TableInvalid:
        checked = None
    if placed and (checked is None or _places(checked.partitions) != _places(placed)):
        raise UnsupportedDisk(
            "An MBR partition table cannot describe these partitions: the logical ones must lie together, "
            "each behind a free sector, and no primary one between them."
        )
    return made


def _records(source: mbr.Layout, placed: Sequence[Partition], sector_size: int) -> list[int]:
    """The sector of each logical partition's EBR: as far before it as in the source, or as there is room."""
    distances = _distances(source.table, sector_size)
    ends = sorted((p.start + p.size) // sector_size for p in placed)
    found = []
    for p in placed:
        if p.logical:
            start = p.start // sector_size
            floor = max((end for end in ends if end <= start), default=1)
            found.append(max(start - distances.get(p.number, 1), floor))
    return found


def _bounds(
    source: mbr.Layout, placed: Sequence[Partition], records: Sequence[int], sectors: int, sector_size: int
) -> _Bounds:
    """First and behind-last sector of the extended partition, which starts with the first logical's EBR."""
    assert source.extended is not None
    primaries = [(p.start // sector_size, (p.start + p.size) // sector_size) for p in placed if not p.logical]
    logical = [(p.start // sector_size, (p.start + p.size) // sector_size) for p in placed if p.logical]
    start, end = source.extended.start, min(source.extended.end, sectors, mbr.LIMIT)
    if not logical:
        if any(a < end and b > start for a, b in primaries):
            return _Bounds(0, 0)  # nothing is in it, and a primary needs its place
        return _Bounds(start, end)
    # The first number's own start, since its EBR may lie anywhere before it.
    lowest = min(logical[0][0], *records[1:], *(a for a, _ in logical))
    floor = max((b for _, b in primaries if b <= lowest), default=1)
    if not floor <= start < lowest:
        start = max(floor, min(records[0], lowest - 1))
    needed = max(b for _, b in logical)
    ceiling = min((a for a, _ in primaries if a >= needed), default=end)
    return _Bounds(start, max(needed, min(end, ceiling)))


def _chain(
    logical: Sequence[Partition], records: Sequence[int], chs: _Chs, first: int, sector_size: int
) -> list[Ebr]:
    if not logical:
        return [Ebr(first * sector_size, bytes(510) + b"\x55\xaa")]
    chain = []
    for i, p in enumerate(logical):
        at = records[i]
        start, size = p.start // sector_size, p.size // sector_size
        own = chs.record(0x80 if p.active else 0, p.type_byte, start, size, base=at)
        link = bytes(16)
        if i + 1 < len(logical):
            after = logical[i + 1]
            end = (after.start + after.size) // sector_size
            link = chs.record(0, 0x05, records[i + 1], end - records[i + 1], base=first)
        chain.append(Ebr(at * sector_size, bytes(mbr.RECORDS_AT) + own + link + bytes(32) + b"\x55\xaa"))
    return chain
