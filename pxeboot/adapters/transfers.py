"""All that this server sends to agents, and takes from them: streams, their rates from one arbiter, their
figures and records.

A stream is a multicast session, or the downloads or uploads of one operation on one interface. Everything
here happens on the event loop but for the database, which is asked once a second while something is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import inf
from typing import Any, Final
from zoneinfo import ZoneInfo

from pxeboot.adapters.links import Links, capacities, timed_limits
from pxeboot.adapters.shaper import Gate
from pxeboot.adapters.sharing import grants
from pxeboot.adapters.streams import DOWNLOADS, LEAST_RATE, UPLOADS, Stream
from pxeboot.db.engine import Database
from pxeboot.errors import NotFound
from pxeboot.events import Change, Journal
from pxeboot.services import transfers as rows
from pxeboot.services.transfer_views import HostFiguresView, StreamView, TransferView
from pxeboot.settings import Settings
from pxeboot.transfer.arbiter import IDLE_SHARE, PRIORITIES, Grant
from pxeboot.transfer.eta import latest
from pxeboot.transfer.figures import HostTrack, Machine
from pxeboot.transfer.log import HostPoint, LogEvent, Sample, StreamLog
from pxeboot.transfer.why import Reason, explain

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 1.0
SAVE_SECONDS: Final = 20.0  # what a killed daemon may lose of a record
_TELL_SHARE: Final = 0.01  # a sender is told of changes above this


class Transfers:
    """The streams of this server. Methods from the event loop, but for those that say "any thread"."""

    def __init__(self, settings: Settings, database: Database, journal: Journal) -> None:
        self._settings, self._database, self._journal = settings, database, journal
        self._links = Links()
        self._streams: dict[tuple[str, int, str], Stream] = {}
        self._tracks: dict[tuple[str, str], HostTrack] = {}
        self._machines: dict[str, list[Machine]] = {}
        self._rules: dict[str, tuple[float | None, float]] = {}
        self._views: dict[str, TransferView] = {}
        self._capacities: dict[str, float] = {}
        self._begun = time.time()
        self._served: set[str] = set()  # operations, since then
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self.sent: Counter[str] = Counter()  # bytes on the wire since the start, by way; uploads came in

    # --- from outside

    def use(self, settings: Settings) -> None:
        """Other settings, from the next look on, which is at once. Any thread."""
        self._settings = settings
        self.look_soon()

    def look_soon(self) -> None:
        """Something has changed: share out anew. Any thread."""
        if self._loop is not None and self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just ended: the daemon stops
                self._loop.call_soon_threadsafe(self._wake.set)

    def limit_changed(self, operation: str, limit: float | None, who: str) -> None:
        """Somebody set another limit: it holds at once, and its record tells. Any thread."""

        def note() -> None:
            facts = {"who": who or "?", "mbit": f"{limit:g}" if limit else ""}
            for stream in self._of(operation):
                stream.log.note(LogEvent(time.time(), "limit", "", facts))

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(note)
        self.look_soon()

    def view(self, operation: str) -> TransferView:
        """What an operation transfers, as of the last look. Any thread."""
        found = self._views.get(operation)
        if found is not None:
            return found
        with self._database.read() as session:
            limit, weight = rows.rules(session, [operation]).get(operation, (None, 1.0))
        return TransferView(operation=operation, limit_mbit=limit, priority=_priority(weight))

    def records(self, operation: str) -> list[StreamLog]:
        """The records of an operation, those being written included. Any thread. NotFound(operation)."""
        with self._database.read() as session:
            found: dict[Any, StreamLog] = dict(rows.kept(session, operation))
        for stream in tuple(self._of(operation)):
            earlier = found.get(stream.session) if stream.unread else None
            found[stream.session] = _joined(earlier, StreamLog.from_json(stream.log.to_json()))
        return list(found.values())

    def why(self, operation: str) -> list[Reason]:
        """Why an operation took as long as it did. Any thread. NotFound(operation)."""
        return explain(self.records(operation), ZoneInfo(self._settings.server.zone))

    def streams(self) -> list[StreamView]:
        """All streams as of now, for metrics."""
        return [stream.view() for stream in self._streams.values() if not stream.over]

    def hosts(self) -> list[HostFiguresView]:
        """All machines that receive, as of the last look, for metrics."""
        return [host for view in tuple(self._views.values()) for host in view.hosts]

    # --- multicast sessions

    def open_session(
        self,
        operation: str,
        session: int,
        address: str,
        tell: Callable[[float], None],
        protected: str,
        *,
        begun: bool = False,
    ) -> float:
        """A sender is about to start, or starts again: how fast it may send, in Mbit/s. `tell` is called
        with each other rate. `begun`: its receivers are waiting, so that it can use all it gets."""
        stream = self._stream(operation, session, self._links.name(address), "multicast")
        stream.tell, stream.over, stream.protected = tell, False, protected
        stream.state, stream.used, stream.wish = {}, 0.0, inf if begun else 0.0
        self._share_out()
        self.look_soon()
        stream.told = stream.grant.rate
        return round(stream.grant.rate / 1e6, 3)

    def granted_mbit(self, operation: str, session: int) -> float:
        """How fast a session may send now."""
        for stream in self._of(operation):
            if stream.session == session:
                stream.told = stream.grant.rate
                return round(stream.grant.rate / 1e6, 3)
        return LEAST_RATE / 1e6

    def heard(self, operation: str, session: int, kind: str, data: Mapping[str, Any]) -> None:
        """What a sender said."""
        stream = next((s for s in self._of(operation) if s.session == session), None)
        if stream is None:
            return
        if kind == "state":
            sent, classes = stream.take_state(data)
            self.sent["multicast"] += sent
            for address, now, facts in classes:
                host = self._name_of(operation, address)
                stream.log.note(LogEvent(time.time(), "class", host, {"class": now, **facts}))
        elif kind in ("receiver-joined", "receiver-left"):
            facts = {"reason": str(data["reason"])} if data.get("reason") else {}
            host = self._name_of(operation, str(data.get("address", "")))
            stream.log.note(LogEvent(time.time(), kind.removeprefix("receiver-"), host, facts))
        elif kind == "chunk-unavailable":
            stream.log.note(LogEvent(time.time(), "unreadable"))

    def sender_lost(self, operation: str, session: int, *, given_up: bool) -> None:
        """A sender ended by itself."""
        for stream in self._of(operation):
            if stream.session == session:
                stream.used = stream.wish = 0.0
                stream.log.note(LogEvent(time.time(), "given-up" if given_up else "restarted"))

    def close_session(self, operation: str, session: int) -> None:
        """Its sender was stopped: nobody needs it."""
        for stream in self._of(operation):
            if stream.session == session:
                stream.over, stream.tell, stream.used = True, None, 0.0
        self.look_soon()

    # --- downloads and uploads

    def gate(self, operation: str, address: str) -> Gate:
        """What is sent to an agent of this operation passes, asked for at our `address`."""
        return self._gate(operation, DOWNLOADS, address, "http")

    def intake(self, operation: str, address: str) -> Gate:
        """What an agent of this operation uploads passes, sent to our `address`."""
        return self._gate(operation, UPLOADS, address, "upload")

    def _gate(self, operation: str, session: int, address: str, way: str) -> Gate:
        stream = self._stream(operation, session, self._links.name(address), way)
        stream.busy_at = time.monotonic()
        stream.over = False
        if stream.gate is None:
            stream.gate, stream.wish = Gate(), inf  # somebody waits at it
            self._share_out()
            self.look_soon()
        return stream.gate

    # --- the round

    async def run(self) -> None:
        """Share out anew every second while something is sent; writes the records when cancelled."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        try:
            while True:
                self._wake.clear()
                if self._streams:
                    try:
                        await self._round()
                    except Exception as error:  # a database that fails for a moment must not end deploys
                        log.error("transfers: this round failed", exc_info=error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), TICK_SECONDS if self._streams else 60.0)
                await asyncio.sleep(0.02)  # a burst of reasons to look is one
        finally:
            await asyncio.to_thread(self._save, list(self._streams.values()))

    async def _round(self) -> None:
        ids = {stream.operation for stream in self._streams.values()}
        unread = {(s.operation, s.session) for s in self._streams.values() if s.unread}
        earlier = await asyncio.to_thread(self._read, ids, unread)
        now, wall = time.monotonic(), time.time()
        for stream in self._streams.values():
            if (stream.operation, stream.session) in unread:
                before = earlier.get((stream.operation, stream.session))
                stream.log = _joined(before, stream.log)
                stream.unread = False
                if before is not None and stream.operation not in self._served:
                    self._served.add(stream.operation)
                    stream.log.note(LogEvent(self._begun, "server"))
            idle = IDLE_SHARE * self._capacities.get(stream.interface, 0.0)
            self.sent[stream.log.way] += stream.measure(now, idle)
        self._served |= ids
        self._share_out()
        # A room of thousands is a tenth of a second of work: not on the loop that answers DHCP.
        await asyncio.to_thread(self._look, now, wall)
        due = [s for s in self._streams.values() if s.over or now - s.saved_at > SAVE_SECONDS]
        for stream in due:
            stream.saved_at = now
        if due:
            await asyncio.to_thread(self._save, due)
        for key in [key for key, stream in self._streams.items() if stream.over and stream in due]:
            del self._streams[key]
        for id in ids:
            self._journal.publish(Change("transfer", id, id))
        self._forget({stream.operation for stream in self._streams.values()})

    def _read(self, ids: set[str], unread: set[tuple[str, int]]) -> dict[tuple[str, int], StreamLog]:
        """In a thread: rules and machines of these operations, and records that were begun before."""
        earlier: dict[tuple[str, int], StreamLog] = {}
        with self._database.read() as session:
            self._rules = rows.rules(session, ids)
            found: dict[str, list[Machine]] = defaultdict(list)
            for machine in rows.machines(session, ids):
                found[machine.operation].append(machine)
            for id in {operation for operation, _ in unread}:
                with contextlib.suppress(NotFound):
                    for number, record in rows.kept(session, id).items():
                        earlier[id, number] = record
        self._machines = dict(found)
        return earlier

    def _share_out(self) -> None:
        """Ask the arbiter, and tell senders and gates."""
        settings = self._settings
        active = {key: stream for key, stream in self._streams.items() if not stream.over}
        names = {stream.interface for stream in active.values()}
        self._capacities = capacities(settings, self._links, names)
        given = grants(list(active.values()), self._capacities, self._rules, settings, datetime.now(UTC))
        for stream in active.values():
            grant = given[stream.key]
            stream.grant = Grant(max(grant.rate, LEAST_RATE), grant.bound)
            if stream.gate is not None:
                if stream.gate.rate != stream.grant.rate:
                    stream.gate.change(stream.grant.rate)
            elif stream.tell and abs(stream.grant.rate - stream.told) > _TELL_SHARE * stream.told:
                stream.told = stream.grant.rate
                stream.tell(round(stream.grant.rate / 1e6, 3))

    def _look(self, now: float, wall: float) -> None:
        """In a thread: figures for whoever watches, and samples for the records."""
        carried: Counter[tuple[str, bool]] = Counter()
        every = tuple(self._streams.values())  # others may come meanwhile
        for stream in every:
            carried[stream.interface, stream.incoming] += round(stream.used)
        timed = timed_limits(self._settings, datetime.now(UTC))
        for operation in {stream.operation for stream in every}:
            streams = self._of(operation)
            told = {
                str(row.get("address")): (stream, row)
                for stream in streams
                for row in stream.state.get("hosts") or ()
            }
            points: dict[int, dict[str, HostPoint]] = defaultdict(dict)
            shown = []
            for machine in self._machines.get(operation, ()):
                track = self._tracks.setdefault((operation, machine.host), HostTrack(machine.host))
                heard, before = told.get(machine.address), track.way
                point = track.saw(now, machine, heard[1] if heard else None)
                figures = track.figures()
                if heard is not None:
                    points[heard[0].session][machine.host] = point
                if figures.way in ("peers", "http"):  # the server gives each swarm its chunks, too
                    for number in (DOWNLOADS, UPLOADS):  # whichever there is
                        points[number][machine.host] = HostPoint(taken=point.taken)
                session = heard[0] if heard else next((s for s in streams if s.gate is None), None)
                if track.way != before and session is not None:
                    track.why = {"way": machine.way, "reason": machine.way_reason}
                    session.log.note(LogEvent(wall, "way", machine.host, track.why))
                if machine.state in ("running", "verifying"):
                    shown.append(figures)
            for stream in streams:
                if stream.log.due(wall):
                    capacity = self._capacities.get(stream.interface, 0.0)
                    span = next((t.span for t in timed if t.interface in ("", stream.interface)), "")
                    stream.log.add(
                        Sample(
                            wall,
                            stream.used / 1e6,
                            stream.grant.rate / 1e6 if stream.grant.rate < inf else 0.0,
                            stream.grant.bound,
                            carried[stream.interface, stream.incoming] / 1e6,
                            capacity / 1e6,
                            points[stream.session],
                            span if stream.grant.bound == "time" else "",
                        )
                    )
            limit, weight = self._rules.get(operation, (None, 1.0))
            eta = latest([one.eta for one in shown if one.stage == "receive"])
            self._views[operation] = TransferView(
                operation=operation,
                limit_mbit=limit,
                priority=_priority(weight),
                eta_seconds=None if eta is None else round(eta),
                streams=[stream.view() for stream in streams if not stream.over],
                hosts=[HostFiguresView.of(one) for one in sorted(shown, key=lambda one: one.host)],
            )

    def _name_of(self, operation: str, address: str) -> str:
        known = self._machines.get(operation, ())
        return next((machine.host for machine in known if machine.address == address), address)

    def _stream(self, operation: str, session: int, interface: str, way: str) -> Stream:
        key = (operation, session, interface)
        if key not in self._streams:
            made = Stream(operation, session, interface, StreamLog(way, interface), saved_at=time.monotonic())
            self._streams[key] = made
        return self._streams[key]

    def _of(self, operation: str) -> list[Stream]:
        return [stream for stream in tuple(self._streams.values()) if stream.operation == operation]

    def _save(self, streams: list[Stream]) -> None:
        """In a thread: write records."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            for stream in streams:
                if stream.log.samples or stream.log.events:
                    rows.keep(session, stream.operation, stream.session, stream.log.to_json(), now=now)

    def _forget(self, operations: set[str]) -> None:
        for id in set(self._views) - operations:
            del self._views[id]
        for key in [key for key in self._tracks if key[0] not in operations]:
            del self._tracks[key]


def _joined(earlier: StreamLog | None, later: StreamLog) -> StreamLog:
    """A record that goes on where an earlier one ended."""
    if earlier is None:
        return later
    for event in later.events:
        earlier.note(event)
    for sample in later.samples:
        earlier.add(sample)
    return earlier


def _priority(weight: float) -> str:
    return next((name for name, value in PRIORITIES.items() if value == weight), "normal")
