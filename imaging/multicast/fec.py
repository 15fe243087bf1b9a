"""Parity symbols: a systematic Reed-Solomon code over GF(256), by ISA-L or by Python alone.

Both give the same bytes. A frame of n symbols is cut into ⌈n / 232⌉ *blocks*, symbol j into block
j mod blocks, so that a burst of losses spreads over them. The K source symbols of a block are the values of a
polynomial of degree below K at the points 0, 1, a, a², … (a = 2, field polynomial 0x11D); its parity symbol
of row r is the value at the K + r'th of these points. Any K symbols of the block give all the others
(Rizzo, "Effective erasure codes for reliable
computer communication protocols", 1997; zfec has the same points and so the same bytes).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Protocol

#: Source symbols of a block at most; 24 or more of the 256 points are left for parity.
MAX_BLOCK = 232

_EXP = [1] * 512
for _i in range(1, 512):
    _EXP[_i] = _EXP[_i - 1] << 1 ^ (0x11D if _EXP[_i - 1] & 0x80 else 0)
_LOG = [0] * 256
for _i in range(255):
    _LOG[_EXP[_i]] = _i
_POINTS = [0, *_EXP[:255]]


def blocks_of(symbols: int) -> int:
    """Into how many blocks a frame of so many symbols is cut."""
    return -(-symbols // MAX_BLOCK)


def sources_of(symbols: int, blocks: int, block: int) -> int:
    """How many source symbols a block has."""
    return (symbols - block + blocks - 1) // blocks


def rows_of(sources: int) -> int:
    """How many parity symbols a block of so many source symbols can have."""
    return 256 - sources


def multiply(a: int, b: int) -> int:
    """The product of two elements of the field."""
    return _EXP[_LOG[a] + _LOG[b]] if a and b else 0


@lru_cache(256)
def _weights(sources: int) -> list[int]:
    """Logarithms of 1 / prod(x_j - x_m, m ≠ j): the part of Lagrange's formula that belongs to a source."""
    points = _POINTS[:sources]
    return [-sum(_LOG[x ^ other] for other in points if other != x) % 255 for x in points]


@lru_cache(4096)
def coefficients(sources: int, row: int) -> bytes:
    """What each source symbol is multiplied by in the parity symbol `row` of its block (Lagrange)."""
    x = _POINTS[sources + row]
    distances = [_LOG[x ^ point] for point in _POINTS[:sources]]
    whole = sum(distances) % 255
    return bytes(
        _EXP[(whole - distance + weight) % 255]
        for distance, weight in zip(distances, _weights(sources), strict=True)
    )


def _inverse(matrix: list[list[int]]) -> list[bytes]:
    """Gauss and Jordan; `matrix` is a square part of the code's, so it has an inverse."""
    size = len(matrix)
    rows = [row + [int(i == j) for j in range(size)] for i, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(i for i in range(column, size) if rows[i][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = -_LOG[rows[column][column]] % 255
        rows[column] = [_EXP[_LOG[v] + scale] if v else 0 for v in rows[column]]
        for i in range(size):
            factor = rows[i][column]
            if i != column and factor:
                rows[i] = [v ^ multiply(factor, p) for v, p in zip(rows[i], rows[column], strict=True)]
    return [bytes(row[size:]) for row in rows]


class Codec(Protocol):
    """One way to compute the code. Symbols of a call are all of the same size."""

    name: str

    def encode(self, sources: Sequence[bytes], rows: Sequence[int]) -> list[bytes]:
        """The parity symbols of these rows."""

    def decode(self, sources: Sequence[bytes | None], parity: Mapping[int, bytes]) -> list[bytes]:
        """All source symbols, given at least as many parity symbols (by row) as there are None."""


class _Linear:
    """Encoding and decoding for whoever can compute linear combinations of symbols."""

    def combine(self, rows: Sequence[bytes], symbols: Sequence[bytes]) -> list[bytes]:
        """For each row the sum of row[j] × symbols[j]."""
        raise NotImplementedError

    def encode(self, sources: Sequence[bytes], rows: Sequence[int]) -> list[bytes]:
        """See Codec."""
        return self.combine([coefficients(len(sources), row) for row in rows], sources)

    def decode(self, sources: Sequence[bytes | None], parity: Mapping[int, bytes]) -> list[bytes]:
        """See Codec. Only a matrix of the size of what is missing is inverted."""
        missing = [j for j, source in enumerate(sources) if source is None]
        chosen = sorted(parity)[: len(missing)]
        size = len(parity[chosen[0]])
        zero = bytes(size)
        known = [zero if source is None else source for source in sources]
        rows = [coefficients(len(sources), row) for row in chosen]
        rests = [_xor(parity[row], part) for row, part in zip(chosen, self.combine(rows, known), strict=True)]
        inverse = _inverse([[row[j] for j in missing] for row in rows])
        for j, symbol in zip(missing, self.combine(inverse, rests), strict=True):
            known[j] = symbol
        return known


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


@lru_cache(256)
def _times(factor: int) -> bytes:
    return bytes(multiply(factor, value) for value in range(256))


@cache
def codec() -> Codec:
    """The fastest one this machine has."""
    try:
        return IsaL()
    except (OSError, AttributeError):
        return Plain()
