"""Unfinished chunks: symbols in any order become a frame, within a bound of memory."""

from collections.abc import Sequence
from typing import NamedTuple

from .wire import symbols_of


class Partial:
    """One chunk on its way: the symbols that are here, and since when the others are asked for one by one."""

    __slots__ = ("length", "missing", "parts", "repair_since", "touched")

    def __init__(self, length: int, symbols: int) -> None:
        self.length = length
        self.parts: list[bytes | None] = [None] * symbols
        self.missing = symbols
        self.touched = 0.0
        self.repair_since: float | None = None

    def add(self, first: int, payloads: Sequence[bytes]) -> int:
        """Put in consecutive symbols; how many of them were new."""
        parts, count = self.parts, len(payloads)
        fresh = parts[first : first + count].count(None)
        if fresh == count:
            parts[first : first + count] = payloads
        else:
            for i, payload in enumerate(payloads, first):
                if parts[i] is None:
                    parts[i] = payload
        self.missing -= fresh
        return fresh

    def frame(self) -> bytes:
        """The stored frame; call it when nothing is missing."""
        return b"".join(part for part in self.parts if part is not None)[: self.length]

    def missing_bits(self) -> int:
        """Bit i set: symbol i is missing."""
        return int("".join("1" if part is None else "0" for part in reversed(self.parts)), 2)


class Opened(NamedTuple):
    """`partial` is None when not even an empty buffer has room; `evicted` chunks lost all they had."""

    partial: Partial | None
    evicted: list[int]


class Assembly:
    """The unfinished chunks of a receiver; `limit` bytes of frames at most."""

    def __init__(self, symbol_size: int, limit: int) -> None:
        self.symbol_size, self.limit = symbol_size, limit
        self.held = 0
        self.partials: dict[int, Partial] = {}

    def get(self, chunk: int) -> Partial | None:
        """What there is of this chunk."""
        return self.partials.get(chunk)

    def open(self, chunk: int, length: int) -> Opened:
        """Begin this chunk, at the cost of others when there is no room."""
        evicted = []
        while self.held + length > self.limit and self.partials:
            # The worst off goes: those with little missing then finish with the next turn of the sweep,
            # while to drop the oldest would, in a sweep longer than the buffer, drop every one of them.
            worst = max(self.partials, key=self._share_missing)
            self.close(worst)
            evicted.append(worst)
        if self.held + length > self.limit:
            return Opened(None, evicted)
        partial = self.partials[chunk] = Partial(length, symbols_of(length, self.symbol_size))
        self.held += length
        return Opened(partial, evicted)

    def close(self, chunk: int) -> None:
        """Forget what there is of this chunk, if anything."""
        partial = self.partials.pop(chunk, None)
        if partial is not None:
            self.held -= partial.length

    def _share_missing(self, chunk: int) -> float:
        partial = self.partials[chunk]
        return partial.missing / len(partial.parts)
