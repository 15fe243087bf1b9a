"""Who has which address: a table in memory for the hot path, made durable in SQLite before anybody is told.

A lease hangs on (subnet, hardware address): PXE ROM, iPXE and the operating system send different client
identifiers (option 61), which would make three leases of one machine. Changes are collected and written in
one transaction (`prepare`, `finish`), so that the shell can drain many datagrams, wait for the disk once, and
answer them all; an ACK that left the machine is on disk (WAL, `synchronous=FULL`). Offers are promises of
seconds and stay in memory: after a crash the client's REQUEST is simply judged anew.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from dhcp.subnets import Pool

State = Literal["offered", "bound", "released", "declined"]


class LeaseError(Exception):
    """The lease table cannot be read or written, or is in use by another process."""


class LeaseTaken(LeaseError):
    """Somebody else holds the address: a caller's mistake, refused before any harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One address and the machine it was last given to.

    Attributes:
        address: dotted quad.
        subnet: `SubnetConfig.name`.
        mac: hardware address; "" for a quarantined address.
        state: `offered`, `bound`, `released`, or `declined` (quarantine).
        starts, expires: seconds since the epoch; after `expires` the address may go to somebody else.
        host_name, client_id: what the client last said (options 12 and 61, the latter in hex).
    """

    address: str
    subnet: str
    mac: str
    state: State
    starts: float
    expires: float
    host_name: str = ""
    client_id: str = ""

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

    def offer(
        self, mac: str, pool: Pool, wanted: tuple[str, ...], now: float, seconds: float
    ) -> Lease | None:
        """Keep an address for a machine: `wanted` first, then a never used one, then the longest unused."""

    def bind(self, lease: Lease, now: float) -> None:
        """Give `lease.address` to `lease.mac`. Raises LeaseTaken."""

    def release(self, mac: str, address: str, now: float) -> bool:
        """The machine gives it back, or chose another server's. False when it was not its."""

    def decline(self, mac: str, address: str, now: float, seconds: float) -> bool:
        """Somebody else uses the address: quarantine. False when it was not this machine's to decline."""

    def prepare(self) -> bool:
        """Open a transaction with all changes so far; False: none. Raises LeaseError (they are abandoned)."""

    def finish(self) -> None:
        """Make the prepared changes durable. It waits for the disk and may run in another thread.

        Until it returned, `prepare` must not be called again; all else may be. Raises LeaseError.
        """

    def abandon(self) -> None:
        """After a failed `finish`: forget what is not on disk, later changes too. Raises LeaseError."""


