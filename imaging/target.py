"""A disk that an image disk is put on: its chunks where the placement says, its table, its unused space.

An :class:`Assignment` says which disk of the image goes where; it lives as long as the deploy. A
:class:`Target` is the disk while it is open, to be read and written by several threads at once.
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType

from imaging.chunks import hash_chunk, read_in_place, write_exactly
from imaging.disk.device import Disk
from imaging.disk.table import boot_area, read_table, table_right, write_table
from imaging.errors import DiskError, DiskTooSmall, UnsupportedDisk
from imaging.manifest import ChunkRef, DiskImage, Manifest, Partition
from imaging.placement import Placement, Wishes, plan

#: Unused bytes this near to a partition's ends are zeroed: signatures of what was there before lie in them,
#: and would make blkid see two file systems (Btrfs at 64 KiB, md 0.90/1.0 and ZFS in the last 128 KiB).
WIPE = 128 << 10
#: Smaller unused places are not discarded: one command costs more than they are worth.
_DISCARD_FROM = 1 << 20
#: Bytes per command, so that a stop is heard.
_DISCARD_STEP = 4 << 30
_BLKDISCARD = 0x1277  # linux/fs.h
_PUNCH_HOLE = 2 | 1  # linux/falloc.h: FALLOC_FL_PUNCH_HOLE needs FALLOC_FL_KEEP_SIZE


@dataclass
class Assignment:
    """Disk ``number`` of an image goes on the disk ``path``; ``placement`` None = everything where it was."""

    number: int
    path: str
    placement: Placement | None = None
    spill: int = -1
    """Open file for what lies behind the end of ``placement.cut``; the caller's to close."""
    parts: dict[int, bytes] = field(default_factory=dict)
    """Hashes of the written bytes of chunks that are written only in part (:meth:`Target.write`)."""


def check_target(disk: Disk, image: DiskImage) -> None:
    """Raises DiskTooSmall with the numbers, or UnsupportedDisk when the sector sizes differ."""
    if disk.size < image.minimum_size:
        raise DiskTooSmall(disk.path, image.minimum_size, disk.size)
    check_sectors(disk, image)


def check_sectors(disk: Disk, image: DiskImage) -> None:
    """Raises UnsupportedDisk when the disk's sectors are not those of the image."""
    if disk.sector_size != image.sector_size:
        raise UnsupportedDisk(
            f"The disk {disk.path} has {disk.sector_size}-byte sectors, the image was captured from one with "
            f"{image.sector_size}: choose a disk like that one, or capture an image from one like this."
        )


def assign(
    manifest: Manifest, number: int, path: str, options: Wishes, *, spill_limit: int = 0
) -> Assignment:
    """Plan disk ``number`` of the image on ``path``; nothing is written. The spill, if any, is not made yet.

    Raises what :func:`imaging.placement.plan` raises, and UnsupportedDisk, DiskBusy, DiskError.
    """
    image = manifest.disks[number]
    with Disk(path, sector_size=image.sector_size) as disk:
        check_sectors(disk, image)
        present = read_table(disk)[1] if options.partitions is not None else None
        placement = plan(image, disk.size, options, present=present, spill_limit=spill_limit, path=path)
    return Assignment(number, path, placement)


