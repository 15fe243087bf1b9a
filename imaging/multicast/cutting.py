"""Stored frames cut into symbols: the last few dozen, padded (and encrypted), and parity of them."""

from collections.abc import Callable
from typing import NamedTuple

from .cipher import FrameCipher
from .fec import Codec, blocks_of
from .wire import MAX_FRAME, symbols_of

# Repairs come within a fraction of a second: the last few dozen chunks serve nearly all of them.
_CACHE = 48


class ChunkUnavailable(Exception):
    """Raised by a chunk source that cannot give a chunk; `str` is the reason."""


class Work(NamedTuple):
    """Symbols of a chunk that go out in this order, with their numbers on the wire."""

    chunk: int
    length: int
    numbers: list[int]
    payloads: list[memoryview] | list[bytes]
    parity: bool


class Cutter:
    """`source(index)` gives a stored zstd frame or raises ChunkUnavailable."""

    def __init__(
        self, source: Callable[[int], bytes], symbol_size: int, codec: Codec, cipher: FrameCipher | None
    ) -> None:
        self._source, self._size, self._codec, self._cipher = source, symbol_size, codec, cipher
        self._cache: dict[int, tuple[memoryview, int]] = {}

    def shape(self, chunk: int) -> tuple[int, int]:
        """How many symbols and blocks a chunk has. Raises ChunkUnavailable."""
        symbols = symbols_of(self._frame(chunk)[1], self._size)
        return symbols, blocks_of(symbols)

    def whole(self, chunk: int) -> Work:
        """All source symbols. Raises ChunkUnavailable."""
        data, length = self._frame(chunk)
        payloads = [data[start : start + self._size] for start in range(0, len(data), self._size)]
        return Work(chunk, length, list(range(len(payloads))), payloads, False)

    def parity(self, chunk: int, numbers: list[int]) -> Work:
        """Parity symbols by their numbers (block + blocks × row). Raises ChunkUnavailable."""
        data, length = self._frame(chunk)
        size = self._size
        blocks = blocks_of(len(data) // size)
        made: dict[int, bytes] = {}
        for block in {number % blocks for number in numbers}:
            sources = [
                bytes(data[start : start + size]) for start in range(block * size, len(data), blocks * size)
            ]
            rows = [number // blocks for number in numbers if number % blocks == block]
            symbols = self._codec.encode(sources, rows)
            made.update(zip((row * blocks + block for row in rows), symbols, strict=True))
        return Work(chunk, length, numbers, [made[number] for number in numbers], True)

    def _frame(self, chunk: int) -> tuple[memoryview, int]:
        """The frame, padded to whole symbols, and its true length."""
        if chunk in self._cache:
            return self._cache[chunk]
        frame = self._source(chunk)
        if not 0 < len(frame) <= MAX_FRAME:
            raise ChunkUnavailable(f"a stored frame of {len(frame)} bytes cannot be sent")
        if self._cipher is not None:
            frame = self._cipher.seal(chunk, frame)
        entry = (memoryview(frame + bytes(-len(frame) % self._size)), len(frame))
        if len(self._cache) >= _CACHE:
            del self._cache[next(iter(self._cache))]
        self._cache[chunk] = entry
        return entry