_SCHEMA = """
CREATE TABLE IF NOT EXISTS lease (
    address   TEXT PRIMARY KEY,
    subnet    TEXT NOT NULL,
    mac       TEXT,
    state     TEXT NOT NULL CHECK (state IN ('bound', 'released', 'declined')),
    starts    REAL NOT NULL,
    expires   REAL NOT NULL,
    host_name TEXT NOT NULL DEFAULT '',
    client_id TEXT NOT NULL DEFAULT '',
    UNIQUE (subnet, mac)
) WITHOUT ROWID;
"""
# A machine has one row per subnet ...
_FORGET = "DELETE FROM lease WHERE subnet = :subnet AND mac = :mac AND address <> :address"
# ... and an address changes hands only when nobody holds it: the database itself refuses two owners.
_BIND = """
INSERT INTO lease (address, subnet, mac, state, starts, expires, host_name, client_id)
VALUES (:address, :subnet, :mac, :state, :starts, :expires, :host_name, :client_id)
ON CONFLICT (address) DO UPDATE SET subnet = excluded.subnet, mac = excluded.mac, state = excluded.state,
    starts = excluded.starts, expires = excluded.expires,
    host_name = excluded.host_name, client_id = excluded.client_id
WHERE lease.mac = excluded.mac OR lease.expires <= excluded.starts
"""
_RELEASE = "UPDATE lease SET state = 'released', expires = :expires WHERE address = :address AND mac = :mac"
_DECLINE = """
INSERT OR REPLACE INTO lease (address, subnet, mac, state, starts, expires)
VALUES (:address, :subnet, NULL, 'declined', :starts, :expires)
"""
_COLUMNS = "address, subnet, mac, state, starts, expires, host_name, client_id"


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
        self._changes: list[tuple[str, dict[str, object]]] = []
        self._by_address: dict[str, Lease] = {}
        self._by_mac: dict[str, dict[str, Lease]] = {}
        self._walks: dict[str, _Walk] = {}
        self._lock = os.open(
            path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            # Two daemons on one table would both think an address free; the lock dies with its process.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for statement in (
                "PRAGMA journal_mode=WAL",
                "PRAGMA synchronous=FULL",
                "PRAGMA busy_timeout=2000",
            ):
                self._database.execute(statement)
            self._database.executescript(_SCHEMA)
            self._load()
        except BlockingIOError as error:
            os.close(self._lock)
            raise LeaseError(f"{path} is in use by another process") from error
        except sqlite3.Error as error:
            os.close(self._lock)
            raise LeaseError(f"{path} cannot be used as a lease table: {error}") from error

    def close(self) -> None:
        """Commit and let go of the file."""
        try:
            self.commit()
        finally:
            self._database.close()
            os.close(self._lock)

    def lease_of(self, mac: str, subnet: str | None = None) -> Lease | None:
        leases = self._by_mac.get(mac)
        if not leases:
            return None
        if subnet is not None:
            return leases.get(subnet)
        return max(list(leases.values()), key=lambda lease: lease.starts)

    def owner_of(self, address: str) -> Lease | None:
        return self._by_address.get(address)

    def all(self) -> list[Lease]:
        return list(self._by_address.values())

    def offer(
        self, mac: str, pool: Pool, wanted: tuple[str, ...], now: float, seconds: float
    ) -> Lease | None:
        for address in wanted:
            holder = self._by_address.get(address)
            if holder is None or holder.mac == mac or not holder.active(now):
                break
        else:
            found = self._walk(pool).next(now)
            if found is None:
                return None
            address = found
        holder = self._by_address.get(address)
        if holder is not None and holder.held_by(mac, now):
            return holder  # its own running lease: an offer must not shorten it
        lease = Lease(
            address=address, subnet=pool.subnet, mac=mac, state="offered", starts=now, expires=now + seconds
        )
        self._put(lease)
        return lease

    def bind(self, lease: Lease, now: float) -> None:
        holder = self._by_address.get(lease.address)
        if holder is not None and holder.mac != lease.mac and holder.active(now):
            raise LeaseTaken(f"{lease.address} is held by {holder.mac or 'nobody (quarantine)'}")
        previous = self._by_mac.get(lease.mac, {}).get(lease.subnet)
        if previous is not None and previous.address != lease.address:
            self._forget(previous)
        self._put(lease)
        values: dict[str, object] = {
            "address": lease.address,
            "subnet": lease.subnet,
            "mac": lease.mac,
            "state": lease.state,
            "starts": lease.starts,
            "expires": lease.expires,
            "host_name": lease.host_name,
            "client_id": lease.client_id,
        }
        self._changes.append((_FORGET, values))
        self._changes.append((_BIND, values))

    def release(self, mac: str, address: str, now: float) -> bool:
        lease = self._by_address.get(address)
        if lease is None or lease.mac != mac or not lease.active(now):
            return False
        if lease.state == "bound":
            self._changes.append((_RELEASE, {"address": address, "mac": mac, "expires": now}))
        # The record stays: the machine gets the same address again as long as nobody needed it.
        self._put(replace(lease, state="released", expires=now))
        return True

    def decline(self, mac: str, address: str, now: float, seconds: float) -> bool:
        lease = self._by_address.get(address)
        if lease is None or lease.mac != mac or not lease.active(now):
            return False
        self._drop(lease)
        self._put(replace(lease, mac="", state="declined", starts=now, expires=now + seconds))
        values: dict[str, object] = {
            "address": address,
            "subnet": lease.subnet,
            "starts": now,
            "expires": now + seconds,
        }
        self._changes.append((_DECLINE, values))
        return True

    def prepare(self) -> bool:
        if not self._changes:
            return False
        changes, self._changes = self._changes, []
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for statement, values in changes:
                if self._database.execute(statement, values).rowcount == 0 and statement is _BIND:
                    raise LeaseError(f"{values['address']} has another owner in {self.path}")
        except (sqlite3.Error, LeaseError) as error:
            self.abandon()
            raise error if isinstance(error, LeaseError) else LeaseError(f"{self.path}: {error}") from error
        return True

    def finish(self) -> None:
        try:
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise LeaseError(f"{self.path}: {error}") from error

    def abandon(self) -> None:
        # None of these leases was promised to anybody yet: go back to what the disk says.
        self._changes = []
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
        self._by_address, self._by_mac, self._walks = {}, {}, {}
        for row in self._database.execute(f"SELECT {_COLUMNS} FROM lease"):
            address, subnet, mac, state, starts, expires, host_name, client_id = row
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
                )
            )

    def _put(self, lease: Lease) -> None:
        previous = self._by_address.get(lease.address)
        if previous is not None and previous.mac != lease.mac:
            self._drop(previous)
        if lease.mac:
            mine = self._by_mac.setdefault(lease.mac, {})
            old = mine.get(lease.subnet)
            elsewhere = old is not None and old.address != lease.address
            if old is not None and elsewhere and old.state == "offered" and lease.state != "released":
                self._forget(old)  # one promise per machine
                mine = self._by_mac.setdefault(lease.mac, {})
            if not (elsewhere and lease.state == "released"):
                mine[lease.subnet] = lease
        self._by_address[lease.address] = lease
        walk = self._walks.get(lease.subnet)
        if walk is not None:
            walk.note(lease, len(self._by_address))

    def _drop(self, lease: Lease) -> None:
        self._by_address.pop(lease.address, None)
        mine = self._by_mac.get(lease.mac)
        if mine is not None:
            indexed = mine.get(lease.subnet)
            if indexed is not None and indexed.address == lease.address:
                del mine[lease.subnet]
            if not mine:
                del self._by_mac[lease.mac]

    def _forget(self, lease: Lease) -> None:
        self._drop(lease)
        # The address counts as never used again, but the walk may have passed it: start anew.
        self._walks.pop(lease.subnet, None)

    def _walk(self, pool: Pool) -> _Walk:
        walk = self._walks.get(pool.subnet)
        if walk is None or walk.pool is not pool:  # first time, or the configuration changed
            walk = self._walks[pool.subnet] = _Walk(pool, self._by_address)
        return walk


