"""Who sits at which address: by our lease table, and by the kernel's neighbour table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Protocol

from dhcp.leases import Lease


class Leases(Protocol):
    """What we ask of the lease table."""

    def owner_of(self, address: str) -> Lease | None:
        """The lease last written for this address, or None."""

    def all(self) -> list[Lease]:
        """Every lease that is known."""


class LeaseView:
    """Who may speak for which MAC: by our lease table where we give the addresses, else by the neighbour
    table.

    `beside`: the networks in which another server gives the addresses (modes proxy and off).
    """

    def __init__(
        self,
        leases: Leases | None,
        *,
        beside: Sequence[IPv4Network] = (),
        neighbour: Callable[[str], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._leases = leases
        self._beside = tuple(beside)
        self._neighbour = neighbour or neighbour_mac
        self._clock = clock

    @property
    def gives_addresses(self) -> bool:
        """Whether we run DHCP with addresses."""
        return self._leases is not None

    def all(self) -> list[Lease]:
        """Every lease that is known, in no order; from any thread."""
        return self._leases.all() if self._leases is not None else []

    def holds(self, address: str, mac: str) -> bool:
        """Whether `address` is provably `mac`'s: leased by us, or seen in the kernel's neighbour table."""
        if self._leases is not None:
            lease = self._leases.owner_of(address)
            if lease is not None and lease.held_by(mac, self._clock()):
                return True
        return self._neighbour(address) == mac

    def may_speak(self, address: str, mac: str) -> bool:
        """Whether a request from `address` may act for `mac`.

        Where we give the addresses it must hold the lease (or be its neighbour: a fixed address). Beside
        another server only a contradiction refuses: through a router the neighbour table cannot know.
        """
        if not address:  # a Unix socket: behind it is a reverse proxy, which machines never boot through
            return False
        if self.holds(address, mac):
            return True
        if self._leases is not None and not self._is_beside(address):
            return False
        known = self._neighbour(address)
        return known is None or known == mac

    def _is_beside(self, address: str) -> bool:
        try:
            asked = IPv4Address(address)
        except ValueError:
            return False
        return any(asked in network for network in self._beside)

    def mac_of(self, address: str) -> str:
        """The MAC at an address, for the journal; "" when unknown."""
        if self._leases is not None:
            lease = self._leases.owner_of(address)
            if lease is not None and lease.mac:
                return str(lease.mac)
        return self._neighbour(address) or ""


def neighbour_mac(address: str, table: Path = Path("/proc/net/arp")) -> str | None:
    """What the kernel's neighbour table says (arp(7)); complete entries only."""
    try:
        lines = table.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) >= 4 and fields[0] == address and int(fields[2], 16) & 0x02:
            return fields[3].lower()
    return None
