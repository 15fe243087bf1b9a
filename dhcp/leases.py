"""Who has which address: a table in memory for the hot path, made durable in SQLite before anybody is told.

A lease hangs on (subnet, hardware address): PXE ROM, iPXE and the operating system send different client
identifiers (option 61), which would make three leases of one machine. Changes are collected and written in
one transaction (`prepare`, `finish`), so that the shell can drain many datagrams, wait for the disk once, and
answer them all; an ACK that left the machine is on disk (WAL, `synchronous=FULL`). Offers are promises of
seconds and stay in memory: after a crash the client's REQUEST is simply judged anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from socket import inet_aton
from typing import Protocol

from dhcp.leasechanges import BIND, DECLINE, FORGET, PARDON, RELEASE, Changes, Refused
from dhcp.leasefile import LeaseError, LeaseFile, State
from dhcp.reuse import Walk
from dhcp.subnets import Pool

__all__ = ["Lease", "LeaseError", "LeaseStore", "LeaseTaken", "SqliteLeases", "State"]


class LeaseTaken(LeaseError):
    """Somebody else holds the address: a caller's mistake, refused before any harm."""


@dataclass(slots=True)
class Lease:
    """One address and the machine it was last given to. A value: nothing changes one after it was made.

    Attributes:
        address: dotted quad.
        subnet: `SubnetConfig.name`.
        mac: hardware address; "" for a quarantined address.
        state: `offered`, `bound`, `released`, or `declined` (quarantine).
        starts, expires: seconds since the epoch; after `expires` the address may go to somebody else.
        host_name, client_id: what the client last said (options 12 and 61, the latter in hex).
        agent: what its relay said (option 82, in hex), "" = there was none.
    """

    address: str
    subnet: str
    mac: str
    state: State
    starts: float
    expires: float
    host_name: str = ""
    client_id: str = ""
    agent: str = ""

    def active(self, now: float) -> bool:
        """Whether nobody else may have the address now."""
        return self.expires > now

    def held_by(self, mac: str, now: float) -> bool:
        """Whether this machine may use the address now: bound to it and not expired."""
        return self.mac == mac and self.state == "bound" and self.expires > now


class LeaseStore(Protocol):
    """What the responder asks of a lease table. Changes count only after `prepare` and `finish` returned."""

    def lease_of(self, mac: str, subnet: str | None = None) -> Lease | None:
        """The machine's lease in this subnet, or its newest anywhere, expired or not. None = never seen."""

    def owner_of(self, address: str) -> Lease | None:
        """The lease last written for this address, whatever its state."""

    def all(self) -> list[Lease]:
        """Every lease that is known, in no order."""

    def offer(self, mac: str, pool: Pool, wanted: Sequence[str], now: float, seconds: float) -> Lease | None:
        """Keep an address for a machine: `wanted` first, then a never used one, then the longest unused."""

    def bind(self, lease: Lease, now: float) -> None:
        """Give `lease.address` to `lease.mac`. Raises LeaseTaken."""

    def release(self, mac: str, address: str, now: float) -> bool:
        """The machine gives it back, or chose another server's. False when it was not its."""

    def decline(self, mac: str, address: str, now: float, seconds: float) -> bool:
        """Somebody else uses the address: quarantine. False when it was not this machine's to decline."""

    def pardon(self, pool: Pool, now: float, seconds: float) -> bool:
        """End the oldest quarantine in this pool, if it lasts for `seconds` already. False: there is none."""

    def prepare(self) -> bool:
        """Open a transaction with all changes so far; False: none. Raises LeaseError (they are abandoned)."""

    def finish(self) -> None:
        """Make the prepared changes durable. It waits for the disk and may run in another thread.

        Until it returned, `prepare` must not be called again; all else may be. Raises LeaseError.
        """

    def abandon(self) -> None:
        """After a failed `finish`: forget what is not on disk, later changes too. Raises LeaseError."""


