"""A partition that was cut, and the bytes behind its new end, as one device for the shrinking tool.

On a machine the device mapper puts the partition and the memory that holds the rest end to end. Where the
kernel has none (simulated hosts on disk files) the used bytes are copied into a sparse file beside, and back
when the file system fits.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Iterable, Iterator

from imaging.chunks import write_exactly
from imaging.disk.device import Disk
from imaging.disk.loop import loop_device
from imaging.resize import mapper

_PIECE = 1 << 20
_PUNCH_HOLE = 2 | 1  # linux/falloc.h: FALLOC_FL_PUNCH_HOLE needs FALLOC_FL_KEEP_SIZE
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def rejoined(
    disk: Disk, start: int, size: int, spill: int, full: int, used: Iterable[tuple[int, int]]
) -> Iterator[str]:
    """Yield a device of ``full`` bytes: ``size`` bytes from ``start`` of the disk, then the file ``spill``.

    When the block ends without an exception, what it left in the first ``size`` bytes is on the disk; the
    rest is lost. ``used`` are the used (start, length) on the disk: only these need copying where copying is
    needed. Raises ResizeFailed, DiskError.
    """
    if disk.is_block and mapper.available():
        with (
            loop_device(disk.fd, offset=start, size=size, sector_size=disk.sector_size, write=True) as first,
            loop_device(spill, size=full - size, sector_size=disk.sector_size, write=True) as second,
            mapper.joined([(first, size), (second, full - size)]) as path,
        ):
            yield path
        return
    beside = None if disk.is_block else os.path.dirname(os.path.abspath(disk.path))
    with tempfile.TemporaryFile(prefix=".pxeboot-whole-", dir=beside) as file:
        whole = file.fileno()
        os.ftruncate(whole, full)
        for at, length in used:
            begin, end = max(at, start), min(at + length, start + size)
            _copy(disk.fd, begin, whole, begin - start, end - begin)
        _copy_data(spill, whole, size, full - size)
        with loop_device(whole, sector_size=disk.sector_size, write=True) as path:
            yield path
        os.fsync(whole)
        os.ftruncate(whole, size)
        done = 0
        for at, length in [*_data(whole, size), (size, 0)]:
            # A hole may be what a tool zeroed: there the disk must not keep what it has.
            _zero(disk.fd, start + done, at - done)
            _copy(whole, at, disk.fd, start + at, length)
            done = at + length
        disk.sync()


def _copy(source: int, at: int, target: int, to: int, length: int) -> None:
    while length > 0:
        piece = os.pread(source, min(_PIECE, length), at)
        if not piece:
            return
        write_exactly(target, memoryview(piece), to)
        at, to, length = at + len(piece), to + len(piece), length - len(piece)


def _copy_data(source: int, target: int, to: int, length: int) -> None:
    for at, size in _data(source, length):
        _copy(source, at, target, to + at, size)


def _zero(fd: int, at: int, length: int) -> None:
    if length <= 0:
        return
    arguments = (ctypes.c_int(fd), ctypes.c_int(_PUNCH_HOLE), ctypes.c_long(at), ctypes.c_long(length))
    if _libc.fallocate(*arguments) == 0:
        return
    while length > 0:
        piece = bytes(min(_PIECE, length))
        write_exactly(fd, memoryview(piece), at)
        at, length = at + len(piece), length - len(piece)


def _data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, length) of a sparse file's parts that are not holes."""
    at = 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole up to the end
            return
        at = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        if begin < at:
            yield begin, at - begin