class Target:
    """One open target; :meth:`matches` and :meth:`write` may be called from any thread."""

    def __init__(
        self, manifest: Manifest, assignment: Assignment, *, write: bool, shared: bool = False
    ) -> None:
        """``shared``: beside whoever else has the disk open. Raises DiskTooSmall, UnsupportedDisk, DiskBusy,
        DiskError."""
        self.image = manifest.disks[assignment.number]
        self.disk = Disk(assignment.path, write=write, sector_size=self.image.sector_size, shared=shared)
        try:
            self.placement = self._placement(assignment.placement)
        except BaseException:
            self.disk.close()
            raise
        self._spill, self._parts = assignment.spill, assignment.parts
        self._straight = self.placement.is_identity

    def _placement(self, given: Placement | None) -> Placement:
        if given is None:
            check_target(self.disk, self.image)
            return Placement.identity(self.image, self.disk.size)
        check_sectors(self.disk, self.image)
        if given.size != self.disk.size:
            raise UnsupportedDisk(
                f"The disk {self.disk.path} has {self.disk.size} bytes now, and had {given.size} a moment "
                "ago: check its cable, then try again."
            )
        return given

    # -- chunks --

    def _pieces(self, ref: ChunkRef) -> Iterator[tuple[int, int, int, int]]:
        """(start in the chunk, bytes, open file, place in it) of everything of a chunk that is written."""
        if self._straight:
            for start, size in ref.runs:
                yield start, size, self.disk.fd, ref.offset + start
            return
        end = self.placement.size
        for start, size in ref.runs:
            for piece in self.placement.pieces(ref.offset + start, size):
                fd, place = (
                    (self.disk.fd, piece.target) if piece.target < end else (self._spill, piece.target - end)
                )
                yield piece.source - ref.offset, piece.length, fd, place

    def coverage(self, ref: ChunkRef) -> int:
        """How many of a chunk's used bytes are written here: all, or fewer where only partitions are."""
        if self.placement.only is None:
            return sum(size for _, size in ref.runs)
        return sum(size for _, size, _, _ in self._pieces(ref))

    def matches(self, ref: ChunkRef) -> bool:
        """Does the disk hold this chunk now, as far as it is written? Raises DiskError.

        A chunk that is written only in part cannot be compared with its hash: it matches when it reads as
        :meth:`write` left it, and not before.
        """
        hash = hash_chunk(read_in_place(ref.length, self._pieces(ref)))
        if hash == ref.hash:
            return True
        return self._parts.get(ref.index) == hash

    def read(self, ref: ChunkRef) -> memoryview | None:
        """The chunk as the image has it, None when the disk does not hold it; valid until this thread's next
        chunk. Raises DiskError."""
        data = read_in_place(ref.length, self._pieces(ref))
        return data if hash_chunk(data) == ref.hash else None

    def write(self, ref: ChunkRef, data: memoryview) -> int:
        """Put down the used bytes of a chunk whose content was checked; how many. Raises DiskError."""
        written, pieces = 0, list(self._pieces(ref))
        for start, size, fd, place in pieces:
            write_exactly(fd, data[start : start + size], place)
            written += size
        if self.placement.only is not None and written < sum(size for _, size in ref.runs):
            masked = bytearray(ref.length)
            for start, size, _, _ in pieces:
                masked[start : start + size] = data[start : start + size]
            self._parts[ref.index] = hash_chunk(masked)
        return written

    # -- the disk as a whole --

    def finish(self) -> None:
        """Clear what would confuse the system, then write the table; all is on the medium on return.

        The table comes last: a blank disk whose deploy was cut off does not look bootable. Raises DiskError.
        """
        for start, length in self._stale():
            write_exactly(self.disk.fd, memoryview(bytes(length)), start)
        self.sync()
        if self.placement.only is None:
            write_table(self.disk, self.image.table, self.placement.partitions, source=self.image.partitions)

    def table_right(self) -> bool:
        """Does the disk hold every byte of its table? (Yes where the table is not ours.) Raises DiskError."""
        if self.placement.only is not None:
            return True
        return table_right(
            self.disk, self.image.table, self.placement.partitions, source=self.image.partitions
        )

    def _written(self) -> list[Partition]:
        """Partitions whose content comes from the image (one without used bytes was left out of it)."""
        return [p for p in self.placement.partitions if self.placement.written(p.number) and p.used]

    def _stale(self) -> Iterator[tuple[int, int]]:
        runs = list(self.placement.placed(self.image.runs))
        if self.placement.only is None:
            table, partitions = self.image.table, self.placement.partitions
            yield from gaps(*boot_area(table, partitions, self.disk.size, self.disk.sector_size), runs)
        for p in self._written():
            if p.capture in ("whole", "none"):
                continue
            end = p.start + p.size
            for begin, stop in ((p.start, min(p.start + WIPE, end)), (max(end - WIPE, p.start), end)):
                yield from gaps(begin, stop, runs)

    def unused(self) -> Iterator[tuple[int, int]]:
        """(start, length) of places that are the image's and hold nothing, in the disk's order.

        With single partitions only inside these; never in a partition that the image has no content of.
        """
        runs = list(self.placement.placed(self.image.runs))
        if self.placement.only is None:
            kept = [(p.start, p.size) for p in self.placement.partitions if not p.used]
            runs = sorted(runs + kept)
            yield from gaps(self.image.head_size, self.disk.size - self.image.tail_size, runs)
            return
        for p in sorted(self._written(), key=lambda p: p.start):
            yield from gaps(p.start, p.start + p.size, runs)

    def discard(self, check: Callable[[], None] = lambda: None) -> int:
        """Tell the disk that unused places hold nothing (TRIM; holes in a file); bytes, 0 = it cannot.

        ``check`` is called between commands; what it raises stops. Raises DiskError.
        """
        total = 0
        for start, length in self.unused():
            begin = -(-start // _DISCARD_FROM) * _DISCARD_FROM
            end = (start + length) // _DISCARD_FROM * _DISCARD_FROM
            for at in range(begin, end, _DISCARD_STEP):
                check()
                size = min(_DISCARD_STEP, end - at)
                if not _discard(self.disk, at, size):
                    return 0
                total += size
        return total

    def sync(self) -> None:
        """Wait until everything written is on the medium; raises DiskError."""
        self.disk.sync()

    def close(self) -> None:
        self.disk.close()

    def __enter__(self) -> "Target":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def gaps(begin: int, end: int, runs: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(start, length) of what lies between ``begin`` and ``end`` and in no run; runs are ascending."""
    for start, length in runs:
        if start + length <= begin:
            continue
        if start >= end:
            break
        if start > begin:
            yield begin, start - begin
        begin = start + length
    if begin < end:
        yield begin, end - begin


def _discard(disk: Disk, start: int, length: int) -> bool:
    """One command; False when this disk knows none. Raises DiskError."""
    try:
        if disk.is_block:
            fcntl.ioctl(disk.fd, _BLKDISCARD, struct.pack("QQ", start, length))
            return True
        libc = ctypes.CDLL(None, use_errno=True)
        arguments = (disk.fd, _PUNCH_HOLE, ctypes.c_int64(start), ctypes.c_int64(length))
        if libc.fallocate(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            return False
        raise DiskError(
            f"Discarding unused space of the disk {disk.path} failed at byte {start} ({error.strerror}): "
            "deploy without discarding, or check the disk."
        ) from error
    return True
