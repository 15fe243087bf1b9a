"""Parity symbols: a systematic Reed-Solomon code, by ISA-L or by Python alone.

Both give the same bytes. A frame of n symbols is cut into ⌈n / 232⌉ *blocks*, symbol j into block
j mod blocks, so that a burst of losses spreads over them. The K source symbols of a block are the values of a
polynomial of degree below K at the first K points of a field; its parity symbol of row r is the value at the
K + r'th. Any K symbols of the block give all the others (Rizzo, "Effective erasure codes for reliable
computer communication protocols", 1997).

The first 256 points are those of GF(256), of polynomial 0x11D: 0, 1, a, a², … (a = 2; zfec has the same and
so the same bytes). A large block leaves only two dozen of them to parity, which a room that loses 5 % uses
up. The points after them are of GF(65536), seen as pairs lo + hi × w over GF(256), where w² = w + 32: point i
is lo = i mod 256, hi = i div 256. To compute with such a *far* row, the first half of each symbol is its lo,
the second its hi. Since the first 256 points are the pairs with hi = 0, it is one code.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Protocol

#: Source symbols of a block at most.
MAX_BLOCK = 232
#: Source and parity symbols of a block at most.
POINTS = 4096

_EXP = [1] * 512
for _i in range(1, 512):
    _EXP[_i] = _EXP[_i - 1] << 1 ^ (0x11D if _EXP[_i - 1] & 0x80 else 0)
_LOG = [0] * 256
for _i in range(255):
    _LOG[_EXP[_i]] = _i
_POINTS = [0, *_EXP[:255]]
# w² = w + _C. That x² + x = _C has no solution in GF(256) makes the pairs a field.
_C = 32


def blocks_of(symbols: int) -> int:
    """Into how many blocks a frame of so many symbols is cut."""
    return -(-symbols // MAX_BLOCK)


def sources_of(symbols: int, blocks: int, block: int) -> int:
    """How many source symbols a block has."""
    return (symbols - block + blocks - 1) // blocks


def rows_of(sources: int) -> int:
    """How many parity symbols a block of so many source symbols can have."""
    return POINTS - sources


def multiply(a: int, b: int) -> int:
    """The product of two elements of GF(256)."""
    return _EXP[_LOG[a] + _LOG[b]] if a and b else 0


@lru_cache(256)
def _weights(sources: int) -> list[int]:
    """Logarithms of 1 / prod(x_j - x_m, m ≠ j): the part of Lagrange's formula that belongs to a source."""
    points = _POINTS[:sources]
    return [-sum(_LOG[x ^ other] for other in points if other != x) % 255 for x in points]


@lru_cache(4096)
def coefficients(sources: int, row: int) -> bytes:
    """What each source symbol is multiplied by in the parity symbol `row` of its block (Lagrange).

    Raises IndexError for a far row.
    """
    x = _POINTS[sources + row]
    distances = [_LOG[x ^ point] for point in _POINTS[:sources]]
    whole = sum(distances) % 255
    return bytes(
        _EXP[(whole - distance + weight) % 255]
        for distance, weight in zip(distances, _weights(sources), strict=True)
    )


@lru_cache(1024)
def half_coefficients(sources: int, row: int) -> tuple[bytes, bytes]:
    """The same for the two halves of a parity symbol, each a sum over all halves of the source symbols."""
    if sources + row < 256:
        near = coefficients(sources, row)
        zero = bytes(sources)
        return _alternate(near, zero), _alternate(zero, near)
    hi, lo = divmod(sources + row, 256)
    square = multiply(multiply(hi, hi), _C)
    # Of the whole product and then of each coefficient: a + b × w.
    whole_a, whole_b = 1, 0
    for point in _POINTS[:sources]:
        whole_a, whole_b = _times_pair(whole_a, whole_b, lo ^ point, hi)
    a, b = bytearray(), bytearray()
    for point, weight in zip(_POINTS[:sources], _weights(sources), strict=True):
        # 1 / (d + hi × w) = (d + hi + hi × w) / (d × (d + hi) + hi² × _C)
        distance = lo ^ point
        norm = multiply(distance, distance ^ hi) ^ square
        scale = _EXP[(weight - _LOG[norm]) % 255]
        one, other = _times_pair(whole_a, whole_b, multiply(distance ^ hi, scale), multiply(hi, scale))
        a.append(one)
        b.append(other)
    both = bytes(one ^ other for one, other in zip(a, b, strict=True))
    return _alternate(a, b.translate(_times(_C))), _alternate(b, both)


@lru_cache(256)
def _times(factor: int) -> bytes:
    return bytes(multiply(factor, value) for value in range(256))


def _times_pair(a: int, b: int, c: int, d: int) -> tuple[int, int]:
    """(a + b × w) × (c + d × w)."""
    last = multiply(b, d)
    return multiply(a, c) ^ multiply(last, _C), multiply(a, d) ^ multiply(b, c) ^ last


def _alternate(even: bytes | bytearray, odd: bytes | bytearray) -> bytes:
    mixed = bytearray(2 * len(even))
    mixed[::2], mixed[1::2] = even, odd
    return bytes(mixed)


