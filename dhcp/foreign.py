"""Which other DHCP servers give addresses here, learnt from the clients that chose them (option 54)."""

from __future__ import annotations

from typing import Final

# How often the journal is told of the same server, in seconds.
TOLD_EVERY: Final = 3600
# Anybody can write any address into a REQUEST: what is remembered is bounded.
_MOST: Final = 16


class ForeignServers:
    """Server addresses by subnet, with the time they were last chosen.

    Attributes:
        seen: subnet's name -> server's address -> seconds since the epoch. At most 16 of a subnet, the
            longest unseen is forgotten first.
    """

    def __init__(self) -> None:
        self.seen: dict[str, dict[str, float]] = {}
        self._told: dict[tuple[str, str], float] = {}

    def note(self, subnet: str, server: str, now: float) -> bool:
        """Remember; whether it is time to tell (again)."""
        servers = self.seen.setdefault(subnet, {})
        servers[server] = now
        if len(servers) > _MOST:
            oldest = min(servers, key=lambda address: servers[address])
            del servers[oldest]
            self._told.pop((subnet, oldest), None)
        key = (subnet, server)
        if key in self._told and now - self._told[key] < TOLD_EVERY:
            return False
        self._told[key] = now
        return True
