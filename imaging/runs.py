"""Used runs of a disk and the 1 MiB grid they fall on, packed so that large disks stay cheap."""

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

CHUNK_SIZE = 1 << 20
#: Two used runs closer than this are one run: a seek costs more than writing the gap.
MERGE_GAP = 32 << 10


class Runs(Sequence[tuple[int, int]]):
    """Ascending, disjoint (start, length) pairs in bytes, packed in one array."""

    __slots__ = ("_flat",)

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._flat = array("Q")
        for start, length in pairs:
            self._flat.append(start)
            self._flat.append(length)

    @classmethod
    def unpack(cls, data: bytes) -> "Runs":
        """Read pairs of unsigned 64-bit big-endian integers."""
        runs = cls()
        runs._flat.frombytes(data)
        if sys.byteorder == "little":
            runs._flat.byteswap()
        return runs

    def pack(self) -> bytes:
        flat = array("Q", self._flat)
        if sys.byteorder == "little":
            flat.byteswap()
        return flat.tobytes()

    def __len__(self) -> int:
        return len(self._flat) // 2

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, index: slice) -> "Runs": ...
    def __getitem__(self, index: int | slice) -> "tuple[int, int] | Runs":
        if isinstance(index, slice):
            return Runs(self[i] for i in range(*index.indices(len(self))))
        count = len(self)
        if index < 0:
            index += count
        if not 0 <= index < count:
            raise IndexError("run index out of range")
        return self._flat[2 * index], self._flat[2 * index + 1]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        flat = iter(self._flat)
        return zip(flat, flat, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Runs) and self._flat == other._flat

    def __hash__(self) -> int:
        return hash(self._flat.tobytes())

    def __repr__(self) -> str:
        return f"Runs({list(self)!r})"


def merge_runs(pairs: Iterable[tuple[int, int]], gap: int = MERGE_GAP) -> Runs:
    """Sort, join what overlaps, and close gaps smaller than ``gap`` bytes."""

    def merged() -> Iterator[tuple[int, int]]:
        begin = end = -1
        for start, length in sorted(pairs):
            if length <= 0:
                continue
            if begin < 0:
                begin, end = start, start + length
            elif start - end < gap:
                end = max(end, start + length)
            else:
                yield begin, end - begin
                begin, end = start, start + length
        if begin >= 0:
            yield begin, end - begin

    return Runs(merged())


def count_chunks(runs: Runs) -> int:
    """How many chunks of the grid the runs touch; arithmetic only, so it is safe on untrusted runs."""
    total, last = 0, -1
    for start, length in runs:
        first, end = start // CHUNK_SIZE, (start + length - 1) // CHUNK_SIZE
        first = max(first, last + 1)
        if end >= first:
            total += end - first + 1
            last = end
    return total


class Grid:
    """The chunks that a disk's used runs touch: position and used runs of each, without their hashes."""

    __slots__ = ("_first_run", "_positions", "_runs", "_size")

    def __init__(self, size: int, runs: Runs) -> None:
        self._size, self._runs = size, runs
        self._positions, self._first_run = array("Q"), array("Q")
        last = -1
        for number, (start, length) in enumerate(runs):
            first, end = start // CHUNK_SIZE, (start + length - 1) // CHUNK_SIZE
            for position in range(max(first, last + 1), end + 1):
                self._positions.append(position)
                self._first_run.append(number)
            last = max(last, end)

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, ordinal: int) -> tuple[int, int, tuple[tuple[int, int], ...]]:
        """(offset, length, used runs relative to offset) of the ``ordinal``-th chunk of this disk."""
        offset = self._positions[ordinal] * CHUNK_SIZE
        length = min(CHUNK_SIZE, self._size - offset)
        end = offset + length
        runs = []
        for number in range(self._first_run[ordinal], len(self._runs)):
            start, size = self._runs[number]
            if start >= end:
                break
            begin, stop = max(start, offset), min(start + size, end)
            runs.append((begin - offset, stop - begin))
        return offset, length, tuple(runs)
