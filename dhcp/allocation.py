"""Which address a machine may have: its reservation, its own, a free one; and why it may not have another's.

RFC 2131 §4.3.1. Reservations come from two sides: the subnet's configuration, which the pool leaves out, and
what is set for a host, which the pool knows nothing of.
"""

from __future__ import annotations

from typing import Final

from dhcp.exchange import Exchange
from dhcp.leases import Lease, LeaseStore
from dhcp.subnets import HostSettings

# Seconds that an address which a host's settings reserve is kept for it once the pool came upon it.
_KEEP_RESERVED: Final = 3600


class Allocation:
    """The judge of addresses: reads lease table and hosts' settings, and keeps offers in the table."""

    def __init__(self, leases: LeaseStore, hosts: HostSettings | None) -> None:
        self._leases = leases
        self._hosts = hosts

    def pick(self, ask: Exchange, held: Lease | None) -> str | None:
        """The address to offer, kept for this machine from now on; None: the pool is exhausted.

        `held` is its lease in this subnet, running or not.

        In this order: the reservation, what it has or had, what it asks for (50), never used, longest unused,
        longest in quarantine (if it will be looked up).
        """
        subnet = ask.subnet
        reservation = ask.reservation
        wishes = (
            reservation.address if reservation else None,
            held.address if held else None,
            ask.packet.requested_address,
        )
        wanted = []
        for address in wishes:  # most have none
            if address is not None and self.may_have(ask, address):
                wanted.append(address)
        while True:
            lease = self._leases.offer(ask.mac, subnet.pool, wanted, ask.now, subnet.offer_seconds)
            if lease is None:
                # Else a stranger's DECLINEs, which cost him nothing, would shut the pool: where we look
                # before we offer anyway, one holds an address no longer than a DISCOVER does.
                if subnet.conflict_probe and self._leases.pardon(subnet.pool, ask.now, subnet.offer_seconds):
                    continue
                return None
            owner = self._reserved_to_another(ask, lease.address)
            if owner is None:
                return lease.address
            # The pool does not know of a host's own reservation. Promise the address to whom it belongs, so
            # that the pool goes on to the next one, and comes back to it when the reservation may be gone.
            self._leases.release(ask.mac, lease.address, ask.now)
            self._leases.offer(owner, subnet.pool, (lease.address,), ask.now, _KEEP_RESERVED)

    def may_have(self, ask: Exchange, address: str) -> bool:
        """Whether reservations and pools allow it (nothing about who holds it now)."""
        reservation = ask.reservation
        if reservation is not None and address == reservation.address:
            return True
        if address not in ask.subnet.pool or self._reserved_to_another(ask, address) is not None:
            return False
        if reservation is None:
            return True
        # A reservation whose address is another machine's for now must not leave this one without any.
        holder = self._leases.owner_of(reservation.address)
        return holder is not None and holder.mac != ask.mac and holder.active(ask.now)

    def refusal(self, ask: Exchange, address: str) -> str:
        """Why this machine cannot have this address now, or ""."""
        reservation = ask.reservation
        reserved = reservation.address if reservation else None
        if not self.may_have(ask, address):
            return f"{ask.mac} is to have {reserved}" if reserved else f"{address} is not in the pool"
        holder = self._leases.owner_of(address)
        if holder is not None and holder.mac != ask.mac and holder.active(ask.now):
            return f"{address} is {'held by ' + holder.mac if holder.mac else 'in quarantine'}"
        known = self._leases.lease_of(ask.mac, ask.subnet.name)
        moves = address == reserved  # a new reservation outranks the lease it has
        if known is not None and known.address != address and known.held_by(ask.mac, ask.now) and not moves:
            return f"{ask.mac} holds {known.address}"
        return ""

    def _reserved_to_another(self, ask: Exchange, address: str) -> str | None:
        """Whose reservation this address is, if it is a host's and not this one's."""
        if self._hosts is None:
            return None
        reservation = ask.reservation
        if reservation is not None and address == reservation.address:
            return None
        owner = self._hosts.reserved_to(address)
        return None if owner == ask.mac else owner
