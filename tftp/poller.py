"""Sockets that became readable, answered in one tight turn of the asyncio loop.

asyncio's own way from a readable socket to a callback takes longer than a whole TFTP answer. So all sockets
here share one epoll descriptor, which is the only one that asyncio watches; once it wakes us, we serve until
nothing is left or the turn is over.

A peer in lock-step (a window, its ACK, the next window …) on a fast network answers within microseconds:
sooner than one falls asleep and is woken through two event loops. When the last answers came that soon, we
stay for the next one: looking again and again while a CPU would be idle otherwise; else, and if it is the
only transfer, asleep on its own socket, which the kernel wakes with the least ado.
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
_VAIN = 1.0
"""Seconds without sleeping on a single socket, after one did so in vain and kept the loop waiting."""
_AT_ONCE = 64


class Poller:
    """Calls `ready` of each socket that has something to read, on the loop it was made on.

    What a `ready` raises goes to the loop's exception handler; the other sockets are served at the next turn.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._stay: dict[int, Callable[[float], bool]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._turn)
        self._idle = _IdleCpus()
        self._heard = self._left = self._vain = float("-inf")

    def add(
        self, sock: socket.socket, ready: Callable[[], None], stay: Callable[[float], bool] | None = None
    ) -> None:
        """Watch `sock`. `stay(until)` may wait for what comes next until that time (monotonic seconds), each
        time for some milliseconds at most; False: it waited in vain.
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
        self._idle.close()
        self._ready.clear()
        self._stay.clear()

    def _turn(self) -> None:
        clock, poll, find = time.monotonic, self._epoll.poll, self._ready.get
        last = now = clock()
        others_work = PATIENCE < now - self._left < 1.0
        end = now + (SHORT_TURN if others_work else TURN)
        # Sleeping and being woken took a good part of this pause, hence twice the patience.
        brisk = not others_work and now - self._heard < 2 * PATIENCE
        looking = brisk and self._idle.some(now)
        self._left = float("-inf")
        while now < end:
            events = poll(0, _AT_ONCE)
            now = clock()
            for descriptor, _ in events:
                ready = find(descriptor)
                if ready is not None:  # None: closed by one before it
                    ready()
            if events:
                last = now
                if brisk and not looking and len(events) == len(self._stay) == 1 and now - self._vain > _VAIN:
                    stay = self._stay.get(events[0][0])
                    if stay is not None:
                        if not stay(end):
                            self._vain = clock()
                        last = now = clock()
            elif not looking or now - last >= PATIENCE:
                break
        else:
            self._left = now  # with work left to do: what passes until the next turn is others' work
        self._heard = last


class _IdleCpus:
    """Whether all that wants to run has a CPU, as the kernel counts it in /proc/loadavg."""

    def __init__(self) -> None:
        self._cpus = os.cpu_count() or 1
        self._read_at, self._some = float("-inf"), False
        try:
            self._file = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def some(self, now: float) -> bool:
        """What was true at most 20 ms ago; we are one of those that run."""
        if now - self._read_at > 0.02 and self._file >= 0:
            self._read_at = now
            running = os.pread(self._file, 100, 0).split()[3].partition(b"/")[0]
            self._some = int(running) <= self._cpus
        return self._some

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
