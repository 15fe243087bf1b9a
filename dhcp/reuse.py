"""In which order the addresses of a pool are given: never used ones first, then the longest unused."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from dhcp.subnets import Pool


class _Held(Protocol):
    """What is asked of a lease here."""

    address: str
    subnet: str
    expires: float


class Walk:
    """One pool's way through its addresses; `known` is the lease table, which changes under it."""

    def __init__(self, pool: Pool, known: Mapping[str, _Held]) -> None:
        self.pool = pool
        self._known = known
        self._fresh = iter(pool)
        self._returned: deque[str] = deque()  # passed already, and never used after all
        self._inside: dict[str, bool] = {}  # is this known address one of the pool?
        # Heap of (expires, address), in which stale entries are skipped. Most pools never need one: it is
        # made when the last unused address is gone.
        self._idle: list[tuple[float, str]] | None = None

    def note(self, lease: _Held, known: int) -> None:
        """A lease changed: its address is to be found again when it expires."""
        if self._idle is None:
            return
        address = lease.address
        inside = self._inside.get(address)
        if inside is None:
            inside = self._inside[address] = address in self.pool
        if inside:
            heapq.heappush(self._idle, (lease.expires, address))
            if len(self._idle) > 4 * known + 1024:  # renewals leave stale entries behind
                self._idle = self._all()

    def give_back(self, address: str) -> None:
        """Nobody has the address any more, and nobody ever had more than an offer or a choice of it."""
        if address in self.pool:
            self._returned.append(address)

    def next(self, now: float) -> str | None:
        """A free address, or None: the pool is exhausted."""
        while self._returned:
            address = self._returned.popleft()
            if address not in self._known:
                return address
        for address in self._fresh:
            if address not in self._known:
                return address
        idle = self._idle
        if idle is None:
            idle = self._idle = self._all()
        while idle and idle[0][0] <= now:
            expires, address = heapq.heappop(idle)
            lease = self._known.get(address)
            if lease is not None and lease.expires == expires:
                return address  # whoever gets it is noted with a new expiry
            if lease is not None and lease.subnet != self.pool.subnet:
                # A lease from before the subnet was resized: nobody tells us of its changes.
                heapq.heappush(idle, (lease.expires, address))
        return None

    def _all(self) -> list[tuple[float, str]]:
        idle = [
            (lease.expires, lease.address) for lease in self._known.values() if lease.address in self.pool
        ]
        heapq.heapify(idle)
        # An address that is walked to stays as it is: nothing here is bounded by anything but the pool.
        self._inside = {address: True for _, address in idle}
        return idle
