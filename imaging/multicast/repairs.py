"""The sender's account of repairs: how many parity symbols each block of a chunk still needs.

Receivers say how many symbols of a block they lack, and any parity symbol of the block helps whoever lacks
one. So there is one number for each block: how many rows are to go out in all, which is what the worst of the
receivers had the chance to hear plus what it lacks. Rows sent after the newest datagram a report knows of are
on their way, and are no chance yet. No row goes out twice.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .fec import rows_of, sources_of
from .wire import ahead

_LOG = 32  # pieces of parity of a chunk: so many are never under way at a time


@dataclass(slots=True)
class _Sent:
    """What went out of one chunk: `log` holds (first sequence, numbers) of the last pieces of its parity."""

    blocks: int
    symbols: int
    last: int = 0  # sequence of the last source symbol
    until: float = 0.0  # end of the hold
    rows: list[int] = field(default_factory=list)  # the next row of each block
    log: list[tuple[int, Sequence[int]]] = field(default_factory=list)

    def under_way(self, highest: int) -> list[int]:
        """Parity symbols of each block that were sent after sequence `highest`."""
        counts = [0] * self.blocks
        for first, numbers in reversed(self.log):
            after = numbers[max(0, 1 - ahead(first, highest)) :]
            if not after:
                break
            for number in after:
                counts[number % self.blocks] += 1
        return counts


class Repairs:
    """Chunks with parity to send, and which chunks are held out of the sweep."""

    def __init__(self, hold: float) -> None:
        self.hold = hold
        self.held = 0  # bit set
        self.exhausted: set[int] = set()  # no rows are left: these go out as a whole again
        self._sent: dict[int, _Sent] = {}
        self._holds: deque[tuple[float, int]] = deque()
        self._targets: dict[int, list[int]] = {}  # chunks that lack parity: rows of each block to send in all

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, chunk: int) -> bool:
        return chunk in self._targets

    def discard(self, chunk: int) -> None:
        """It is sent as a whole: what was asked for before is on its way."""
        self._targets.pop(chunk, None)
        self.exhausted.discard(chunk)

    def ask(self, chunk: int, missing: tuple[int, ...], highest: int, now: float) -> None:
        """A receiver that has heard up to sequence `highest` lacks so many symbols of each block."""
        sent = self._sent.get(chunk)
        rows, under_way = [0] * len(missing), [0] * len(missing)
        if sent is not None:
            if sent.blocks != len(missing):
                return
            rows = sent.rows
            # It had not yet seen the end of our last sending of this chunk: what it lacks may be on the way.
            # Should that very end be lost, announces still move its `highest` on; the time is the second net.
            if now < sent.until:
                if ahead(highest, sent.last) < 0:
                    return
                if sent.log:
                    under_way = sent.under_way(highest)
        before = self._targets.get(chunk, rows)
        if len(before) != len(missing):
            return
        targets = [
            max(old, row + lacks - on)
            for old, row, lacks, on in zip(before, rows, missing, under_way, strict=True)
        ]
        if targets != before:
            self._targets[chunk] = targets

    def take(
        self, frame: Callable[[int], tuple[int, int] | None], sequence: int, now: float
    ) -> tuple[int, list[int]] | None:
        """The parity numbers (block + blocks × row) of the chunk that waits longest; None if none does.

        They go out at once, the first with `sequence`. `frame` gives (symbols, blocks) of a chunk, or None if
        it cannot be read. Chunks whose rows are used up are put into `exhausted`.
        """
        while self._targets:
            chunk = next(iter(self._targets))
            targets = self._targets.pop(chunk)
            shape = frame(chunk)
            if shape is None or shape[1] != len(targets):
                continue
            symbols, blocks = shape
            sent = self._sent.get(chunk)
            if sent is None:
                sent = self._sent[chunk] = _Sent(blocks, symbols, rows=[0] * blocks)
            limits = [rows_of(sources_of(symbols, blocks, block)) for block in range(blocks)]
            if any(target > limit for target, limit in zip(targets, limits, strict=True)):
                # Whoever lacks so much, after so many repairs, gets it sooner as a whole.
                sent.rows = [0] * blocks
                self.exhausted.add(chunk)
                continue
            # Row by row, so that a burst of losses spreads over the blocks.
            numbers = sorted(
                row * blocks + block
                for block, target in enumerate(targets)
                for row in range(sent.rows[block], target)
            )
            sent.rows = [max(pair) for pair in zip(sent.rows, targets, strict=True)]
            sent.log = [*sent.log[1 - _LOG :], (sequence, numbers)]
            self._keep(chunk, sent, now)
            return chunk, numbers
        return None

    def whole_sent(self, chunk: int, symbols: int, blocks: int, last: int, now: float) -> None:
        """All source symbols went out, the last one with sequence `last`."""
        sent = self._sent.get(chunk)
        if sent is None:
            sent = self._sent[chunk] = _Sent(blocks, symbols, rows=[0] * blocks)
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
            sent = self._sent[chunk]
            if sent.until <= now:
                self.held &= ~(1 << chunk)
                sent.log.clear()

    @property
    def next_release(self) -> float | None:
        """When the next hold ends."""
        return self._holds[0][0] if self._holds else None
