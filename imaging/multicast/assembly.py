"""Unfinished chunks: symbols in any order, parity among them, become a frame within a bound of memory."""

from collections.abc import Sequence
from typing import NamedTuple

from .fec import Codec, blocks_of, rows_of, sources_of
from .wire import symbols_of


class Partial:
    """One chunk on its way: the symbols that are here, and since when parity for the others is asked for."""

    __slots__ = ("blocks", "length", "missing", "parity", "parts", "repair_since", "touched")

    def __init__(self, length: int, symbols: int) -> None:
        self.length = length
        self.blocks = blocks_of(symbols)
        self.parts: list[bytes | None] = [None] * symbols
        self.missing = symbols  # of the source symbols
        self.parity: dict[int, bytes] = {}  # by parity number: block + blocks × row
        self.touched = 0.0
        self.repair_since: float | None = None

    def add(self, first: int, payloads: Sequence[bytes]) -> int:
        """Put in consecutive source symbols; how many of them were new."""
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

    def add_parity(self, number: int, payload: bytes) -> int:
        """Put in a parity symbol; 1 if it helps, 0 if not (there already, no such row, block has enough)."""
        block, row = number % self.blocks, number // self.blocks
        here = self.parts[block :: self.blocks]
        enough = here.count(None) <= sum(other % self.blocks == block for other in self.parity)
        if number in self.parity or row >= rows_of(len(here)) or enough:
            return 0
        self.parity[number] = payload
        return 1

    def deficits(self) -> tuple[int, ...]:
        """How many symbols more each block needs."""
        blocks = self.blocks
        lacking = [self.parts[block::blocks].count(None) for block in range(blocks)]
        for number in self.parity:
            lacking[number % blocks] -= 1
        return tuple(max(0, count) for count in lacking)

    @property
    def complete(self) -> bool:
        """Whether the frame can be had."""
        if self.missing > len(self.parity):
            return False
        return not self.missing or not any(self.deficits())

    def frame(self, codec: Codec) -> bytes:
        """The stored frame; call it when `complete`."""
        for block in range(self.blocks if self.missing else 0):
            here = self.parts[block :: self.blocks]
            if None in here:
                rows = {n // self.blocks: p for n, p in self.parity.items() if n % self.blocks == block}
                self.parts[block :: self.blocks] = codec.decode(here, rows)
        *whole, last = (part for part in self.parts if part is not None)
        whole.append(last[: self.length - sum(map(len, whole))])
        return b"".join(whole)

    def worst_share(self) -> float:
        """What the worst block lacks, as a share of its symbols."""
        symbols = len(self.parts)
        return max(
            count / sources_of(symbols, self.blocks, block) for block, count in enumerate(self.deficits())
        )


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
