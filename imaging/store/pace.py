"""A token bucket: work at so many bytes a second, and wake often enough to hear that it should stop."""

import time
from collections.abc import Callable

from imaging.store.values import Stop, never

#: Longest sleep between two looks at ``stop``, and what may be caught up after a pause, in seconds.
SLICE = 0.5


class Pace:
    """``rate`` in bytes per second, None or 0 for as fast as it goes."""

    def __init__(
        self,
        rate: float | None,
        stop: Stop = never,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._stop, self._clock, self._sleep = rate, stop, clock, sleep
        self._next = clock()

    def take(self, count: int) -> bool:
        """Wait until ``count`` bytes are due, then take them; False when it should stop."""
        if self._stop():
            return False
        if not self._rate:
            return True
        now = self._clock()
        self._next = max(self._next, now - SLICE)
        while (wait := self._next - now) > 0:
            self._sleep(min(wait, SLICE))
            if self._stop():
                return False
            now = self._clock()
        self._next += count / self._rate
        return True
