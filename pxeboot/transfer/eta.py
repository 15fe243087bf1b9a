"""How long it still takes: from how much was done over the last while."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 30.0
LEAST_SECONDS: Final = 3.0  # of watching, before anything is foretold
STALLED_SECONDS: Final = 15.0  # without any progress


class Progress:
    """What was done (in any unit) at which moments; forgets what is older than half a minute."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        self._moved = 0.0

    def saw(self, now: float, done: float) -> None:
        """Note how much is done. Less than before means that something else is counted now: begin anew."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or done > self._seen[-1][1]:
            self._moved = now
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW_SECONDS:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Units a second over the window; None before there is enough to say."""
        if len(self._seen) < 2:
            return None
        (first, start), (last, done) = self._seen[0], self._seen[-1]
        return (done - start) / (last - first) if last - first >= LEAST_SECONDS else None

    def seconds_left(self, total: float) -> float | None:
        """Seconds until `total` is done at this rate; None when nothing can be said: too early, or it
        stands still."""
        rate = self.rate()
        if rate is None or not self._seen:
            return None
        now, done = self._seen[-1]
        if done >= total:
            return 0.0
        if rate <= 0 or now - self._moved > STALLED_SECONDS:
            return None
        return (total - done) / rate


def latest(seconds: list[float | None]) -> float | None:
    """When all are done: the longest; None when one of them cannot be foretold, or there is none."""
    known = [value for value in seconds if value is not None]
    return max(known) if known and len(known) == len(seconds) else None
