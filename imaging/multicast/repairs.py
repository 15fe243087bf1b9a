"""The sender's account of repairs: how many parity symbols each block of a chunk still needs.

Receivers say how many symbols of a block they lack, and any parity symbol of the block helps whoever lacks
one. So what is sent is what the worst of them lacks, each time of rows that were never sent before. What was
sent after the newest datagram a report knows of is on its way, and is taken off what the report asks for.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .fec import rows_of, sources_of
from .wire import ahead


@dataclass
class _Sent:
    """What went out of one chunk: `log` holds (last sequence, symbols of each block) of parity."""

    blocks: int
    symbols: int
    last: int = 0  # sequence of the last source symbol
    until: float = 0.0  # end of the hold
    rows: list[int] = field(default_factory=list)  # the next row of each block
    log: deque[tuple[int, list[int]]] = field(default_factory=lambda: deque(maxlen=8))


class Repairs:
    """Chunks with parity to send, and which chunks are held out of the sweep."""

    def __init__(self, hold: float) -> None:
        self.hold = hold
        self.held = 0  # bit set
        self.exhausted: set[int] = set()  # no rows are left: these go out as a whole again
        self._sent: dict[int, _Sent] = {}
        self._holds: deque[tuple[float, int]] = deque()
        self._pending: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._pending

    def discard(self, chunk: int) -> None:
        """It is sent as a whole: what was asked for before is on its way."""
        self._pending.pop(chunk, None)
        self.exhausted.discard(chunk)

    def ask(self, chunk: int, missing: tuple[int, ...], highest: int, now: float) -> None:
        """A receiver that has heard up to sequence `highest` lacks so many symbols of each block."""
        sent = self._sent.get(chunk)
        counts = list(missing)
        if sent is not None:
            if sent.blocks != len(counts):
                return
            # It had not yet seen the end of our last sending of this chunk: what it lacks may be on the way.
            # Should that very end be lost, announces still move its `highest` on; the time is the second net.
            if now < sent.until:
                if ahead(highest, sent.last) < 0:
                    return
                for sequence, symbols in sent.log:
                    if ahead(sequence, highest) > 0:
                        counts = [count - s for count, s in zip(counts, symbols, strict=True)]
            counts = [min(count, rows_of(sources_of(sent.symbols, sent.blocks, b))) for b, count in
                      enumerate(counts)]  # fmt: skip
        if all(count <= 0 for count in counts):
            return
        pending = self._pending.get(chunk)
        if pending is None:
            self._pending[chunk] = [max(0, count) for count in counts]
        elif len(pending) == len(counts):
            self._pending[chunk] = [max(pair) for pair in zip(pending, counts, strict=True)]

    def take(
        self, frame: Callable[[int], tuple[int, int] | None], extra: int
    ) -> tuple[int, list[int]] | None:
        """The parity numbers (block + blocks × row) of the chunk that waits longest; None if none does.

        `frame` gives (symbols, blocks) of a chunk, or None if it cannot be read. `extra` symbols more go out
        for each block that lacks any. Chunks whose rows are used up are put into `exhausted`.
        """
        while self._pending:
            chunk = next(iter(self._pending))
            counts = self._pending.pop(chunk)
            shape = frame(chunk)
            if shape is None or shape[1] != len(counts):
                continue
            symbols, blocks = shape
            sent = self._sent.setdefault(chunk, _Sent(blocks, symbols))
            sent.rows = sent.rows or [0] * blocks
            numbers = []
            for block, count in enumerate(counts):
                if count:
                    first, limit = sent.rows[block], rows_of(sources_of(symbols, blocks, block))
                    if first + count > limit:
                        # Whoever lacks so much, after so many repairs, gets it sooner as a whole.
                        sent.rows[block] = 0
                        self.exhausted.add(chunk)
                        break
                    count = min(count + extra, limit - first)
                    numbers += [(row, row * blocks + block) for row in range(first, first + count)]
            else:
                # Row by row, so that a burst of losses spreads over the blocks.
                return chunk, [number for _, number in sorted(numbers)]
        return None

    def parity_sent(self, chunk: int, numbers: Sequence[int], last: int, now: float) -> None:
        """These parity symbols went out, the last one with sequence `last`."""
        sent = self._sent[chunk]
        counts = [0] * sent.blocks
        for number in numbers:
            block = number % sent.blocks
            counts[block] += 1
            sent.rows[block] = max(sent.rows[block], number // sent.blocks + 1)
        sent.log.append((last, counts))
        self._keep(chunk, sent, now)

    def whole_sent(self, chunk: int, symbols: int, blocks: int, last: int, now: float) -> None:
        """All source symbols went out, the last one with sequence `last`."""
        sent = self._sent.get(chunk)
        if sent is None:
            sent = self._sent[chunk] = _Sent(blocks, symbols)
        sent.last = last
        sent.log.clear()
        self._keep(chunk, sent, now)

    def _keep(self, chunk: int, sent: _Sent, now: float) -> None:
        sent.until = now + self.hold
        self._holds.append((sent.until, chunk))
        self.held |= 1 << chunk

    def release(self, now: float) -> None:
        """End the holds that are over."""
        while self._holds and self._holds[0][0] <= now:
            _, chunk = self._holds.popleft()
            # Sent again in the meantime: a later entry of the queue ends this hold.
            if self._sent[chunk].until <= now:
                self.held &= ~(1 << chunk)

    @property
    def next_release(self) -> float | None:
        """When the next hold ends."""
        return self._holds[0][0] if self._holds else None