def _inverse(matrix: list[bytes]) -> list[bytes]:
    """Gauss and Jordan; `matrix` is a square part of the code's, so it has an inverse."""
    size = len(matrix)
    rows = [row + bytes(int(i == j) for j in range(size)) for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = _EXP[-_LOG[rows[column][column]] % 255]
        rows[column] = rows[column].translate(_times(scale))
        for i in range(size):
            if i != column and rows[i][column]:
                rows[i] = _xor(rows[i], rows[column].translate(_times(rows[i][column])))
    return [row[size:] for row in rows]


class Codec(Protocol):
    """One way to compute the code. Symbols of a call are all of the same size, which for far rows is even."""

    name: str

    def encode(self, sources: Sequence[bytes], rows: Sequence[int]) -> list[bytes]:
        """The parity symbols of these rows."""

    def decode(self, sources: Sequence[bytes | None], parity: Mapping[int, bytes]) -> list[bytes]:
        """All source symbols, given at least as many parity symbols (by row) as there are None."""


class _Linear:
    """Encoding and decoding for whoever can compute linear combinations of symbols."""

    def combine(self, rows: Sequence[bytes], symbols: Sequence[bytes]) -> list[bytes]:
        """For each row the sum of row[j] × symbols[j]; at least one row."""
        raise NotImplementedError

    def encode(self, sources: Sequence[bytes], rows: Sequence[int]) -> list[bytes]:
        """See Codec."""
        count = len(sources)
        near = [row for row in rows if count + row < 256]
        far = [row for row in rows if count + row >= 256]
        made: dict[int, bytes] = {}
        if near:
            symbols = self.combine([coefficients(count, row) for row in near], sources)
            made.update(zip(near, symbols, strict=True))
        if far:
            lines = [line for row in far for line in half_coefficients(count, row)]
            made.update(zip(far, _joined(self.combine(lines, _halves(sources))), strict=True))
        return [made[row] for row in rows]

    def decode(self, sources: Sequence[bytes | None], parity: Mapping[int, bytes]) -> list[bytes]:
        """See Codec. Only a matrix of the size of what is missing is inverted."""
        missing = [j for j, source in enumerate(sources) if source is None]
        chosen = sorted(parity)[: len(missing)]
        zero = bytes(len(parity[chosen[0]]))
        known = [zero if source is None else source for source in sources]
        values = [parity[row] for row in chosen]
        count = len(sources)
        if count + chosen[-1] < 256:
            return self._solve(known, missing, [coefficients(count, row) for row in chosen], values)
        lines = [line for row in chosen for line in half_coefficients(count, row)]
        gaps = [place for j in missing for place in (2 * j, 2 * j + 1)]
        return _joined(self._solve(_halves(known), gaps, lines, _halves(values)))

    def _solve(
        self, known: list[bytes], missing: list[int], rows: list[bytes], values: list[bytes]
    ) -> list[bytes]:
        """`known` with what is `missing` put in, whose sums by these rows are `values`."""
        rests = [_xor(value, part) for value, part in zip(values, self.combine(rows, known), strict=True)]
        inverse = _inverse([bytes(row[j] for j in missing) for row in rows])
        for j, symbol in zip(missing, self.combine(inverse, rests), strict=True):
            known[j] = symbol
        return known


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")


def _halves(symbols: Sequence[bytes]) -> list[bytes]:
    """The halves of symbols of even size, one after the other."""
    middle = len(symbols[0]) // 2
    return [half for symbol in symbols for half in (symbol[:middle], symbol[middle:])]


def _joined(halves: Sequence[bytes]) -> list[bytes]:
    return [first + second for first, second in zip(halves[::2], halves[1::2], strict=True)]


class IsaL(_Linear):
    """Intel's ISA-L (Debian: libisal2) by ctypes. Raises OSError or AttributeError where it is not."""

    name = "isa-l"

    def __init__(self) -> None:
        library: Any = ctypes.CDLL("libisal.so.2")
        self._tables, self._encode = library.ec_init_tables, library.ec_encode_data
        self._tables.restype = self._encode.restype = None

    def combine(self, rows: Sequence[bytes], symbols: Sequence[bytes]) -> list[bytes]:
        """See _Linear."""
        size, count, wanted = len(symbols[0]), len(symbols), len(rows)
        tables = ctypes.create_string_buffer(32 * count * wanted)
        self._tables(count, wanted, b"".join(rows), tables)
        results = [ctypes.create_string_buffer(size) for _ in rows]
        # c_char_p of a bytes object points into it; nothing is copied, and `symbols` keeps it alive.
        data = (ctypes.c_char_p * count)(*symbols)
        places = (ctypes.c_void_p * wanted)(*(ctypes.addressof(result) for result in results))
        self._encode(size, count, wanted, tables, data, places)
        return [result.raw for result in results]


class Plain(_Linear):
    """Python alone: a multiplication is a `bytes.translate`, an addition an XOR of long integers."""

    name = "python"

    def combine(self, rows: Sequence[bytes], symbols: Sequence[bytes]) -> list[bytes]:
        """See _Linear."""
        size = len(symbols[0])
        sums = []
        for row in rows:
            total = 0
            for factor, symbol in zip(row, symbols, strict=True):
                if factor:
                    total ^= int.from_bytes(symbol.translate(_times(factor)), "little")
            sums.append(total.to_bytes(size, "little"))
        return sums


@cache
def codec() -> Codec:
    """The fastest one this machine has."""
    try:
        return IsaL()
    except (OSError, AttributeError):
        return Plain()