class SqliteLeases:
    """The durable `LeaseStore`: one file, one writing process.

    Reading methods may be called from any thread; the writing ones belong to the event loop's thread.
    """

    def __init__(self, path: Path) -> None:
        """Open (or make) the table and read it into memory.

        Raises:
            LeaseError: another process has it, or the file cannot be read as a lease table.
        """
        self.path = path
        self._changes = Changes()
        self._by_address: dict[str, Lease] = {}
        self._by_machine: dict[str, dict[str, Lease]] = {}  # subnet -> mac -> its lease there
        self._declined: dict[str, Lease] = {}  # the oldest quarantine first
        # The rows of the file, as they are once the changes are written: an offer is in memory only.
        self._rows: dict[tuple[str, str], str] = {}  # (subnet, mac) -> address
        self._row_of: dict[str, tuple[str, str]] = {}
        self._walks: dict[str, Walk] = {}
        self._file = LeaseFile(path)
        self._database = self._file.database
        try:
            self._load()
        except (sqlite3.Error, LeaseError) as error:
            self._file.close()
            raise LeaseError(f"{path} cannot be read: {error}") from error

    def close(self) -> None:
        """Commit and let go of the file."""
        try:
            self.commit()
        finally:
            self._file.close()

    def lease_of(self, mac: str, subnet: str | None = None) -> Lease | None:
        if subnet is not None:
            here = self._by_machine.get(subnet)
            return here.get(mac) if here is not None else None
        everywhere = [here.get(mac) for here in list(self._by_machine.values())]
        known = [lease for lease in everywhere if lease is not None]
        return max(known, key=lambda lease: lease.starts, default=None)

    def owner_of(self, address: str) -> Lease | None:
        return self._by_address.get(address)

    def all(self) -> list[Lease]:
        return list(self._by_address.values())

    def select(
        self,
        *,
        subnet: str | None = None,
        state: State | None = None,
        text: str = "",
        now: float | None = None,
    ) -> list[Lease]:
        """Leases in the order of their addresses, from memory, for pages and the API; from any thread.

        Args:
            subnet, state: only these.
            text: only those with it in address, hardware address or host name (capitals do not matter).
            now: only those that nobody else may have at this moment.
        """
        text = text.lower()
        found = [
            lease
            for lease in self.all()
            if (subnet is None or lease.subnet == subnet)
            and (state is None or lease.state == state)
            and (now is None or lease.expires > now)
            and (not text or text in lease.address or text in lease.mac or text in lease.host_name.lower())
        ]
        return sorted(found, key=lambda lease: inet_aton(lease.address))

    def offer(self, mac: str, pool: Pool, wanted: Sequence[str], now: float, seconds: float) -> Lease | None:
        known = self._by_address
        for address in wanted:
            holder = known.get(address)
            if holder is None or holder.mac == mac or holder.expires <= now:
                break
        else:
            found = self._walk(pool).next(now)
            if found is None:
                return None
            address = found
            holder = known.get(address)
        if holder is not None and holder.held_by(mac, now):
            return holder  # its own running lease: an offer must not shorten it
        lease = Lease(address, pool.subnet, mac, "offered", now, now + seconds)
        self._put(lease)
        return lease

    def bind(self, lease: Lease, now: float) -> None:
        address, subnet, mac = lease.address, lease.subnet, lease.mac
        holder = self._by_address.get(address)
        if holder is not None and holder.mac != mac and holder.expires > now:
            raise LeaseTaken(f"{address} is held by {holder.mac or 'nobody (quarantine)'}")
        previous = self.lease_of(mac, subnet)
        if previous is not None and previous.address != address:
            self._forget(previous)
        self._put(lease)
        key = (subnet, mac)
        row = self._rows.get(key)
        if row is not None and row != address:
            self._changes.add(FORGET, (subnet, mac, address))
            self._row_of.pop(row, None)
        if row != address:
            if (other := self._row_of.get(address)) is not None:
                self._rows.pop(other, None)
            self._rows[key], self._row_of[address] = address, key
        self._changes.add(
            BIND,
            (address, subnet, mac, lease.state, lease.starts, lease.expires, lease.host_name,
             lease.client_id, lease.agent or None),
        )  # fmt: skip

    def release(self, mac: str, address: str, now: float) -> bool:
        lease = self._by_address.get(address)
        if lease is None or lease.mac != mac or not lease.active(now):
            return False
        if lease.state == "bound":
            self._changes.add(RELEASE, (now, address, mac))
        # The record stays: the machine gets the same address again as long as nobody needed it.
        self._put(replace(lease, state="released", expires=now))
        return True

    def decline(self, mac: str, address: str, now: float, seconds: float) -> bool:
        lease = self._by_address.get(address)
        if lease is None or lease.mac != mac or not lease.active(now):
            return False
        self._drop(lease)
        self._put(replace(lease, mac="", state="declined", starts=now, expires=now + seconds))
        if (key := self._row_of.pop(address, None)) is not None:
            self._rows.pop(key, None)
        self._changes.add(DECLINE, (address, lease.subnet, now, now + seconds))
        return True

    def pardon(self, pool: Pool, now: float, seconds: float) -> bool:
        for lease in self._declined.values():
            if lease.starts + seconds > now:
                return False
            if lease.active(now) and lease.address in pool:
                self._put(replace(lease, subnet=pool.subnet, expires=now))
                self._changes.add(PARDON, (now, lease.address))
                return True
        return False

    def prepare(self) -> bool:
        if not self._changes:
            return False
        changes, self._changes = self._changes, Changes()
        try:
            changes.write(self._database)
        except Refused as error:
            self.abandon()
            raise LeaseError(f"{error} has another owner in {self.path}") from error
        except sqlite3.Error as error:
            self.abandon()
            raise LeaseError(f"{self.path}: {error}") from error
        return True

    def finish(self) -> None:
        try:
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise LeaseError(f"{self.path}: {error}") from error

    def abandon(self) -> None:
        # None of these leases was promised to anybody yet: go back to what the disk says.
        self._changes = Changes()
        try:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            self._load()
        except sqlite3.Error as error:
            raise LeaseError(f"{self.path} cannot be read back: {error}") from error

    def commit(self) -> None:
        """`prepare` and `finish` in one. Raises LeaseError; then none of the changes has happened."""
        if self.prepare():
            try:
                self.finish()
            except LeaseError:
                self.abandon()
                raise

    def _load(self) -> None:
        self._by_address, self._by_machine, self._declined, self._walks = {}, {}, {}, {}
        self._rows, self._row_of = {}, {}
        for address, subnet, mac, state, starts, expires, host_name, client_id, agent in self._file.rows():
            self._put(
                Lease(
                    address=address,
                    subnet=subnet,
                    mac=mac or "",
                    state=state,
                    starts=starts,
                    expires=expires,
                    host_name=host_name,
                    client_id=client_id,
                    agent=agent or "",
                )
            )
            if mac:
                self._rows[subnet, mac], self._row_of[address] = address, (subnet, mac)

    def _put(self, lease: Lease) -> None:
        previous = self._by_address.get(lease.address)
        if previous is not None:
            if previous.mac != lease.mac or previous.subnet != lease.subnet:
                self._drop(previous)
            self._declined.pop(lease.address, None)
        if lease.state == "declined":
            self._declined[lease.address] = lease
        if lease.mac:
            here = self._by_machine.get(lease.subnet)
            if here is None:
                here = self._by_machine[lease.subnet] = {}
            old = here.get(lease.mac)
            if old is None or old.address == lease.address:
                here[lease.mac] = lease
            elif lease.state != "released":
                if old.state == "offered":
                    self._forget(old)  # one promise per machine
                here[lease.mac] = lease
        self._by_address[lease.address] = lease
        walk = self._walks.get(lease.subnet)
        if walk is not None:
            walk.note(lease, len(self._by_address))

    def _drop(self, lease: Lease) -> None:
        self._by_address.pop(lease.address, None)
        indexed = self.lease_of(lease.mac, lease.subnet)
        if indexed is not None and indexed.address == lease.address:
            del self._by_machine[lease.subnet][lease.mac]

    def _forget(self, lease: Lease) -> None:
        self._drop(lease)
        walk = self._walks.get(lease.subnet)
        if walk is not None:
            walk.give_back(lease.address)

    def _walk(self, pool: Pool) -> Walk:
        walk = self._walks.get(pool.subnet)
        if walk is None or walk.pool is not pool:  # first time, or the configuration changed
            walk = self._walks[pool.subnet] = Walk(pool, self._by_address)
        return walk
