"""Sockets that became readable, answered in one tight turn of the asyncio loop.

asyncio's own way from a readable socket to a callback takes longer than a whole TFTP answer. So all sockets
here share one epoll descriptor, which is the only one that asyncio watches; once it wakes us, we serve until
nothing is left or the turn is over.

A peer in lock-step (a window, its ACK, the next window …) on a fast network answers within microseconds:
sooner than one falls asleep and is woken through two event loops. When the last answers came that soon, we
stay for the next one: awake, looking again and again, or asleep on that one transfer's own socket, which the
kernel wakes with the least ado. Which is faster depends on idle CPUs, on how they sleep, and on who else runs
here; so both are tried, and the better one is used.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable

__all__ = ["Poller"]

TURN = 0.002
"""Seconds after which the loop's other work (DHCP, HTTP) has its turn …"""
SHORT_TURN = 0.0002
"""… and this, when it has been seen to have some."""
PATIENCE = 0.0001
"""Seconds to look for the next datagram, when the last ones came as soon."""
_VAIN = 0.1
"""Seconds without sleeping on a single socket, after one did so in vain and kept the loop waiting."""
_AT_ONCE = 64
_TRY = 16
"""Of so many turns one goes the way that was worse lately."""


class Poller:
    """Calls `ready` of each socket that has something to read, on the loop it was made on.

    What a `ready` raises goes to the loop's exception handler; the other sockets are served at the next turn.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._stay: dict[int, Callable[[float], int]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._turn)
        self.ways = Ways()
        self._heard = self._left = self._vain = float("-inf")

    def add(
        self, sock: socket.socket, ready: Callable[[], None], stay: Callable[[float], int] | None = None
    ) -> None:
        """Watch `sock`. `stay(until)` answers what comes next until that time (monotonic seconds) and returns
        how much that was; it may wait for it some milliseconds at most, and returns early if in vain.
        """
        descriptor = sock.fileno()
        self._ready[descriptor] = ready
        if stay is not None:
            self._stay[descriptor] = stay
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, sock: socket.socket) -> None:
        """Watch `sock` no more; before it is closed."""
        descriptor = sock.fileno()
        self._stay.pop(descriptor, None)
        if self._ready.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Watch nothing more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._ready.clear()
        self._stay.clear()

    def _turn(self) -> None:
        clock, poll, find = time.monotonic, self._epoll.poll, self._ready.get
        began = last = now = clock()
        others_work = PATIENCE < now - self._left < 1.0
        end = now + (SHORT_TURN if others_work else TURN)
        # Sleeping and being woken took a good part of this pause, hence twice the patience.
        brisk = not others_work and now - self._heard < 2 * PATIENCE
        lone = brisk and len(self._stay) == 1 and now - self._vain > _VAIN
        awake = brisk and (self.ways.pick() if lone else self.ways.awake_is_better)
        self._left = float("-inf")
        served = 0
        while now < end:
            events = poll(0, _AT_ONCE)
            now = clock()
            for descriptor, _ in events:
                ready = find(descriptor)
                if ready is not None:  # None: closed by one before it
                    ready()
            if events:
                last = now
                served += len(events)
                if lone and not awake and len(events) == len(self._stay) == 1 and self._vain < began:
                    served += self._stay_with(events[0][0], end)
                    last = now = clock()
            elif not awake or now - last >= PATIENCE:
                break
        else:
            self._left = now  # with work left to do: what passes until the next turn is others' work
        self._heard = last
        if lone:
            self.ways.note(awake, served / (now - began))

    def _stay_with(self, descriptor: int, until: float) -> int:
        stay = self._stay.get(descriptor)
        if stay is None:
            return 0
        # While it sleeps on its own socket nobody else need hear of each datagram.
        self._epoll.modify(descriptor, 0)
        try:
            return stay(until)
        finally:
            if descriptor in self._ready:
                self._epoll.modify(descriptor, select.EPOLLIN)
                now = time.monotonic()
                if now < until:
                    self._vain = now


class Ways:
    """Whether staying awake or sleeping answered more datagrams a second lately."""

    def __init__(self) -> None:
        self._rates = {True: 0.0, False: 0.0}
        self._turns = 0
        self._alone = (os.cpu_count() or 1) == 1  # who looks about keeps the peer's program from running

    @property
    def awake_is_better(self) -> bool:
        """As far as is known."""
        return self._rates[True] > self._rates[False] and not self._alone

    def pick(self) -> bool:
        """Awake or not, this time: the better way, and now and then the other, whose luck may have turned."""
        self._turns += 1
        return (self.awake_is_better ^ (self._turns % _TRY == 0)) and not self._alone

    def note(self, awake: bool, rate: float) -> None:
        """What a turn achieved, in datagrams a second."""
        old = self._rates[awake]
        self._rates[awake] = old + (rate - old) * (0.2 if old else 1.0)
