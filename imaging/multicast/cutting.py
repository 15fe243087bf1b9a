"""Stored frames cut into symbols: the last few dozen, padded (and encrypted), and parity of them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .cipher import FrameCipher
from .fec import Codec, blocks_of
from .wire import MAX_FRAME

# Repairs come within a fraction of a second: the last few dozen chunks serve nearly all of them.
_CACHE = 48


class ChunkUnavailable(Exception):
    """Raised by a chunk source that cannot give a chunk; `str` is the reason."""


class Work(NamedTuple):
    """Symbols of a chunk that go out in this order, with their numbers on the wire."""

    chunk: int
    length: int
    numbers: Sequence[int]
    payloads: Sequence[bytes | memoryview]
    parity: bool


class Cutter:
    """`source(index)` gives a stored zstd frame or raises ChunkUnavailable."""

    def __init__(
        self, source: Callable[[int], bytes], symbol_size: int, codec: Codec, cipher: FrameCipher | None
    ) -> None:
        self._source, self._size, self._codec, self._cipher = source, symbol_size, codec, cipher
        self._cache: dict[int, tuple[list[bytes | memoryview], int]] = {}

    def shape(self, chunk: int) -> tuple[int, int]:
        """How many symbols and blocks a chunk has. Raises ChunkUnavailable."""
        symbols = len(self._symbols(chunk)[0])
        return symbols, blocks_of(symbols)

    def whole(self, chunk: int) -> Work:
        """All source symbols. Raises ChunkUnavailable."""
        symbols, length = self._symbols(chunk)
        return Work(chunk, length, range(len(symbols)), symbols, False)

    def parity(self, chunk: int, numbers: list[int]) -> Work:
        """Parity symbols by their numbers (block + blocks × row). Raises ChunkUnavailable."""
        symbols, length = self._symbols(chunk)
        blocks = blocks_of(len(symbols))
        made: dict[int, bytes] = {}
        for block in {number % blocks for number in numbers}:
            rows = [number // blocks for number in numbers if number % blocks == block]
            parity = self._codec.encode([bytes(symbol) for symbol in symbols[block::blocks]], rows)
            made.update(zip((row * blocks + block for row in rows), parity, strict=True))
        return Work(chunk, length, numbers, [made[number] for number in numbers], True)

    def _symbols(self, chunk: int) -> tuple[list[bytes | memoryview], int]:
        """The frame's symbols, the last one padded, and its true length."""
        if chunk in self._cache:
            return self._cache[chunk]
        frame = self._source(chunk)
        if not 0 < len(frame) <= MAX_FRAME:
            raise ChunkUnavailable(f"a stored frame of {len(frame)} bytes cannot be sent")
        if self._cipher is not None:
            frame = self._cipher.seal(chunk, frame)
        size, data = self._size, memoryview(frame)
        symbols: list[bytes | memoryview] = [
            data[start : start + size] for start in range(0, len(data), size)
        ]
        symbols[-1] = bytes(symbols[-1]).ljust(size, b"\0")
        if len(self._cache) >= _CACHE:
            del self._cache[next(iter(self._cache))]
        self._cache[chunk] = symbols, len(frame)
        return symbols, len(frame)
