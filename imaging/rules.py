"""The rules that every disk of an image obeys, whether it was just captured or comes from foreign bytes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from imaging.disk import mbr
from imaging.errors import ManifestError, UnsupportedDisk
from imaging.runs import MERGE_GAP, count_chunks
from imaging.tables import GptTable, MbrTable, Partition

if TYPE_CHECKING:
    from imaging.diskimage import DiskImage

HASH_SIZE = 32
#: No size or place in an image is larger.
MAX_SIZE = 1 << 62
_SECTOR_SIZES = (512, 1024, 2048, 4096)
_MAX_PHYSICAL = 1 << 20
#: How a partition's content went into the image.
CAPTURE_MODES = ("used", "whole", "header", "none")


def require(condition: bool, sentence: str) -> None:
    """Raise ManifestError with ``sentence`` unless ``condition`` holds."""
    if not condition:
        raise ManifestError(sentence)


def check_disk(disk: DiskImage) -> None:
    """Raise ManifestError when table, partitions, runs and hashes do not fit together."""
    require(disk.sector_size in _SECTOR_SIZES, f"Sector size {disk.sector_size} is not known.")
    require(0 < disk.size <= MAX_SIZE, "The disk size is out of range.")
    require(disk.size % disk.sector_size == 0, "The disk size is not a multiple of its sector size.")
    physical = disk.physical_sector_size
    require(
        not physical or (disk.sector_size < physical <= _MAX_PHYSICAL and not physical & (physical - 1)),
        f"Physical sector size {physical} is not known.",
    )
    table = disk.table
    if isinstance(table, GptTable):
        _check_gpt(disk, table)
    elif isinstance(table, MbrTable):
        _check_mbr(disk, table)
    else:
        require(not disk.partitions, "A disk without a partition table has no partitions.")
    previous = 0
    for p in disk.partitions:
        require(p.number > previous, "Partitions are not in order of their number.")
        previous = p.number
        _check_partition(disk, p)
    by_start = sorted(disk.partitions, key=lambda p: p.start)
    for a, b in itertools.pairwise(by_start):
        require(a.start + a.size <= b.start, "Two partitions overlap.")
    _check_runs(disk)


def _check_gpt(disk: DiskImage, table: GptTable) -> None:
    require(len(table.mbr) == 512, "The protective MBR is not 512 bytes long.")
    require(_is_guid(table.guid), "The disk GUID is malformed.")
    require(4 <= table.entries <= 1024, "The number of GPT entries is out of range.")
    first, last = table.first_usable * disk.sector_size, disk.size - disk.tail_size
    require(
        disk.head_size <= first <= disk.size,
        "The first usable sector lies inside the partition table or outside the disk.",
    )
    require(disk.head_size + disk.tail_size <= disk.size, "The disk is smaller than its partition table.")
    for p in disk.partitions:
        require(p.number <= table.entries, "A partition number is out of range.")
        require(_is_guid(p.type_guid) and _is_guid(p.unique_guid), "A partition's GUID is malformed.")
        # UEFI 2.10 table 5.6: PartitionName is 36 UTF-16 code units, NUL-terminated if shorter.
        require("\0" not in p.name and len(_utf16(p.name)) <= 72, "A partition's name is malformed.")
        require(0 <= p.attributes < 1 << 64, "A partition's attributes are out of range.")
        require(first <= p.start and p.start + p.size <= last, "A partition lies outside the usable area.")
        require(
            (p.type_byte, p.active, p.logical) == (0, False, False), "A GPT partition has fields of an MBR."
        )


def _check_mbr(disk: DiskImage, table: MbrTable) -> None:
    """The boot records must say of the partitions what the manifest says."""
    try:
        layout = mbr.parse(table, disk.sector_size)
    except UnsupportedDisk as error:
        raise ManifestError(f"The image's partition table is not valid: {error}") from None

    def told(p: Partition) -> tuple[object, ...]:
        guids = (p.type_guid, p.unique_guid, p.name, p.attributes)
        return (p.number, p.start, p.size, p.type_byte, p.active, p.logical, *guids)

    require(
        [told(p) for p in layout.partitions] == [told(p) for p in disk.partitions],
        "The partitions are not those of the boot records.",
    )
    require(
        all(p.start + p.size <= disk.size for p in disk.partitions)
        and all(ebr.start + disk.sector_size <= disk.size for ebr in table.chain),
        "A partition lies outside the disk.",
    )


def _check_partition(disk: DiskImage, p: Partition) -> None:
    require(
        p.start % disk.sector_size == 0 and p.size % disk.sector_size == 0,
        "A partition is not aligned to sectors.",
    )
    require(p.size > 0, "A partition is empty.")
    require(0 <= p.used <= p.size, "A partition uses more bytes than it has.")
    require(p.capture in CAPTURE_MODES, f"Capture mode {p.capture!r} is not known.")
    require(
        0 < len(p.filesystem) <= 32 and len(p.label) <= 512 and len(p.uuid) <= 64,
        "A partition's text is too long.",
    )


def _check_runs(disk: DiskImage) -> None:
    # The table's own area is never part of a chunk: the writer makes it anew for the target's size.
    chain = disk.table.chain if isinstance(disk.table, MbrTable) else ()
    records = iter(sorted(ebr.start for ebr in chain))
    record = next(records, disk.size)
    end = disk.head_size - MERGE_GAP
    for start, length in disk.runs:
        require(
            start % disk.sector_size == 0 and length % disk.sector_size == 0,
            "A used run is not aligned to sectors.",
        )
        # Around an extended boot record even a near gap stays open.
        near = MERGE_GAP
        while record < start:
            near = disk.sector_size if record >= end else near
            record = next(records, disk.size)
        require(length > 0 and start - end >= near, "Used runs are empty, out of order or not merged.")
        end = start + length
        require(record >= end, "A used run covers an extended boot record.")
    require(not disk.runs or end <= disk.size - disk.tail_size, "A used run lies outside the disk.")
    chunks = count_chunks(disk.runs)
    require(
        len(disk.hashes) == chunks * HASH_SIZE,
        f"{chunks} chunks are used, but there are {len(disk.hashes)} bytes of hashes.",
    )


def _is_guid(text: str) -> bool:
    parts = text.split("-")
    return [len(p) for p in parts] == [8, 4, 4, 4, 12] and all(c in "0123456789abcdef-" for c in text)


def _utf16(text: str) -> bytes:
    try:
        return text.encode("utf-16-le")
    except UnicodeEncodeError:
        raise ManifestError("A partition's name is not valid Unicode.") from None
