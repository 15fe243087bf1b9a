"""What a receiver still wants, and the reports that say so.

A chunk is wanted as a whole, or (when most of it is here) by the number of symbols that each of its blocks
lacks. A want set too long for a few datagrams is told in turns, each report going on where the last ended.
"""

from collections.abc import Callable, Iterable, Iterator

from .assembly import Partial
from .ranges import ChunkSet, encode_span
from .reports import REPORT_BODY, Repair, Report, encode_report, repair_size
from .wire import MIN_SYMBOL, Seal


class Asking:
    """The wants of one receiver in a manifest of `chunks` chunks."""

    def __init__(self, chunks: int, symbol_size: int, seal: Seal) -> None:
        self.wanted = ChunkSet(chunks)  # in whatever state
        self.asked = ChunkSet(chunks)  # of these, those asked for as whole chunks
        self.welcome = ChunkSet(chunks)  # taken when they pass, never asked for
        self._chunks, self._seal = chunks, seal
        self._room = max(symbol_size, MIN_SYMBOL) - REPORT_BODY
        self._span = 0

    def drop(self, index: int) -> None:
        """Want it no more."""
        self.wanted.discard(index)
        self.asked.discard(index)
        self.welcome.discard(index)

    def again(self, index: int) -> None:
        """What was here of it is not: ask for the whole chunk, if it is wanted."""
        if index in self.wanted:
            self.asked.add(index)

    def reports(
        self,
        report: Callable[[int, int, tuple[Repair, ...]], Report],
        waiting: Iterable[tuple[int, Partial]],
        most: int,
    ) -> Iterator[bytes]:
        """At most `most` datagrams; `report` makes one of a span (first, count) and repairs.

        `waiting` are the chunks to repair, the longest waiting first.
        """
        repairs = [Repair(chunk, partial.deficits()) for chunk, partial in waiting]
        repairs.reverse()
        for _ in range(most):
            chosen, room = [], self._room
            while repairs and room - repair_size(repairs[-1]) >= 64:
                room -= repair_size(repairs[-1])
                chosen.append(repairs.pop())
            count, encoding, wants = encode_span(self.asked, self._span, room)
            what = report(self._span, count, tuple(chosen))
            yield encode_report(what, encoding, wants, self._seal)
            self._span += count
            if self._span >= self._chunks:
                self._span = 0
                if not repairs:
                    return
