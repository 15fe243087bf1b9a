"""What simulated networks do to datagrams: loss in several patterns, and a link with a rate and a queue.

A loss model is a sequence of run lengths (so many get through, so many get lost, ...), so that a receiver
costs nothing while it loses nothing. All randomness comes from the generator that is handed in.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

Runs = Iterator[tuple[int, int]]
# How the datagrams of one receiver fare: pairs of (get through, get lost), without end.
Loss = Callable[[random.Random], Runs]

_FOREVER = 1 << 60


def no_loss(rng: random.Random) -> Runs:
    """A perfect wire."""
    yield _FOREVER, 0


def independent_loss(share: float) -> Loss:
    """Each datagram gets lost with this probability, whatever becomes of the others."""
    if share < 1e-12:
        return no_loss

    def model(rng: random.Random) -> Runs:
        while True:
            yield _geometric(rng, share), 1

    return model


def bursty_loss(share: float, burst: float) -> Loss:
    """Gilbert's model: losses come in bursts of `burst` datagrams on average, `share` of all get lost."""
    end = 1 / burst
    begin = end * share / (1 - share)

    def model(rng: random.Random) -> Runs:
        while True:
            yield 1 + _geometric(rng, begin), 1 + _geometric(rng, end)

    return model


def _geometric(rng: random.Random, share: float) -> int:
    """How many failures before the first success of probability `share`."""
    return int(math.log(1.0 - rng.random()) / math.log(1.0 - share)) if share < 1 else 0


class Wire:
    """Applies a loss model to bursts of datagrams."""

    def __init__(self, loss: Loss, rng: random.Random) -> None:
        self._runs = loss(rng)
        self._through, self._lost = next(self._runs)

    def through(self, count: int) -> list[tuple[int, int]]:
        """Of `count` datagrams those that get through, as (first, end) of runs."""
        if count <= self._through:
            self._through -= count
            return [(0, count)]
        found = []
        place = 0
        while place < count:
            run = min(self._through, count - place)
            if run:
                found.append((place, place + run))
                self._through -= run
                place += run
            run = min(self._lost, count - place)
            self._lost -= run
            place += run
            if not self._through and not self._lost:
                self._through, self._lost = next(self._runs)
        return found


class Link:
    """A link of `rate` bits per second with a queue of `queue` bytes; what does not fit is dropped."""

    def __init__(self, rate: float, queue: int) -> None:
        self.rate, self.queue = rate, queue
        self.dropped = 0
        self._free_at = 0.0

    def send(self, count: int, size: int, now: float) -> tuple[int, float]:
        """`count` datagrams of `size` bytes on the wire: how many fit, and when the last of them is over."""
        waiting = max(0.0, self._free_at - now) * self.rate / 8
        fit = min(count, max(0, int((self.queue - waiting) // size) + 1))
        self.dropped += count - fit
        self._free_at = max(now, self._free_at) + fit * size * 8 / self.rate
        return fit, self._free_at
