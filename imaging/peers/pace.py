"""How fast a host may give chunks to its neighbours, all of them together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

PIECE: Final = 64 << 10  # bytes written at once; a neighbour that hears nothing for 3 s goes elsewhere
_SLACK: Final = 0.05  # seconds' worth that may be made up for after a pause


class Pace:
    """A token bucket that threads share; whoever comes first goes first."""

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``rate``: bit/s; None: as fast as it goes. ValueError unless above 0."""
        if rate is not None and rate <= 0:
            raise ValueError("the rate must be above 0 bit/s")
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._lock = threading.Lock()
        self._due = clock()

    def pieces(self, data: bytes) -> Iterator[memoryview]:
        """The data in pieces, each when it may go."""
        view = memoryview(data)
        if self._rate is None:
            yield view
            return
        for at in range(0, len(view), PIECE):
            piece = view[at : at + PIECE]
            with self._lock:
                now = self._clock()
                begin = max(self._due, now - _SLACK)
                self._due = begin + len(piece) * 8 / self._rate
            if begin > now:
                self._sleep(begin - now)
            yield piece
