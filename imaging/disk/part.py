"""A part of a disk as a path that other programs can read: a loop device, or where none may be had, a copy.

Only a server that imports disk files without being root has to copy: one partition of a plain file at a time,
holes staying holes.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from imaging.disk.device import Disk
from imaging.disk.loop import loop_device
from imaging.errors import DiskError

_PIECE = 1 << 20


def may_loop() -> bool:
    """Whether this process may make loop devices."""
    return os.access("/dev/loop-control", os.R_OK | os.W_OK)


@contextlib.contextmanager
def readable(disk: Disk, start: int, size: int) -> Iterator[str]:
    """The path of ``size`` bytes from ``start`` of an open disk, for reading. Raises DiskError."""
    if disk.is_block or may_loop():
        with loop_device(disk.fd, offset=start, size=size, sector_size=disk.sector_size) as device:
            yield device
        return
    folder = os.path.dirname(disk.path) or "."
    try:
        with tempfile.NamedTemporaryFile(
            prefix=".pxeboot-part-", dir=folder if os.access(folder, os.W_OK) else None
        ) as file:
            _copy(disk.fd, file.fileno(), start, size)
            yield file.name
    except OSError as error:
        raise DiskError(
            f"A partition of {disk.path} cannot be copied to look at it: {error.strerror}."
        ) from error


def _copy(source: int, target: int, start: int, size: int) -> None:
    os.ftruncate(target, size)
    at, end = start, start + size
    while at < end:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # no data behind
            return
        stop = min(os.lseek(source, at, os.SEEK_HOLE), end)
        while at < stop:
            data = os.pread(source, min(_PIECE, stop - at), at)
            if not data:
                return
            os.pwrite(target, data, at - start)
            at += len(data)
