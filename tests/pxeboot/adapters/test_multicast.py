"""Sessions: allocated once, senders started, restarted within bounds, stopped."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from imaging.chunks import compress, hash_chunk
from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest, Runs
from pxeboot.adapters import container, multicast, places, senders
from pxeboot.adapters.container import Services
from pxeboot.db.models import MulticastSession
from pxeboot.services import hosts, images, journal, tasks
from tests.plane import Plane, ip, mac

CHUNK = b"\x07" * CHUNK_SIZE
MANIFEST = Manifest([DiskImage(CHUNK_SIZE, 512, None, (), Runs([(0, CHUNK_SIZE)]), hash_chunk(CHUNK))])


def deploying(plane: Plane, services: Services, *ours: str, image: str = "debian") -> list[Any]:
    """What machines in a room of as many are offered that deploy and have checked in: task and SESSION.
    ``ours``: our address that each of them talks to."""
    now = datetime.now(UTC)
    plane.start(kind="deploy", group="B204", image=image)
    offers = []
    for number, address in enumerate(ours, 1):
        task = plane.checkin(number, plane.boot(number, now).token, now).task
        assert task is not None
        with plane.write() as session:
            offered = services.sessions.session_for(session, task.id, address)
        assert offered is not None
        offers.append((task.id, offered))
    return offers


@pytest.fixture
async def on_air(plane: Plane) -> AsyncIterator[tuple[Services, str, dict[str, Any]]]:
    """A deploy whose agent has checked in: services, task, SESSION."""
    services = container.open_services(plane.settings, address="127.0.0.1")
    services.store.add([(hash_chunk(CHUNK), compress(CHUNK))])
    services.store.put_manifest(MANIFEST.to_bytes())
    plane.room(1)
    with plane.write() as session:
        images.add_version(
            session, "real", manifest=MANIFEST.id, disk_bytes=1, used_bytes=1, stored_bytes=1, chunks=1
        )
    [(task_id, offered)] = deploying(plane, services, "", image="real")
    running = asyncio.create_task(services.sessions.run())
    yield services, task_id, offered
    running.cancel()
    await asyncio.wait([running], timeout=60)
    await asyncio.to_thread(container.close, services)


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen")


def kinds(services: Services) -> list[str]:
    services.journal.flush()
    with services.read() as session:
        return [event.kind for event in journal.list_events(session, plane="multicast").items]


async def test_a_sender_runs_while_somebody_listens(on_air: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multicast, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(senders, "STOP_SECONDS", 10.0)
    services, task_id, offered = on_air
    manager = services.sessions
    await until(lambda: "multicast.started" in kinds(services))
    (running,) = manager._running.values()
    process = running.sender.process
    with services.write() as session:
        assert manager.session_for(session, task_id) == offered
    with services.write() as session:
        tasks.fail(session, task_id, reason="enough", code="x", now=datetime.now(UTC))
    await until(lambda: not manager._running)
    assert await asyncio.wait_for(process.wait(), 60) == 0
    with services.read() as session:
        assert manager._wanted() == {}


async def test_a_killed_sender_comes_back_with_the_same_session(on_air: Any) -> None:
    services, _task_id, offered = on_air
    manager = services.sessions
    await until(lambda: "multicast.started" in kinds(services))
    first = manager._running[offered["id"]].sender.process.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: kinds(services).count("multicast.started") == 2)
    assert manager._running[offered["id"]].sender.process.pid != first
    assert "multicast.lost" in kinds(services)


async def test_a_sender_that_dies_in_mid_deploy_comes_back_at_once_and_waits_for_nobody(
    on_air: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[dict[str, Any]] = []
    start = senders.SenderProcess.start

    async def noted(order: dict[str, Any], *heard: Any) -> Any:
        orders.append(order)
        return await start(order, *heard)

    services, task_id, offered = on_air
    monkeypatch.setattr(multicast.SenderProcess, "start", noted)
    await until(lambda: "multicast.started" in kinds(services))
    with services.write() as session:
        tasks.progress(
            session, task_id, attempt=1, stage="receive", done=1, total=9, bytes_multicast=1, bytes_http=0,
            message="", now=datetime.now(UTC),
        )  # fmt: skip
    os.kill(services.sessions._running[offered["id"]].sender.process.pid, signal.SIGKILL)
    await until(lambda: kinds(services).count("multicast.started") == 2)
    assert (orders[-1]["session"], orders[-1]["gather_seconds"]) == (offered, 0.0)
    # At once all that loopback may carry, whose speed the kernel does not know; what is idle gets little.
    assert (orders[0]["rate_mbit"], orders[-1]["rate_mbit"]) == (19.0, 950.0)


async def test_the_next_operation_gets_the_port_of_the_one_that_is_over(on_air: Any, plane: Plane) -> None:
    services, task_id, offered = on_air
    await until(lambda: "multicast.started" in kinds(services))
    with services.write() as session:
        tasks.fail(session, task_id, reason="enough", code="x", now=datetime.now(UTC))
    services.sessions._wanted()
    [(_task, again)] = deploying(plane, services, "", image="real")
    assert (again["id"] != offered["id"], again["report"]) == (True, offered["report"])
    await until(lambda: kinds(services).count("multicast.started") == 2)
    assert "multicast.lost" not in kinds(services)


async def test_a_sender_that_keeps_dying_is_given_up(on_air: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    services, task_id, _offered = on_air
    monkeypatch.setattr(multicast, "MAX_RESTARTS", 0)
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    await until(lambda: "multicast.lost" in kinds(services) or bool(services.sessions._running))
    for running in services.sessions._running.values():  # it was quicker than this test: kill it
        os.kill(running.sender.process.pid, signal.SIGKILL)
    await until(lambda: "multicast.lost" in kinds(services))
    with services.write() as session:
        assert services.sessions.session_for(session, task_id) is None  # receivers go on over HTTP


def test_each_session_has_a_key_of_its_own_for_as_long_as_it_lives(plane: Plane) -> None:
    """In SESSION and in the database, nowhere else."""
    services = container.open_services(plane.settings, address="127.0.0.1")
    plane.room(1)
    [(task_id, offered)] = deploying(plane, services, "")
    assert re.fullmatch("[0-9a-f]{64}", offered["key"])
    assert not offered["encrypt"]
    # 26 bytes of header: it still fills an MTU of 1500.
    assert 20 + 8 + 26 + offered["symbol"] == 1500
    with plane.read() as session:
        row = session.get(MulticastSession, offered["id"])
        assert row is not None
        assert row.key == offered["key"]
        assert row.key not in repr(row)
        assert offered["key"] not in plane.operation(row.operation_id).model_dump_json()
    assert plane.database.path.stat().st_mode & 0o077 == 0
    with plane.write() as session:
        tasks.fail(session, task_id, reason="enough", code="x", now=datetime.now(UTC))
    assert services.sessions._wanted() == {}
    with plane.read() as session:
        over = session.get(MulticastSession, offered["id"])
        assert over is not None
        assert (over.key, over.active) == ("", False)
    container.close(services)


@pytest.mark.parametrize(("protect", "key", "encrypt"), [("off", False, False), ("encrypt", True, True)])
def test_the_setting_says_how_sessions_are_protected(
    plane: Plane, protect: str, key: bool, encrypt: bool
) -> None:
    services = container.open_services(plane.settings, address="127.0.0.1")
    services.sessions.use(
        plane.settings.model_copy(
            update={"multicast": plane.settings.multicast.model_copy(update={"protect": protect})}
        )
    )
    plane.room(1)
    [(_task, offered)] = deploying(plane, services, "")
    assert (bool(offered["key"]), offered["encrypt"]) == (key, encrypt)
    container.close(services)


def test_each_interface_has_its_own_session(plane: Plane) -> None:
    services = container.open_services(plane.settings, address="127.0.0.1")
    services.sessions.addresses = frozenset({"127.0.0.1", "127.0.0.2"})
    plane.room(2)
    first, second = (offer for _task, offer in deploying(plane, services, "127.0.0.1", "127.0.0.2"))
    assert (first["report"][0], second["report"][0]) == ("127.0.0.1", "127.0.0.2")
    assert first["group"] != second["group"]
    container.close(services)


class TwoWires:
    """A room on two of our interfaces, 127.0.0.1 and 127.0.0.2; who is where is said by `routes`."""

    def __init__(self, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plane = plane
        self.services = container.open_services(plane.settings, address="127.0.0.1")
        self.sessions = self.services.sessions
        self.sessions.addresses = frozenset({"127.0.0.1", "127.0.0.2"})
        self.routes: dict[str, str] = {}
        monkeypatch.setattr(places, "own_address", self.routes.get)
        plane.room(5)
        self.now = datetime.now(UTC)
        with plane.write() as session:
            for number in (1, 2, 3, 4):  # pc5 has never been seen
                hosts.note_seen(session, mac(number), address=ip(number), now=self.now)
        plane.start(kind="deploy", group="B204", image="debian")

    def joins(self, number: int, ours: str) -> str:
        task = self.plane.checkin(number, self.plane.boot(number, self.now).token, self.now).task
        assert task is not None
        with self.plane.write() as session:
            assert self.sessions.session_for(session, task.id, ours) is not None
        return task.id

    def expected(self) -> dict[str, int]:
        return {item.row.address: item.expected for item in self.sessions._wanted().values()}


@pytest.fixture
def wires(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoWires]:
    made = TwoWires(plane, monkeypatch)
    yield made
    container.close(made.services)


def test_a_session_waits_for_those_on_its_own_interface(wires: TwoWires) -> None:
    wires.routes |= {ip(1): "127.0.0.1", ip(2): "127.0.0.1", ip(3): "127.0.0.2", ip(4): "10.99.0.1"}
    wires.joins(1, "127.0.0.1")
    # pc2 by its last address; pc4, on no interface that faces machines, and pc5 may come anywhere.
    assert wires.expected() == {"": 4}
    wires.joins(3, "127.0.0.2")
    assert wires.expected() == {"": 4, "127.0.0.2": 3}
    wires.joins(2, "127.0.0.2")  # it was plugged in elsewhere: where it asks counts
    assert wires.expected() == {"": 3, "127.0.0.2": 4}
    wires.joins(4, "127.0.0.1")
    wires.joins(5, "127.0.0.1")
    assert wires.expected() == {"": 3, "127.0.0.2": 2}


def test_a_restarted_daemon_knows_them_by_their_addresses(wires: TwoWires) -> None:
    wires.routes |= {ip(1): "127.0.0.1", ip(2): "127.0.0.2", ip(3): "127.0.0.2", ip(4): "127.0.0.2"}
    wires.joins(1, "127.0.0.1")
    wires.joins(2, "127.0.0.2")
    assert wires.expected() == {"": 2, "127.0.0.2": 4}
    wires.sessions._places = places.Places("127.0.0.1")
    assert wires.expected() == {"": 2, "127.0.0.2": 4}


def test_a_session_whose_machines_are_done_ends_although_others_go_on_elsewhere(wires: TwoWires) -> None:
    wires.routes |= {ip(number): "127.0.0.2" for number in range(1, 5)}
    first, second = wires.joins(1, "127.0.0.1"), wires.joins(2, "127.0.0.2")
    with wires.plane.write() as session:
        tasks.fail(session, first, reason="enough", code="x", now=wires.now)
    assert list(wires.expected()) == ["127.0.0.2"]
    with wires.plane.write() as session:
        tasks.fail(session, second, reason="enough", code="x", now=wires.now)
    assert wires.expected() == {}


def test_the_kernel_says_which_address_leads_to_a_machine() -> None:
    assert places.own_address("127.0.0.9") == "127.0.0.1"
    assert places.own_address("not an address") is None
