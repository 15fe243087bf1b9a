"""Sockets that became readable, answered in one tight turn of the asyncio loop.

asyncio's own way from a readable socket to a callback takes longer than a whole TFTP answer. So all sockets
here share one epoll descriptor, which is the only one that asyncio watches; once it wakes us, we serve until
nothing is left or the turn is over.

A peer in lock-step (one window, one ACK, one window …) on a fast network answers within microseconds, less
than it takes to fall asleep and be woken. When the last answers came that soon, we look again for a moment
instead of going to sleep.
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
"""Seconds after which the loop's other work (DHCP, HTTP) has its turn."""
import os as _o
PATIENCE = float(_o.environ.get("PAT","100"))*1e-6
"""Seconds we look for the next datagram before going to sleep, when the last ones came as soon."""
_AT_ONCE = 64


class Poller:
    """Calls `ready` of each socket that has something to read, on the loop it was made on.

    What a `ready` raises goes to the loop's exception handler; the other sockets are served at the next turn.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._turn)
        self._heard = 0.0
        self._patience = PATIENCE if (os.cpu_count() or 1) > 1 else 0.0

    def add(self, sock: socket.socket, ready: Callable[[], None]) -> None:
        """Watch `sock`."""
        self._ready[sock.fileno()] = ready
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def remove(self, sock: socket.socket) -> None:
        """Watch `sock` no more; before it is closed."""
        if self._ready.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def close(self) -> None:
        """Watch nothing more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._ready.clear()

    def _turn(self) -> None:
        clock, poll, find = time.monotonic, self._epoll.poll, self._ready.get
        last = now = clock()
        end = now + TURN
        # Sleeping and being woken took a good part of this pause, hence twice the patience.
        patience = self._patience if now - self._heard < 2 * PATIENCE else 0.0
        while now < end:
            events = poll(0, _AT_ONCE)
            now = clock()
            for descriptor, _ in events:
                ready = find(descriptor)
                if ready is not None:  # None: closed by one before it
                    ready()
            if events:
                last = now
            elif now - last >= patience:
                break
        self._heard = last
