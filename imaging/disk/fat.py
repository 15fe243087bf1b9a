"""FAT12, FAT16 and FAT32, as far as which clusters are in use and whether it was unmounted (fatgen103).

The file allocation table is the map of used clusters, and simple, so it is read here: partclone 0.3.23 leaves
out a part of FAT12's clusters, without a word.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from itertools import groupby

from imaging.disk.gpt import ReadAt
from imaging.errors import DiskError

_PIECE = 3 << 20  # bytes of the table at a time: a multiple of 12 bits, 16 bits and 32 bits
_BAD = {12: 0xFF7, 16: 0xFFF7, 32: 0x0FFFFFF7}


class FatError(DiskError):
    """The bytes are not a FAT that we understand; ``str()`` is half a sentence."""

    code = "filesystem-dirty"


class Fat:
    """The figures of a boot sector, in bytes from the partition's start. Raises FatError, DiskError."""

    def __init__(self, read_at: ReadAt) -> None:
        self._read = read_at
        boot = read_at(0, 512)
        sector, per_cluster, reserved, fats, roots, small, _, short = struct.unpack_from(
            "<HBHBHHBH", boot, 11
        )
        large, long = struct.unpack_from("<II", boot, 32)
        sectors, length = small or large, short or long
        if sector not in (512, 1024, 2048, 4096) or not per_cluster or per_cluster & (per_cluster - 1):
            raise FatError(f"clusters of {per_cluster} sectors of {sector} bytes")
        self.table = reserved * sector
        root = -(-roots * 32 // sector)
        self.data = (reserved + fats * length + root) * sector
        self.cluster = per_cluster * sector
        self.clusters = (sectors * sector - self.data) // self.cluster
        # The number of clusters alone decides the kind; a FAT32 of few clusters says so by its other layout.
        self.bits = 32 if not short else 12 if self.clusters < 4085 else 16
        self.state = boot[65 if not short else 37]
        if not reserved or not fats or not length or not 0 < self.clusters <= 0x0FFFFFF4:
            raise FatError("a boot sector that contradicts itself")
        if (self.clusters + 2) * self.bits > length * sector * 8:
            raise FatError("a table that is too short")

    def used_runs(self) -> Iterator[tuple[int, int]]:
        """(start, length) of boot sectors, tables and used clusters, ascending. Bad clusters are not used."""
        yield 0, self.data
        number = 0
        bad = _BAD[self.bits]
        for entries in self._entries():
            for used, group in groupby(entries, lambda entry: entry != 0 and entry != bad):
                count = sum(1 for _ in group)
                first, last = max(number, 2), min(number + count, self.clusters + 2)
                if used and first < last:
                    yield self.data + (first - 2) * self.cluster, (last - first) * self.cluster
                number += count

    def _entries(self) -> Iterator[list[int] | array[int]]:
        """The table's entries in pieces, from number 0 on."""
        total = -(-(self.clusters + 2) * self.bits // 8)
        for at in range(0, total, _PIECE):
            data = self._read(self.table + at, min(_PIECE, total - at))
            if self.bits == 12:
                yield [
                    entry
                    for at in range(0, len(data), 3)
                    for entry in _pair(data[at : at + 3].ljust(3, b"\0"))
                ]
            else:
                entries = array("H" if self.bits == 16 else "I", data)
                if sys.byteorder == "big":
                    entries.byteswap()
                if self.bits == 32:  # the four highest bits are not part of it
                    entries = array("I", [entry & 0x0FFFFFFF for entry in entries])
                yield entries

    def why_dirty(self) -> str:
        """Half a sentence with the remedy; "" when it was unmounted."""
        flags = 3  # FAT12 has no room for them
        if self.bits == 32:
            flags = struct.unpack("<I", self._read(self.table + 4, 4))[0] >> 26 & 3
        elif self.bits == 16:
            flags = struct.unpack("<H", self._read(self.table + 2, 2))[0] >> 14
        if not flags & 1:
            return "its disk had errors: check it (Windows: chkdsk /r, Linux: fsck.fat -a)"
        # Windows clears the bit in the table, Linux sets the one in the boot sector, while it is in use.
        if not flags & 2 or self.state & 1:
            return "it was not unmounted: check it (Windows: chkdsk /f, Linux: fsck.fat -a)"
        return ""


def _pair(three: bytes) -> tuple[int, int]:
    return three[0] | (three[1] & 15) << 8, three[1] >> 4 | three[2] << 4
