"""Appending to packs: numbers that are never used twice, the reserve of free space, and what must be synced.

A number is never given again: a reader of another process that looked a place up a moment ago must meet
either the bytes it was promised or no file, never the records of a younger pack.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from imaging.errors import StoreError, StoreFull
from imaging.store.packs import (
    PACK_HEAD,
    PACK_MAGIC,
    PACK_VERSION,
    Place,
    pack_numbers,
    pack_path,
    sync_directory,
)

FULL = (errno.ENOSPC, errno.EDQUOT)


class PackDirectory:
    """The directory of packs. ``size`` is what a pack grows to, ``reserve`` what stays free."""

    def __init__(self, path: Path, reserve: int, size: int) -> None:
        self.path, self.reserve, self.size = path, reserve, size

    def free(self) -> int:
        """Bytes that the file system has left for us."""
        stat = os.statvfs(self.path)
        return stat.f_bavail * stat.f_frsize

    def room(self, needed: int) -> int:
        """Bytes that would be left above the reserve. Raises StoreFull, with numbers, when there are none."""
        free = self.free()
        if free - needed < self.reserve:
            raise self.full(needed, free)
        return free - needed - self.reserve

    def full(self, needed: int, free: int | None = None) -> StoreFull:
        """The error to raise when ``needed`` bytes found no room."""
        return StoreFull(str(self.path.parent), needed, self.free() if free is None else free, self.reserve)

    def create(self, highest: int) -> tuple[int, int]:
        """(number, descriptor) of a new pack with its head; its number is above ``highest``. OSError."""
        numbers = pack_numbers(self.path)
        number = max(highest, numbers[-1] if numbers else 0)
        while True:
            number += 1
            try:
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                fd = os.open(pack_path(self.path, number), flags, 0o600)
            except FileExistsError:  # two writers began a pack at once
                continue
            break
        try:
            os.write(fd, PACK_HEAD.pack(PACK_MAGIC, PACK_VERSION, 0))
            sync_directory(self.path)
        except BaseException:
            os.close(fd)
            raise
        return number, fd

    def unlink(self, number: int) -> int:
        """Delete a pack for good; the bytes freed, 0 when it was gone already. Raises StoreError."""
        path = pack_path(self.path, number)
        try:
            size = path.stat().st_size
            path.unlink()
            sync_directory(self.path)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise StoreError(f"The pack {path} cannot be deleted: {error.strerror}.") from error
        return size


class Unsynced(NamedTuple):
    """What a commit must sync: packs that are full (closed afterwards) and the open one (-1: none)."""

    full: tuple[int, ...]
    open: int

    def sync(self) -> None:
        """OSError: then nobody knows what is on the disk."""
        for fd in self.full:
            os.fsync(fd)
        if self.open >= 0:
            os.fsync(self.open)

    def close(self) -> None:
        for fd in self.full:
            os.close(fd)


class PackWriter:
    """Appends records to a pack of its own and begins the next when it is full. The caller locks."""

    def __init__(self, packs: PackDirectory, highest: Callable[[], int]) -> None:
        """``highest()`` is the highest pack number ever used, as the index knows it."""
        self._packs, self._highest = packs, highest
        self._fd, self._number, self._end = -1, 0, 0
        self._full: list[int] = []

    @property
    def pack(self) -> int:
        """Number of the pack that is being written, 0 for none."""
        return self._number if self._fd >= 0 else 0

    def resume(self, number: int, end: int) -> None:
        """Go on with a pack whose every byte is indexed. OSError."""
        self._fd = os.open(pack_path(self._packs.path, number), os.O_RDWR | os.O_CLOEXEC)
        self._number, self._end = number, end

    def append(self, head: bytes, frame: bytes, plain: int) -> Place:
        """Write one record; readable at once, durable after the next commit. Raises StoreFull, StoreError."""
        size = len(head) + len(frame)
        self._packs.room(size)
        try:
            if self._fd < 0 or self._end + size > self._packs.size:
                self._begin()
            written = os.pwritev(self._fd, [head, frame], self._end)
            if written != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # What was written in part lies behind the end: the next record overwrites it, or recovery skips
            # it.
            if error.errno in FULL:
                raise self._packs.full(size) from error
            raise StoreError(
                f"The store {self._packs.path.parent} cannot be written: {error.strerror}."
            ) from error
        place = Place(self._number, self._end, len(frame), plain)
        self._end += size
        return place

    def _begin(self) -> None:
        if self._fd >= 0:
            self._full.append(self._fd)
            self._fd = -1
        self._number, self._fd = self._packs.create(max(self._highest(), self._number))
        self._end = PACK_HEAD.size

    def unsynced(self) -> Unsynced:
        """What a commit must sync now; it closes the full ones."""
        full, self._full = tuple(self._full), []
        return Unsynced(full, self._fd)

    def leave(self) -> None:
        """Write no more to the open pack; the next record begins a new one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        for fd in self._full:
            os.close(fd)
        self._full = []
        self.leave()
