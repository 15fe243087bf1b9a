"""From a foreign folder's disks to a manifest: partition by partition, straight into the store."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from imaging.capture import Missing, Upload
from imaging.chunks import DEFAULT_LEVEL
from imaging.disk import probe
from imaging.disk.table import extended_area
from imaging.exchange import partclone, streams, swap
from imaging.exchange.assemble import Assembler
from imaging.exchange.errors import ExchangeError, FolderInvalid, PartcloneInvalid
from imaging.exchange.foreign import ForeignDisk, Packed, Swap
from imaging.manifest import DiskImage, Manifest, MbrTable, Partition
from imaging.pipeline import Progress, no_progress

_PROBED = 128 << 10
Piece = tuple[int, bytes | memoryview]


def unpack(
    disks: Sequence[ForeignDisk],
    *,
    missing: Missing,
    upload: Upload,
    progress: Progress = no_progress,
    level: int = DEFAULT_LEVEL,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Manifest:
    """Put all disks of a folder into the store; when it returns, every chunk was uploaded.

    ``missing`` and ``upload`` are those of :func:`imaging.capture.capture`. Stage told: ``import``, in bytes
    of files read. ``tell`` gets a line per partition. Raises ExchangeError (partclone-invalid,
    stream-invalid, folder-invalid …), ManifestError, and whatever the callbacks raise.
    """
    total = sum(
        streams.Joined(content.files).size()
        for disk in disks
        for content in disk.contents.values()
        if isinstance(content, Packed)
    )
    done = 0
    images = []
    for disk in disks:

        def read(bytes: int, before: int = done) -> None:
            progress("import", before + bytes, total)

        with Assembler(disk.size, disk.sector_size, missing=missing, upload=upload, level=level) as assembler:
            image, count = _one(disk, assembler, read, tell)
        images.append(image)
        done += count
    return Manifest(images)


def _one(
    disk: ForeignDisk, assembler: Assembler, read: Callable[[int], None], tell: Callable[[str], None]
) -> tuple[DiskImage, int]:
    for offset, data in _gap(disk):
        assembler.put(offset, data)
    done, before = [], 0
    for p in sorted(disk.partitions, key=lambda p: p.start):
        content = disk.contents.get(p.number)
        source = streams.Joined(content.files) if isinstance(content, Packed) else None

        def told(at: int, before: int = before) -> None:
            read(before + at)

        try:
            filled = _fill(p, content, source, disk.sector_size, assembler, told, tell)
        except ExchangeError as error:
            where = f" (before {source.place})" if source and isinstance(error, PartcloneInvalid) else ""
            raise error.about(f"Partition {p.number} of {disk.name}{where}") from error
        before += source.at if source else 0
        tell(
            f"partition {p.number}: {filled.filesystem}, {filled.used >> 20} of {filled.size >> 20} MiB"
            + ("" if content else ", no content in the folder")
        )
        done.append(filled)
    # The manifest has them in the table's order.
    order = {p.number: at for at, p in enumerate(disk.partitions)}
    done.sort(key=lambda p: order[p.number])
    return assembler.finish(disk.table, done), before


def _gap(disk: ForeignDisk) -> Iterator[Piece]:
    """Boot code behind an MBR; always LBA 1, as capture does (imaging.disk.table.boot_gap)."""
    if not isinstance(disk.table, MbrTable):
        return
    size = disk.sector_size
    first = min(
        [p.start for p in disk.partitions]
        + [ebr.start for ebr in disk.table.chain]
        + [start for start, _ in extended_area(disk.table, size)]
    )
    data = disk.gap[: max(first - size, 0)].rstrip(b"\0")
    length = max(-(-len(data) // size), 1) * size
    if first >= 2 * size:
        yield size, data.ljust(length, b"\0")


def _fill(
    p: Partition,
    content: Packed | Swap | None,
    source: streams.Joined | None,
    sector_size: int,
    assembler: Assembler,
    told: Callable[[int], None],
    tell: Callable[[str], None],
) -> Partition:
    """Put one partition's content; returns the partition with what was found in it."""
    if content is None:
        return dataclasses.replace(p, capture="none", used=0)
    if isinstance(content, Swap):
        try:
            page = swap.header(p.size, content.uuid, content.label)
        except ValueError:
            raise FolderInvalid(f"Its UUID {content.uuid[:40]!r} is malformed: repair that file.") from None
        assembler.put(p.start, page[: p.size])
        return dataclasses.replace(
            p,
            filesystem="swap",
            uuid=content.uuid,
            label=content.label[:15],
            capture="header",
            used=len(page),
        )
    assert source is not None
    pieces = _raw(source, p) if content.raw else _blocks(source, p, sector_size, tell)
    head, used, at = bytearray(min(_PROBED, p.size)), 0, 0
    for offset, data in pieces:
        if offset < len(head):
            part = data[: len(head) - offset]
            head[offset : offset + len(part)] = part
        assembler.put(p.start + offset, data)
        used += len(data)
        if source.at - at >= streams.PIECE:
            at = source.at
            told(at)
    told(source.at)
    found = probe.probe(lambda offset, length: bytes(head[offset : offset + length]), p.size)
    if found.dirty:
        tell(f"partition {p.number}: {found.dirty} before the next capture")
    tail = _ntfs_copy(head, p, used, sector_size) if found.kind == "ntfs" else None
    if tail is not None and tail[0] >= assembler.end - p.start:
        assembler.put(p.start + tail[0], tail[1])
        used += len(tail[1])
    return dataclasses.replace(
        p,
        filesystem=found.kind,
        label=found.label,
        uuid=found.uuid,
        capture="whole" if used == p.size else "used",
        used=used,
    )


