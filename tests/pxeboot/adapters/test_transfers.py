"""One arbiter over sessions and downloads: what each gets, what is told of it, and what is remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pxeboot.adapters import container, links
from pxeboot.adapters.container import Services
from pxeboot.adapters.shaper import Gate
from pxeboot.adapters.transfers import Transfers
from pxeboot.services import tasks
from pxeboot.services import transfers as rows
from pxeboot.transfer.log import LogEvent
from tests.plane import NOW, Plane

HERE = "127.0.0.1"  # the kernel knows no speed of it: 950 of 1000 Mbit/s


class Room:
    """Two operations of one machine each, and what they transfer."""

    def __init__(self, plane: Plane, services: Services) -> None:
        self.plane, self.services = plane, services
        self.transfers: Transfers = services.sessions.transfers
        plane.room(2)
        self.a, self.b = (
            plane.start(kind="deploy", hosts=[f"pc{number}"], image="debian").id for number in (1, 2)
        )
        self.told: list[float] = []
        self._waiting: list[asyncio.Task[None]] = []

    async def download(self, operation: str) -> Gate:
        """More than passes in a moment."""
        return await self._fill(self.transfers.gate(operation, HERE))

    async def upload(self, operation: str) -> Gate:
        return await self._fill(self.transfers.intake(operation, HERE))

    async def _fill(self, gate: Gate) -> Gate:
        self._waiting += [asyncio.create_task(gate.enter(100 << 20)) for _ in range(20)]
        await asyncio.sleep(0)
        return gate

    def stream(self, operation: str, session: int = 7) -> float:
        return self.transfers.open_session(operation, session, HERE, self.told.append, "authenticate")

    def state(self, operation: str, rate: float, session: int = 7, **host: Any) -> None:
        hosts = [{"address": "10.20.0.101", "received": 100, "lost": 0, "wanted": 9, "backlog": 0, **host}]
        data = {"state": "sending", "rate_mbit": rate, "receivers": 1, "hosts": hosts if host else []}
        self.transfers.heard(operation, session, "state", data)

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.transfers._round()

    def set(self, operation: str, **changes: Any) -> None:
        with self.plane.write() as session:
            rows.change(session, operation, changes, actor="ada")

    async def end(self) -> None:
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)


@pytest.fixture
async def room(plane: Plane) -> AsyncIterator[Room]:
    services = container.open_services(plane.settings, address=HERE)
    made = Room(plane, services)
    yield made
    await made.end()
    await asyncio.to_thread(container.close, services)


def mbit(gate: Gate) -> float:
    return round(gate.rate / 1e6, 1)


async def test_downloads_share_the_link_with_each_other(room: Room) -> None:
    first = await room.download(room.a)
    await room.look(2)
    assert mbit(first) == 950
    second = await room.download(room.b)
    await room.look()
    assert (mbit(first), mbit(second)) == (475, 475)
    room.set(room.b, priority="high")
    await room.look()
    assert (mbit(first), mbit(second)) == (190, 760)


async def test_a_limit_set_while_it_runs_holds_at_once_and_the_rest_is_the_others(room: Room) -> None:
    first, second = await room.download(room.a), await room.download(room.b)
    room.set(room.a, limit_mbit=50.0)
    await room.look()
    assert (mbit(first), mbit(second)) == (50, 900)
    view = room.transfers.view(room.a)
    assert (view.limit_mbit, view.streams[0].bound, view.streams[0].granted_mbit) == (50, "operation", 50)
    room.set(room.a, limit_mbit=None)
    await room.look()
    assert mbit(first) == 475


async def test_a_session_gets_what_it_uses_and_downloads_the_rest(room: Room) -> None:
    assert room.stream(room.a) == pytest.approx(19)  # idle: 2 % to begin with
    gate = await room.download(room.b)
    room.state(room.a, rate=19)
    await room.look()
    assert room.told[-1] == 475  # it used all it had
    assert mbit(gate) == 475
    room.state(room.a, rate=200)  # its receivers take no more
    await room.look()
    assert room.told[-1] == 250
    assert mbit(gate) == 700
    room.transfers.close_session(room.a, 7)
    await room.look()
    assert mbit(gate) == 950


@pytest.mark.parametrize(
    ("speed", "most", "granted", "bound"),
    [
        (0, None, 950, "interface"),  # the kernel does not know it: 1000 Mbit/s
        (100, None, 95, "interface"),
        (10_000, None, 9500, "interface"),
        (10_000, 900.0, 900, "session"),  # written by hand, as before
        (100, 900.0, 95, "interface"),
    ],
)
async def test_a_session_alone_gets_its_link_unless_a_rate_is_set(
    room: Room, monkeypatch: pytest.MonkeyPatch, speed: int, most: float | None, granted: float, bound: str
) -> None:
    monkeypatch.setattr(links, "link_mbit", lambda address: speed or None)
    settings = room.plane.settings
    rules = settings.multicast.model_copy(update={"rate_mbit": most})
    room.transfers.use(settings.model_copy(update={"multicast": rules}))
    room.state(room.a, rate=room.stream(room.a))  # it uses all it has
    await room.look()
    assert room.told[-1] == granted
    assert room.transfers.view(room.a).streams[0].bound == bound


async def test_uploads_have_the_same_limits_in_the_other_direction(room: Room) -> None:
    settings = room.plane.settings
    rules = settings.bandwidth.model_copy(update={"limits": ["00:00-24:00 80 Mbit/s"]})
    room.transfers.use(settings.model_copy(update={"bandwidth": rules}))
    down = await room.download(room.a)
    up = [await room.upload(id) for id in (room.a, room.b)]
    await room.look()
    assert mbit(down) == 80
    assert [mbit(gate) for gate in up] == [40, 40]
    room.set(room.b, limit_mbit=10.0)  # an operation's own limit, too
    await room.look()
    assert [mbit(gate) for gate in (down, *up)] == [80, 70, 10]
    shown = {stream.way: (stream.session, stream.bound) for stream in room.transfers.view(room.b).streams}
    assert shown == {"upload": (-1, "operation")}


async def test_what_comes_in_is_counted_apart_and_recorded(room: Room) -> None:
    gate = room.transfers.intake(room.a, HERE)
    await room.look()
    await gate.enter(1000)
    room.transfers._streams[room.a, -1, "lo"].at -= 1  # a second ago
    await room.look()
    assert (room.transfers.sent["upload"], room.transfers.sent["http"]) == (1062, 0)
    (record,) = room.transfers.records(room.a)
    assert record.way == "upload"


async def test_hours_are_kept(room: Room) -> None:
    settings = room.plane.settings
    rules = settings.bandwidth.model_copy(update={"limits": ["00:00-24:00 80 Mbit/s"]})
    gate = await room.download(room.a)
    room.transfers.use(settings.model_copy(update={"bandwidth": rules}))
    await room.look()
    assert mbit(gate) == 80
    assert room.transfers.view(room.a).streams[0].bound == "time"


async def test_machines_are_shown_by_name_with_what_holds_them_up(room: Room) -> None:
    plane = room.plane
    token = plane.boot(1).token
    assert plane.checkin(1, token).task is not None
    room.stream(room.a)
    room.state(room.a, 19, lost=0)
    await room.look()
    room.state(room.a, 19, received=400, lost=100, backlog=900, **{"class": "slow"})
    await room.look()
    (host,) = room.transfers.view(room.a).hosts
    assert (host.host, host.class_, host.wanted, host.backlog_percent) == ("pc1", "slow", 9, 90)
    assert host.loss_percent == 25
    assert host.reason is not None
    assert host.reason.code == "now-disk"
    events = room.transfers._of(room.a)[0].log.events
    assert [(event.kind, event.host) for event in events] == [("class", "pc1")]


async def test_a_record_is_kept_and_goes_on_after_a_restart(room: Room) -> None:
    room.stream(room.a)
    room.state(room.a, 19)
    await room.look()
    room.transfers._streams[room.a, 7, "lo"].log.note(LogEvent(1.0, "restarted"))
    await asyncio.to_thread(room.transfers._save, list(room.transfers._streams.values()))
    services = room.services
    again = Transfers(room.plane.settings, services.database, services.journal)
    again.open_session(room.a, 7, HERE, room.told.append, "off")
    again.heard(room.a, 7, "receiver-joined", {"address": "10.20.0.101"})
    assert [event.kind for record in again.records(room.a) for event in record.events] == [
        "restarted",
        "joined",
    ]
    await again._round()
    (record,) = again.records(room.a)
    assert [event.kind for event in record.events] == ["restarted", "joined", "server"]
    again.close_session(room.a, 7)
    await again._round()
    again.open_session(room.a, 7, HERE, room.told.append, "off")
    await again._round()
    assert again.records(room.a)[0].events == record.events, "it went on, the server had not stopped"
    assert "This server was started again" in " ".join(reason.say() for reason in again.why(room.a))
    assert "The sender ended by itself" in " ".join(reason.say() for reason in again.why(room.a))


async def test_old_records_are_forgotten(room: Room) -> None:
    room.stream(room.a)
    await room.look()
    await asyncio.to_thread(room.transfers._save, list(room.transfers._streams.values()))
    today = datetime.now(UTC)
    for later, forgotten in ((timedelta(days=89), 0), (timedelta(days=91), 1)):
        with room.plane.write() as session:
            assert rows.prune(session, keep_days=90, now=today + later) == forgotten


async def test_what_is_sent_is_counted(room: Room) -> None:
    room.stream(room.a)
    for total in (1000, 5000):
        room.transfers.heard(room.a, 7, "state", {"rate_mbit": 1, "bytes_sent": total, "datagrams": 10})
    room.transfers.heard(
        room.a, 7, "state", {"rate_mbit": 1, "bytes_sent": 70, "datagrams": 1}
    )  # a new sender
    assert room.transfers.sent["multicast"] == 5000 + 660 + 70 + 66


async def test_a_host_without_multicast_is_shown_and_remembered_with_its_reason(room: Room) -> None:
    plane = room.plane
    task = plane.checkin(1, plane.boot(1).token).task
    assert task is not None

    def reports(peers: int, way: str, reason: str) -> None:
        with plane.write() as session:
            tasks.progress(
                session, task.id, attempt=1, stage="receive", done=1, total=4, bytes_multicast=0,
                bytes_peers=peers, bytes_http=0, way=way, way_reason=reason, message="", now=NOW,
            )  # fmt: skip

    room.stream(room.a)
    room.state(room.a, 19)
    reports(0, "multicast", "")
    await room.look()
    reports(1000, "peers", "Nothing was heard.")
    await room.look()
    reports(9000, "peers", "A switch stopped forwarding it.")
    await room.look()
    (host,) = room.transfers.view(room.a).hosts
    assert (host.way, host.way_reason, host.taken_bytes) == ("peers", "A switch stopped forwarding it.", 9000)
    (event,) = room.transfers._of(room.a)[0].log.events
    assert (event.kind, event.host) == ("way", "pc1")
    assert event.facts == {"way": "peers", "reason": "A switch stopped forwarding it."}


async def test_what_repairs_cost_is_told(room: Room) -> None:
    room.stream(room.a)
    assert room.transfers.streams()[0].overhead_percent == 0
    said = {"rate_mbit": 1, "chunks_sent": 0, "chunks_resent": 0, "parity_sent": 0, "datagrams": 3}
    for more, percent in (
        ({}, 0),
        ({"chunks_sent": 10, "parity_sent": 100, "datagrams": 2100}, 5),
        # Five of them again, for who came late: a third of what is no parity.
        ({"chunks_sent": 15, "chunks_resent": 5, "parity_sent": 100, "datagrams": 3100}, 55),
    ):
        room.transfers.heard(room.a, 7, "state", {**said, **more})
        (stream,) = room.transfers.streams()
        assert stream.overhead_percent == percent
    assert (stream.parity, stream.datagrams) == (100, 3100)
