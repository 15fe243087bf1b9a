"""What a receiver hears of the stream: how much of it is lost, and whether it has fallen silent."""

import random

from .wire import ahead


class Hearing:
    """Fed with sequence numbers. Times are seconds of a monotonic clock."""

    def __init__(self, now: float, rejoin: float, silence: float, rng: random.Random) -> None:
        self.received = 0  # datagrams
        self.lost = 0  # by their sequence numbers, since the first one heard
        self.highest: int | None = None
        self.silent = False
        self._rejoin, self._silence, self._rng = rejoin, silence, rng
        self._heard = now
        self._next_rejoin = now + rejoin

    def hear(self, first: int, last: int, count: int, now: float) -> bool:
        """`count` datagrams of sequences `first` to `last`; True if this ends a silence."""
        self.received += count
        self._heard = now
        self._next_rejoin = now + self._rejoin
        resumed, self.silent = self.silent, False
        step = 1 if self.highest is None else ahead(first, self.highest)
        if -1024 < step <= 0:  # overtaken on the way: it was counted as lost
            self.lost = max(0, self.lost - count)
            return resumed
        # A step beyond belief is a sender that was started again, not four million lost datagrams.
        gap = step - 1 if 0 < step < 1 << 22 else 0
        self.lost += gap + max(0, ahead(last, first) + 1 - count)
        self.highest = last
        return resumed

    def next_timer(self) -> float:
        """When to look again."""
        return self._next_rejoin if self.silent else min(self._next_rejoin, self._heard + self._silence)

    def fell_silent(self, now: float) -> bool:
        """True once, when nothing was heard for too long."""
        if self.silent or now < self._heard + self._silence:
            return False
        self.silent = True
        return True

    def must_rejoin(self, now: float) -> bool:
        """True whenever it is time to leave the group and join it again.

        Every second until the silence, then every five to ten: a switch may come back, a storm of joins helps
        nobody.
        """
        if now < self._next_rejoin:
            return False
        self._next_rejoin = now + (self._rng.uniform(5, 10) if self.silent else self._rejoin)
        return True
