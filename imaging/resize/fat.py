"""Reading directories and finding files of a FAT file system without mounting it.

The EFI system partition must be looked at, and UUIDs in its small configuration files exchanged, also where
the kernel has no FAT driver (simulated hosts). Only reading is done here: :meth:`Fat.extents` tells where a
file's bytes lie, so that bytes can be replaced by as many others. Structures: Microsoft "FAT: General
Overview of On-Disk Format" 1.03 (fatgen103).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

ReadAt = Callable[[int, int], bytes]
"""(offset, length) -> exactly length bytes of the partition."""

_MAX_TABLE = 64 << 20  # bytes: 16 million clusters of FAT32; no system partition comes near
_MAX_DIRECTORY = 2 << 20  # 65536 entries of 32 bytes (fatgen103, "FAT Directory Structure")
_MAX_DEPTH = 12
_MAX_ENTRIES = 50_000
_VOLUME, _DIRECTORY, _LONG = 0x08, 0x10, 0x0F


class FatError(Exception):
    """This is not a FAT file system, or one that contradicts itself."""


class Entry(NamedTuple):
    """A file or directory: path with ``/``, size in bytes (0 for directories)."""

    path: str
    directory: bool
    size: int
    cluster: int


class Fat:
    """One FAT12, FAT16 or FAT32 file system; every method raises FatError where it is damaged."""

    def __init__(self, read_at: ReadAt) -> None:
        self._read_at = read_at
        boot = self._read(0, 512)
        if boot[510:512] != b"\x55\xaa":
            raise FatError("no boot sector")
        sector, per_cluster, reserved, fats, root_entries = struct.unpack_from("<HBHBH", boot, 11)
        sectors = struct.unpack_from("<H", boot, 19)[0] or struct.unpack_from("<I", boot, 32)[0]
        fat_sectors = struct.unpack_from("<H", boot, 22)[0] or struct.unpack_from("<I", boot, 36)[0]
        power = per_cluster and not per_cluster & (per_cluster - 1)
        if sector not in (512, 1024, 2048, 4096) or not power or not reserved or fats not in (1, 2):
            raise FatError("a boot sector that is not FAT's")
        root_sectors = -(-root_entries * 32 // sector)
        first = reserved + fats * fat_sectors + root_sectors
        self._clusters = max(0, sectors - first) // per_cluster
        # The number of clusters alone says which FAT it is (fatgen103, "FAT Type Determination").
        self._bits = 12 if self._clusters < 4085 else 16 if self._clusters < 65525 else 32
        self.cluster_size = sector * per_cluster
        self._data = first * sector
        table = fat_sectors * sector
        if not 0 < table <= _MAX_TABLE or self._clusters < 1:
            raise FatError("a boot sector with impossible sizes")
        self._table = self._read(reserved * sector, table)
        self._root_cluster = struct.unpack_from("<I", boot, 44)[0] if self._bits == 32 else 0
        self._root_place = ((reserved + fats * fat_sectors) * sector, root_entries * 32)

    def walk(self, below: str = "") -> Iterator[Entry]:
        """Everything below a directory, itself not included; names are compared without regard to case."""
        start = self.find(below) if below else Entry("", True, 0, self._root_cluster)
        if start is None or not start.directory:
            return
        seen = 0
        waiting = [(start, 0)]
        while waiting:
            here, depth = waiting.pop()
            for entry in self._directory(here):
                seen += 1
                if seen > _MAX_ENTRIES:
                    raise FatError("more entries than a system partition has")
                yield entry
                if entry.directory and depth < _MAX_DEPTH:
                    waiting.append((entry, depth + 1))

    def find(self, path: str) -> Entry | None:
        """The entry of this path, or None; names are compared without regard to case."""
        here: Entry | None = Entry("", True, 0, self._root_cluster)
        for name in path.strip("/").split("/"):
            if here is None or not here.directory:
                return None
            wanted = f"{here.path}/{name}".lstrip("/").lower()
            here = next((entry for entry in self._directory(here) if entry.path.lower() == wanted), None)
        return here

    def extents(self, entry: Entry) -> list[tuple[int, int]]:
        """Where a file's bytes lie in the partition: (offset, length), in the file's order."""
        left = entry.size
        found: list[tuple[int, int]] = []
        for cluster in self._chain(entry.cluster):
            if left <= 0:
                break
            length = min(left, self.cluster_size)
            offset = self._data + (cluster - 2) * self.cluster_size
            if found and sum(found[-1]) == offset:
                found[-1] = (found[-1][0], found[-1][1] + length)
            else:
                found.append((offset, length))
            left -= length
        if left > 0:
            raise FatError(f"{entry.path} is cut short")
        return found

    def read(self, entry: Entry, limit: int) -> bytes:
        """The first ``limit`` bytes of a file."""
        part = entry._replace(size=min(entry.size, limit))
        return b"".join(self._read(offset, length) for offset, length in self.extents(part))

    def _directory(self, entry: Entry) -> Iterator[Entry]:
        if entry.cluster < 2 and self._bits != 32 and not entry.path:
            data = self._read(*self._root_place)
        else:
            places = [self._data + (c - 2) * self.cluster_size for c in self._chain(entry.cluster)]
            if len(places) * self.cluster_size > _MAX_DIRECTORY + self.cluster_size:
                raise FatError("a directory that does not end")
            data = b"".join(self._read(place, self.cluster_size) for place in places)
        long: list[str] = []
        for at in range(0, len(data) - 31, 32):
            raw = data[at : at + 32]
            if raw[0] == 0:
                break
            attributes = raw[11]
            if raw[0] == 0xE5:
                long = []
            elif attributes & 0x3F == _LONG:
                # The last piece of a long name comes first; it has bit 6 set.
                long = [_piece(raw)] if raw[0] & 0x40 else [_piece(raw), *long]
            else:
                name = "".join(long).split("\0")[0] or _short(raw)
                long = []
                if attributes & _VOLUME or name in (".", ".."):
                    continue
                high, low, size = struct.unpack_from("<H4xHI", raw, 20)
                directory = bool(attributes & _DIRECTORY)
                cluster = low | (high << 16 if self._bits == 32 else 0)
                yield Entry(f"{entry.path}/{name}".lstrip("/"), directory, 0 if directory else size, cluster)

    def _chain(self, cluster: int) -> Iterator[int]:
        last = {12: 0xFF7, 16: 0xFFF7, 32: 0x0FFFFFF7}[self._bits]
        for _ in range(self._clusters + 1):
            if cluster >= last or cluster == 0:
                return
            if not 2 <= cluster < self._clusters + 2:
                raise FatError("a chain that leaves the file system")
            yield cluster
            cluster = self._next(cluster)
        raise FatError("a chain that does not end")

    def _next(self, cluster: int) -> int:
        try:
            if self._bits == 32:
                return int(struct.unpack_from("<I", self._table, cluster * 4)[0]) & 0x0FFFFFFF
            if self._bits == 16:
                return int(struct.unpack_from("<H", self._table, cluster * 2)[0])
            pair: int = struct.unpack_from("<H", self._table, cluster * 3 // 2)[0]
        except struct.error:
            raise FatError("a chain that leaves the table") from None
        return pair >> 4 if cluster & 1 else pair & 0xFFF

    def _read(self, offset: int, length: int) -> bytes:
        data = self._read_at(offset, length)
        if len(data) != length:
            raise FatError("a place outside the partition")
        return data


def _piece(raw: bytes) -> str:
    return (raw[1:11] + raw[14:26] + raw[28:32]).decode("utf-16-le", "replace").replace("\uffff", "")


def _short(raw: bytes) -> str:
    # 0x05 stands for 0xE5, which marks deleted entries. Byte 12: Windows NT's lower-case flags.
    base = (b"\xe5" if raw[0] == 5 else raw[:1]) + raw[1:8]
    name, suffix = (part.decode("cp437").rstrip() for part in (base, raw[8:11]))
    name = name.lower() if raw[12] & 0x08 else name
    suffix = suffix.lower() if raw[12] & 0x10 else suffix
    return f"{name}.{suffix}" if suffix else name
