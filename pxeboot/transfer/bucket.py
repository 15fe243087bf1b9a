"""A token bucket for downloads, with a queue: who asked first goes first, and a new rate holds at once.

A core: it is told the time and keeps no timer. The queue holds what waits, so that nothing that was promised
under an old rate has to be taken back.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final, Generic, TypeVar

BURST_SECONDS: Final = 0.02  # worth of what may go at once after a pause
#: Whoever has waited so long goes, whatever the rate: a client gives a silent connection up after 30 s.
PATIENCE_SECONDS: Final = 10.0

Ticket = TypeVar("Ticket")


class Bucket(Generic[Ticket]):
    """Lets `rate` bit/s pass. `ask` queues, `pass_on` gives back whose turn has come."""

    def __init__(self, rate: float = inf) -> None:
        self._rate = rate
        self._due = -inf  # when what has passed is paid for
        self._waiting: deque[tuple[float, int, Ticket]] = deque()
        self.passed = 0  # bytes

    @property
    def rate(self) -> float:
        """Bit/s."""
        return self._rate

    def change(self, rate: float, now: float) -> None:
        """Another rate from now on. What is not paid for yet is paid at the new one. ValueError unless
        above 0."""
        if rate <= 0:
            raise ValueError("the rate must be above 0 bit/s")
        if self._rate < inf and self._due > now:
            self._due = now + (self._due - now) * self._rate / rate if rate < inf else now
        self._rate = rate

    def ask(self, size: int, ticket: Ticket, now: float) -> None:
        """Queue `size` bytes."""
        self._waiting.append((now, size, ticket))

    def give_up(self, ticket: Ticket) -> None:
        """Whoever waits no more; one that is not there is fine."""
        self._waiting = deque(entry for entry in self._waiting if entry[2] != ticket)

    def pass_on(self, now: float) -> list[Ticket]:
        """The tickets whose turn it is."""
        passed = []
        while self._waiting:
            since, size, ticket = self._waiting[0]
            if self._due > now and now - since < PATIENCE_SECONDS:
                break
            self._waiting.popleft()
            cost = size * 8 / self._rate if self._rate < inf else 0.0
            # No debt beyond the patience: those who went early must not hold up who comes much later.
            self._due = min(max(self._due, now - BURST_SECONDS) + cost, now + PATIENCE_SECONDS)
            self.passed += size
            passed.append(ticket)
        return passed

    def next_time(self) -> float:
        """When `pass_on` should be asked again; inf when nobody waits."""
        if not self._waiting:
            return inf
        return min(self._due, self._waiting[0][0] + PATIENCE_SECONDS)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)


def piece(rate: float) -> int:
    """How many bytes to send at once: 20 ms worth, between 4 KiB and 2 MiB, which is any whole chunk."""
    return 2 << 20 if rate == inf else min(2 << 20, max(4 << 10, int(rate / 8 * 0.02)))
