"""Sets of chunk indexes and their shortest form on the wire.

Two shapes, each where it is cheap. A receiver holds a `ChunkSet`, one byte per chunk: membership, asked for
every batch of datagrams, is one index. A sender holds one `int` per receiver, bit i for chunk i: the union of
thirty receivers is thirty ORs that run in C. On the wire a *span* of chunks travels as a bitmap or as runs,
whichever reaches further in the room there is.
"""

import re
from collections.abc import Iterable, Iterator

_RUN = re.compile(b"\x01+")

BITMAP = 1
RUNS = 2
_FEW = 32  # runs; a set of that kind is the usual one, and shifting it a hundred times as fast


class RangesError(ValueError):
    """The encoded span is not one that `encode_span` could have made."""


class ChunkSet:
    """A set of indexes below `size`, with a byte per index."""

    __slots__ = ("_flags", "count", "size")

    def __init__(self, size: int, members: Iterable[int] = ()) -> None:
        self.size = size
        self.count = 0
        self._flags = bytearray(size)
        for index in members:
            self.add(index)

    def __contains__(self, index: int) -> bool:
        return 0 <= index < self.size and self._flags[index] == 1

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        for start, length in self.ranges():
            yield from range(start, start + length)

    def add(self, index: int) -> bool:
        """Put `index` in; False if it was there. Raises IndexError outside 0..size-1."""
        if not 0 <= index < self.size:
            raise IndexError(f"chunk {index} of {self.size}")
        if self._flags[index]:
            return False
        self._flags[index] = 1
        self.count += 1
        return True

    def discard(self, index: int) -> bool:
        """Take `index` out; False if it was not there."""
        if index not in self:
            return False
        self._flags[index] = 0
        self.count -= 1
        return True

    def ranges(self, start: int = 0) -> Iterator[tuple[int, int]]:
        """Runs of members from `start` on, as (first, length), ascending."""
        for match in _RUN.finditer(self._flags, start):
            yield match.start(), match.end() - match.start()

    def bits(self, start: int, count: int) -> int:
        """The members in start..start+count-1 as an integer, bit 0 for `start`."""
        window = self._flags[start : start + count]
        window.reverse()
        return int(window.translate(_DIGITS), 2) if window else 0


_DIGITS = bytes([48, 49]) + bytes(48 for _ in range(254))


def next_bit(bits: int, start: int) -> int:
    """The lowest set bit at or above `start`, or -1."""
    rest = bits >> start
    return -1 if not rest else start + (rest & -rest).bit_length() - 1


def bit_ranges(bits: int) -> list[tuple[int, int]]:
    """Runs of set bits as (first, length), ascending."""
    digits = format(bits, "b")[::-1].encode()
    return [(m.start(), m.end() - m.start()) for m in re.finditer(b"1+", digits)]


def bits_of(indexes: Iterable[int], size: int) -> int:
    """An integer with those bits set; every index below `size`."""
    flags = bytearray(b"0" * max(size, 1))
    for index in indexes:
        flags[size - 1 - index] = 49
    return int(flags, 2)


def encode_span(chunks: ChunkSet, first: int, budget: int) -> tuple[int, int, bytes]:
    """The members from `first` on, in at most `budget` bytes: (chunks covered, BITMAP or RUNS, bytes).

    Covers as many chunks as fit, up to the end of the set. Runs are LEB128 pairs of (gap since the end of the
    last run, length of the run - 1); a bitmap has bit 0 of byte 0 for `first`; zero bytes at the end are left
    out.
    """
    runs = bytearray()
    position, reached = first, chunks.size
    for start, length in chunks.ranges(first):
        pair = _leb128(start - position) + _leb128(length - 1)
        if len(runs) + len(pair) > budget:
            # What is known for certain: nothing is wanted between the last run and this one.
            reached = start
            break
        runs += pair
        position = start + length
    covered = min(chunks.size - first, budget * 8)
    if reached - first > covered:
        return reached - first, RUNS, bytes(runs)
    bits = chunks.bits(first, covered)
    bitmap = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    if reached - first == covered and len(runs) <= len(bitmap):
        return covered, RUNS, bytes(runs)
    return covered, BITMAP, bitmap


def decode_span(count: int, encoding: int, data: bytes) -> int:
    """The inverse: an integer of at most `count` bits. Raises RangesError."""
    if encoding == BITMAP:
        bits = int.from_bytes(data, "little")
        if bits.bit_length() > count:
            raise RangesError("bitmap longer than its span")
        return bits
    if encoding != RUNS:
        raise RangesError(f"unknown encoding {encoding}")
    runs: list[tuple[int, int]] = []  # gap, length
    position = offset = 0
    while offset < len(data):
        gap, offset = _read_leb128(data, offset)
        length, offset = _read_leb128(data, offset)
        runs.append((gap, length + 1))
        position += gap + length + 1
        if position > count:
            raise RangesError("run beyond its span")
    if len(runs) <= _FEW:
        bits = 0
        for gap, length in reversed(runs):
            bits = (bits << length | (1 << length) - 1) << gap
        return bits
    # int() of base 2 is linear, where shifting each run into place would be quadratic.
    return int("".join(["0" * gap + "1" * length for gap, length in runs])[::-1], 2)


def _leb128(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_leb128(data: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if offset >= len(data):
            break
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
    raise RangesError("unfinished number")
