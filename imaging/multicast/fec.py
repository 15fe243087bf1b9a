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
from array import array
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple, Protocol

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
# Points as numbers: lo + 256 × hi.
_POINTS = [0, *_EXP[:255], *range(256, POINTS)]
# w² = w + _C. That x² + x = _C has no solution in GF(256) makes the pairs a field.
_C = 32
_GENERATOR = 4  # + w; its powers are all pairs but 0


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
def _times(factor: int) -> bytes:
    return bytes(multiply(factor, value) for value in range(256))


class _Field(NamedTuple):
    """GF(order + 1) by powers of a generator and their logarithms."""

    order: int
    power: Sequence[int]
    log: Sequence[int]


@cache
def _field(far: bool) -> _Field:
    if not far:
        return _Field(255, _EXP, _LOG)
    power, log = array("H", bytes(2 * 65536)), array("H", bytes(2 * 65536))
    by_generator, by_c = _times(_GENERATOR), _times(_C)
    lo, hi = 1, 0
    for i in range(65535):
        power[i] = value = hi << 8 | lo
        log[value] = i
        # (lo + hi × w) × (generator + w)
        lo, hi = by_generator[lo] ^ by_c[hi], lo ^ by_generator[hi] ^ hi
    return _Field(65535, power, log)


@lru_cache(512)
def _weights(sources: int, far: bool) -> list[int]:
    """Logarithms of 1 / prod(x_j - x_m, m ≠ j): the part of Lagrange's formula that belongs to a source."""
    order, _, log = _field(far)
    points = _POINTS[:sources]
    return [-sum(log[x ^ other] for other in points if other != x) % order for x in points]


@lru_cache(4096)
def _whole(sources: int, row: int, far: bool) -> int:
    """The logarithm of prod(x - x_m), of all sources: the part that belongs to a row."""
    order, _, log = _field(far)
    x = _POINTS[sources + row]
    whole: int = sum([log[x ^ point] for point in _POINTS[:sources]]) % order
    return whole


@lru_cache(4096)
def coefficients(sources: int, row: int, far: bool = False) -> Sequence[int]:
    """What each source symbol is multiplied by in the parity symbol `row` of its block (Lagrange)."""
    order, power, log = _field(far)
    x, whole = _POINTS[sources + row], _whole(sources, row, far)
    weights = _weights(sources, far)
    found = [
        power[(whole - log[x ^ point] + weight) % order]
        for point, weight in zip(_POINTS[:sources], weights, strict=True)
    ]
    return array("H", found) if far else bytes(found)


def _inverse(sources: int, missing: Sequence[int], rows: Sequence[int], far: bool) -> list[list[int]]:
    """The inverse of the coefficients of these sources in these rows; one line for each that is missing.

    They are 1 / (x_i - y_j), each line and column scaled: a matrix of Cauchy's, whose inverse has a formula.
    """
    order, power, log = _field(far)
    xs, ys = [_POINTS[sources + row] for row in rows], [_POINTS[j] for j in missing]
    weights = _weights(sources, far)
    logs = [[log[x ^ y] for x in xs] for y in ys]
    of_rows = [
        sum(column) - sum(log[x ^ other] for other in xs if other != x) - _whole(sources, row, far)
        for x, row, column in zip(xs, rows, zip(*logs, strict=True), strict=True)
    ]
    of_missing = [
        sum(line) - sum(log[y ^ other] for other in ys if other != y) - weights[j]
        for y, j, line in zip(ys, missing, logs, strict=True)
    ]
    return [
        [power[(of_row + part - distance) % order] for of_row, distance in zip(of_rows, line, strict=True)]
        for part, line in zip(of_missing, logs, strict=True)
    ]


def _lines(factors: Sequence[int]) -> tuple[bytes, bytes]:
    """Factors a + b × w for whole symbols, as factors for their halves: for the first and the second half."""
    a, b = bytes(factor & 255 for factor in factors), bytes(factor >> 8 for factor in factors)
    first, second = bytearray(2 * len(a)), bytearray(2 * len(a))
    first[::2], first[1::2] = a, b.translate(_times(_C))
    second[::2], second[1::2] = b, _xor(a, b)
    return bytes(first), bytes(second)


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
            symbols = self._sums([coefficients(count, row) for row in near], sources, False)
            made.update(zip(near, symbols, strict=True))
        if far:
            symbols = self._sums([coefficients(count, row, True) for row in far], sources, True)
            made.update(zip(far, symbols, strict=True))
        return [made[row] for row in rows]

    def decode(self, sources: Sequence[bytes | None], parity: Mapping[int, bytes]) -> list[bytes]:
        """See Codec. Only a matrix of the size of what is missing is inverted."""
        missing = [j for j, source in enumerate(sources) if source is None]
        chosen = sorted(parity)[: len(missing)]
        zero = bytes(len(parity[chosen[0]]))
        known = [zero if source is None else source for source in sources]
        count = len(sources)
        far = count + chosen[-1] >= 256
        parts = self._sums([coefficients(count, row, far) for row in chosen], known, far)
        rests = [_xor(parity[row], part) for row, part in zip(chosen, parts, strict=True)]
        found = self._sums(_inverse(count, missing, chosen, far), rests, far)
        for j, symbol in zip(missing, found, strict=True):
            known[j] = symbol
        return known

    def _sums(self, rows: Sequence[Sequence[int]], symbols: Sequence[bytes], far: bool) -> list[bytes]:
        """`combine` with factors of either field."""
        if not far:
            return self.combine([bytes(row) for row in rows], symbols)
        middle = len(symbols[0]) // 2
        halves = [half for symbol in symbols for half in (symbol[:middle], symbol[middle:])]
        sums = self.combine([line for row in rows for line in _lines(row)], halves)
        return [first + second for first, second in zip(sums[::2], sums[1::2], strict=True)]


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")


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
