"""When to leave a multicast session that does not help, and when to try it again.

Who stays a member makes its switch go on sending: a port of 100 Mbit/s stays full of a stream of 900, and
what neighbours and server would send there is lost with it. So a machine to which too little comes through
leaves the group, fetches otherwise, and joins again after a while, each time later, at last no more. Who
hears nothing at all stays: no port is filled, and only a member learns that the stream is back. So does one
whose own disk or processor is too slow: what it takes out of the stream is more than nothing.
"""

from __future__ import annotations

import random
from math import inf
from typing import Final

from imaging.multicast.fitness import SLOW_LOSS
from imaging.multicast.thread import ReceiverStatus

FIRST_SECONDS: Final = 10.0  # away, up to twice as long; doubling. Jitter: one port often serves several.
TRIES: Final = 5
TRIAL_SECONDS: Final = 5.0  # after a return, in which nothing relies on the stream
_PATIENCE: Final = 2.0  # seconds of loss from the second time on; the first time `slow` has waited for five


class Leaving:
    """Judges one deploy's session, whatever its identifier. A core: it is told the time."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._left = 0  # times
        self._until: float | None = None  # away
        self._back_at = -inf
        self._bad_since: float | None = None

    def out(self, status: ReceiverStatus | None, now: float) -> bool:
        """Whether to be out of the group now. ``status``: of the session, None without one."""
        if self._until is not None:
            if now < self._until:
                return True
            self._until, self._bad_since, self._back_at = None, None, now
            return False
        if status is None or not self._hopeless(status, now):
            return False
        pause = FIRST_SECONDS * 2**self._left * self._rng.uniform(1, 2) if self._left < TRIES else inf
        self._left += 1
        self._until = now + pause
        return True

    def on_trial(self, now: float) -> bool:
        """Whether it has just come back: the other ways should go on."""
        return self._until is None and now - self._back_at < TRIAL_SECONDS

    def _hopeless(self, status: ReceiverStatus, now: float) -> bool:
        if status.silent or status.loss <= SLOW_LOSS:
            self._bad_since = None
            return status.stalled and not status.silent
        if self._bad_since is None:
            self._bad_since = now
        return status.stalled or status.slow or (self._left > 0 and now - self._bad_since >= _PATIENCE)
