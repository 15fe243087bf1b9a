"""Multicast sessions: one per running operation, version and interface; their senders started, watched and
stopped by us.

A session's id, key, group and ports are a row of `multicast_session`, so a daemon that was killed starts the
same sessions again and receivers find them where they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from sqlmodel import Session, col, select

from imaging.multicast.wire import VERSION
from pxeboot.adapters.places import Places
from pxeboot.adapters.senders import SenderProcess
from pxeboot.adapters.transfers import Transfers
from pxeboot.db.engine import Database
from pxeboot.db.models import Host, ImageVersion, MulticastSession, Operation, OperationState, Task, TaskState
from pxeboot.events import Journal
from pxeboot.services import tasks
from pxeboot.services.task_states import ACTIVE, WORKING
from pxeboot.settings import Settings

log = logging.getLogger(__name__)

SYMBOL, SYMBOL_WITH_KEY = 1450, 1446  # either fills an MTU of 1500
LOOK_SECONDS = 1.0
LINGER_SECONDS = 5.0  # a sender nobody needs for so long is stopped
MAX_RESTARTS = 5  # in a row; then the receivers go on by HTTP
STEADY_SECONDS = 60.0  # a sender that ran this long has its restarts forgiven
# Stages in which an agent no longer listens.
DEAF_STAGES = ("verify", "customise")
_TOLD = {
    "started": "The multicast sender runs.",
    "sweep-started": "The multicast sender begins a sweep.",
    "receiver-joined": "A receiver joined the multicast session.",
    "receiver-left": "A receiver left the multicast session.",
    "receiver-slow": "A receiver does not keep up with the multicast session: the others go on without it.",
    "receiver-recovered": "A receiver keeps up with the multicast session again.",
    "chunk-unavailable": "A chunk cannot be sent.",
    "send-failed": "Multicast datagrams cannot be sent.",
    "refused": "The multicast sender did not understand a change.",
    "stopped": "The multicast sender has stopped.",
    "failed": "The multicast sender has failed.",
}


@dataclass
class _Running:
    """One sender process."""

    sender: SenderProcess
    operation: str
    port: int  # that it hears reports on
    started: float
    expected: int
    unneeded_since: float | None = None


@dataclass
class _Wanted:
    """A session that should be on air, how many tasks may still join it on its interface, and whether some of
    them have received already: then nobody is waited for when its sender starts."""

    row: MulticastSession
    expected: int
    begun: bool


@dataclass
class _Record:
    """What we remember of a session beyond one process."""

    restarts: int = 0
    next_try: float = 0.0
    given_up: bool = False
    serves: tuple[str, str] = ("", "")  # operation and manifest
    datagrams: int | None = None  # sent, by the sender's last "state" line


class SessionManager:
    """Allocates sessions (from any thread) and runs their senders (on the event loop)."""

    def __init__(
        self, settings: Settings, database: Database, journal: Journal, store: Path, address: str
    ) -> None:
        """`address`: ours on the interface that faces the machines; "" means that there is no multicast."""
        self._settings, self._database, self._journal = settings, database, journal
        self._store, self._address = store, address
        self.addresses: frozenset[str] = frozenset()  # of ours, on other interfaces that face machines
        self.transfers = Transfers(settings, database, journal)
        self._running: dict[int, _Running] = {}
        self._records: dict[int, _Record] = {}
        self._places = Places(address)
        self._wake: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def use(self, settings: Settings) -> None:
        """Other settings: rates change at once, the rest holds for sessions that begin from now on."""
        self._settings = settings
        self.transfers.use(settings)

    def session_for(self, session: Session, task_id: str, asked: str = "") -> dict[str, Any] | None:
        """SESSION of docs/ARCHITECTURE.md §4 for a deploy task that boots or works, made if need be.

        `asked`: our address that its machine talks to: the stream must leave by the same interface. None: use
        HTTP. Needs a writing session. Any thread.
        """
        address = asked if asked in self.addresses and asked != self._address else ""
        task = tasks.row(session, task_id)
        operation = session.get(Operation, task.operation_id)
        if (
            not self._address
            or operation is None
            or operation.transport != "multicast"
            or task.state not in (*WORKING, TaskState.BOOTING)
            or task.version_id is None
        ):
            return None
        version = session.get(ImageVersion, task.version_id)
        if version is None:
            return None
        row = session.exec(
            select(MulticastSession).where(
                MulticastSession.operation_id == operation.id,
                MulticastSession.manifest == version.manifest,
                MulticastSession.address == address,
                col(MulticastSession.active),
            )
        ).first()
        if row is None:
            row = self._allocate(session, operation.id, version.manifest, address)
        self._places.asked(task_id, address)
        if row is None or self._record(row.id).given_up:
            return None
        self._look_soon()
        return self._offer(row)

    def _offer(self, row: MulticastSession) -> dict[str, Any]:
        """SESSION, with its key: for agents on the task plane and for the sender, for nobody else."""
        return {
            "version": VERSION,
            "id": row.id,
            "group": row.group_address,
            "port": row.port,
            "report": [row.address or self._address, row.report_port],
            "symbol": SYMBOL_WITH_KEY if row.key else SYMBOL,
            "key": row.key or None,
            "encrypt": row.encrypt,
        }

    def sent(self, operation_id: str, manifest: str) -> int | None:
        """How many multicast datagrams a session's sender has sent, by its last word; None: there is none."""
        said = [
            record.datagrams
            for record in list(self._records.values())
            if record.serves == (operation_id, manifest) and record.datagrams is not None
        ]
        return max(said, default=None)

    def _allocate(
        self, session: Session, operation_id: str, manifest: str, address: str
    ) -> MulticastSession | None:
        """The first free slot gives group and report port; sessions of the same group would hear each
        other."""
        rules = self._settings.multicast
        active = session.exec(select(MulticastSession).where(col(MulticastSession.active))).all()
        taken = {row.report_port for row in active}
        for slot in range(min(rules.group_count, 65535 - rules.port)):
            if rules.port + 1 + slot not in taken:
                break
        else:
            return None
        row = MulticastSession(
            id=secrets.randbits(32),
            operation_id=operation_id,
            manifest=manifest,
            group_address=str(IPv4Address(rules.group_base) + slot),
            port=rules.port,
            report_port=rules.port + 1 + slot,
            address=address,
            key=secrets.token_hex(32) if rules.protect != "off" else "",
            encrypt=rules.protect == "encrypt",
        )
        session.add(row)
        session.flush()
        return row

    def _record(self, id: int) -> _Record:
        return self._records.setdefault(id, _Record())

    def _look_soon(self) -> None:
        if self._loop is not None and self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended: the daemon stops
                self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Keep the right senders running, and the arbiter; ends them all when cancelled."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.transfers.run())
            try:
                await self._rounds(self._wake)
            finally:
                await asyncio.gather(*(self._stop(id) for id in list(self._running)))

    async def _rounds(self, wake: asyncio.Event) -> None:
        while True:
            wake.clear()
            if self._address:
                await self._look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), self._pause(time.monotonic()))

    def _pause(self, now: float) -> float:
        """Seconds until the next look."""
        if not self._running and not self._records:
            return 60.0  # nothing runs: only a check-in can change that, and it wakes us
        tries = [record.next_try - now for record in self._records.values() if record.next_try > now]
        return min([LOOK_SECONDS, *tries])

    async def _look(self) -> None:
        wanted = await asyncio.to_thread(self._wanted)
        now = time.monotonic()
        for id, item in wanted.items():
            record = self._record(id)
            if record.given_up or now < record.next_try:
                continue
            running = self._running.get(id)
            if running is None:
                # One that lingers for an operation that is over has given its port away.
                before = [other for other, one in self._running.items() if one.port == item.row.report_port]
                await asyncio.gather(*map(self._stop, before))
                await self._start(item)
            elif running.expected != item.expected:
                running.expected = item.expected
                running.sender.tell({"expected": item.expected})
        for id, running in list(self._running.items()):
            if id in wanted:
                running.unneeded_since = None
            elif running.unneeded_since is None:
                running.unneeded_since = now
            elif now - running.unneeded_since > LINGER_SECONDS:
                await self._stop(id)
        for id in set(self._records) - set(wanted) - set(self._running):
            del self._records[id]

    def _wanted(self) -> dict[int, _Wanted]:
        """Sessions with a task that boots or receives; sessions of operations that are over are put away."""
        found: dict[int, _Wanted] = {}
        over: list[int] = []
        others = self.addresses - {self._address}
        with self._database.read() as session:
            for row in session.exec(select(MulticastSession).where(col(MulticastSession.active))).all():
                operation = session.get(Operation, row.operation_id)
                if operation is None or operation.state != OperationState.RUNNING:
                    over.append(row.id)
                    continue
                mine = [
                    task
                    for task, host in session.exec(
                        select(Task, Host.address)
                        .join(ImageVersion)
                        .join(Host, col(Host.id) == col(Task.host_id))
                        .where(
                            Task.operation_id == row.operation_id,
                            ImageVersion.manifest == row.manifest,
                            col(Task.state).in_(ACTIVE),
                        )
                    ).all()
                    # One of which nobody knows where it is may come anywhere.
                    if not others or self._places.of(task.id, host, others) in (row.address, None)
                ]
                listening = [
                    task
                    for task in mine
                    if task.state == TaskState.BOOTING
                    or (task.state == TaskState.RUNNING and task.stage not in DEAF_STAGES)
                ]
                if listening:
                    waiting = [task for task in mine if task.state == TaskState.QUEUED]
                    session.expunge(row)
                    # Before its first word in an attempt (stage "") the bytes are those of the last one.
                    begun = any(task.stage and task.bytes_multicast for task in listening)
                    found[row.id] = _Wanted(row, len(listening) + len(waiting), begun)
        if over:
            with self._database.write() as session:
                for id in over:
                    gone = session.get(MulticastSession, id)
                    if gone is not None:
                        gone.active, gone.key = False, ""
                        session.add(gone)
        return found

    async def _start(self, item: _Wanted) -> None:
        row, rules = item.row, self._settings.multicast
        address = row.address or self._address
        protected = "encrypt" if row.encrypt else "authenticate" if row.key else "off"
        rate = self.transfers.open_session(
            row.operation_id, row.id, address, lambda mbit: self._tell_rate(row.id, mbit), protected,
            begun=item.begun,
        )  # fmt: skip
        order = {
            "session": self._offer(row),
            "manifest": row.manifest,
            "store": str(self._store),
            "interface": address,
            "rate_mbit": rate,
            "gather_seconds": 0.0 if item.begun else rules.gather_seconds,
            "expected": item.expected,
            "ttl": rules.ttl,
            "loop": IPv4Address(address).is_loopback,
        }
        try:
            sender = await SenderProcess.start(
                order,
                lambda kind, event: self._heard(row, kind, event),
                lambda reason: self._ended(row, reason),
            )
        except OSError as error:
            self._failed(row, f"The multicast sender cannot be started: {error.strerror}.")
            return
        self._running[row.id] = _Running(
            sender, row.operation_id, row.report_port, time.monotonic(), item.expected
        )
        # Another rate may have been granted while it started.
        self._tell_rate(row.id, self.transfers.granted_mbit(row.operation_id, row.id))

    def _tell_rate(self, id: int, mbit: float) -> None:
        if (running := self._running.get(id)) is not None:
            running.sender.tell({"rate_mbit": mbit})

    def _ended(self, row: MulticastSession, reason: str) -> None:
        running = self._running.pop(row.id, None)
        if running is not None:  # it was not we who stopped it
            self._failed(row, reason, running)

    def _heard(self, row: MulticastSession, kind: str, event: dict[str, Any]) -> None:
        self.transfers.heard(row.operation_id, row.id, kind, event)
        if kind == "state":
            record = self._record(row.id)
            record.serves, record.datagrams = (row.operation_id, row.manifest), int(event["datagrams"])
            return
        sentence = _TOLD.get(kind, f"The multicast sender says {kind}.")
        if reason := event.get("reason"):
            sentence += f" ({reason})"
        self._journal.record(
            "multicast",
            f"multicast.{kind}",
            sentence,
            operation_id=row.operation_id,
            data={"session": row.id, "group": row.group_address, **event},
        )

    def _failed(self, row: MulticastSession, reason: str, running: _Running | None = None) -> None:
        """A sender ended by itself: try again a little later, or leave it to HTTP."""
        record = self._record(row.id)
        now = time.monotonic()
        if running is not None and now - running.started > STEADY_SECONDS:
            record.restarts = 0
        record.restarts += 1
        if record.restarts > MAX_RESTARTS:
            record.given_up = True
            sentence = f"{reason} It was restarted {MAX_RESTARTS} times; receivers go on over HTTP."
        else:
            # Killed once, nobody shall notice; what dies again and again shall not keep us busy.
            pause = min(10.0, 0.25 * 4 ** (record.restarts - 1)) * random.uniform(0.5, 1.5)
            record.next_try = now + pause
            sentence = f"{reason} It is started again in {pause:.1f} s."
        self.transfers.sender_lost(row.operation_id, row.id, given_up=record.given_up)
        self._journal.record(
            "multicast", "multicast.lost", sentence, operation_id=row.operation_id, data={"session": row.id}
        )
        self._look_soon()

    async def _stop(self, id: int) -> None:
        running = self._running.pop(id, None)
        if running is not None:
            self.transfers.close_session(running.operation, id)
            await running.sender.stop()