def _raw(source: streams.Joined, p: Partition) -> Iterator[Piece]:
    """The bytes of a partition as they are, in whole pieces."""
    feed = streams.Feed(streams.plain(source))
    at = 0
    while data := feed.take(min(streams.PIECE, p.size - at)):
        if len(data) % 512:
            raise FolderInvalid(
                f"Its file ends in the middle of a sector, at byte {at + len(data)}: copy it again."
            )
        yield at, data
        at += len(data)
    if not feed.ended():
        raise FolderInvalid(f"Its file has more than the {p.size} bytes of the partition: it is another's.")
    if at != p.size:
        raise FolderInvalid(f"Its file has {at} bytes, the partition {p.size}: a piece is missing.")


def _blocks(
    source: streams.Joined, p: Partition, sector_size: int, tell: Callable[[str], None]
) -> Iterator[Piece]:
    image = partclone.Image(streams.plain(source))
    if image.end > p.size:
        raise FolderInvalid(
            f"Its image needs {image.end} bytes, the partition has {p.size}: table and image do not belong "
            "together."
        )
    if image.header.block_size % sector_size:
        raise FolderInvalid(
            f"Its image has blocks of {image.header.block_size} bytes, less than a sector of this disk: "
            "restore it with partclone, and capture that disk."
        )
    size = image.header.blocks * image.header.block_size
    if p.size - size >= streams.PIECE and image.header.filesystem != "raw":
        tell(
            f"partition {p.number}: its file system has {size >> 20} MiB of {p.size >> 20}; it was shrunk, "
            "and its own system can grow it"
        )
    yield from image.blocks()


def _ntfs_copy(head: bytearray, p: Partition, used: int, sector_size: int) -> tuple[int, bytes] | None:
    """The copy of NTFS's boot sector behind its last cluster, which partclone leaves out (ntfsfixboot).

    (offset, bytes) in the partition; None when it does not fit. Bytes 11 and 40 of the boot sector are bytes
    per sector and sectors of the volume.
    """
    sector = int.from_bytes(head[11:13], "little")
    place = int.from_bytes(head[40:48], "little") * sector
    if not used or sector != sector_size or place + sector > p.size:
        return None
    return place, bytes(head[:sector])