class _Walk:
    """The order in which one pool's addresses are given: never used ones first, then the longest unused."""

    def __init__(self, pool: Pool, known: dict[str, Lease]) -> None:
        self.pool = pool
        self._known = known
        self._fresh = iter(pool)
        self._idle: list[
            tuple[float, str]
        ] = []  # heap of (expires, address); stale entries are skipped on the way
        self._rebuild()

    def note(self, lease: Lease, known: int) -> None:
        """A lease changed: its address is to be found again when it expires."""
        if lease.address not in self.pool:
            return
        heapq.heappush(self._idle, (lease.expires, lease.address))
        if len(self._idle) > 4 * known + 1024:  # renewals leave stale entries behind
            self._rebuild()

    def next(self, now: float) -> str | None:
        """A free address, or None: the pool is exhausted."""
        for address in self._fresh:
            if address not in self._known:
                return address
        while self._idle and self._idle[0][0] <= now:
            expires, address = heapq.heappop(self._idle)
            lease = self._known.get(address)
            if lease is not None and lease.expires == expires:
                return address  # whoever gets it is noted with a new expiry
        return None

    def _rebuild(self) -> None:
        self._idle = [
            (lease.expires, lease.address) for lease in self._known.values() if lease.address in self.pool
        ]
        heapq.heapify(self._idle)
