"""Sessions: allocated once, senders started, restarted within bounds, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from imaging.chunks import compress, hash_chunk
from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest, Runs
from pxeboot.adapters import container, multicast
from pxeboot.adapters.container import Services
from pxeboot.services import images, journal, tasks
from tests.plane import Plane

CHUNK = b"\x07" * CHUNK_SIZE
MANIFEST = Manifest([DiskImage(CHUNK_SIZE, 512, None, (), Runs([(0, CHUNK_SIZE)]), hash_chunk(CHUNK))])


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
    plane.start(kind="deploy", group="B204", image="real")
    now = datetime.now(UTC)
    task = plane.checkin(1, plane.boot(1, now).token, now).task
    assert task is not None
    with plane.write() as session:
        offered = services.sessions.session_for(session, task.id)
    assert offered is not None
    running = asyncio.create_task(services.sessions.run())
    yield services, task.id, offered
    running.cancel()
    await asyncio.wait([running], timeout=5)
    await asyncio.to_thread(container.close, services)


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
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
    monkeypatch.setattr(multicast, "STOP_SECONDS", 10.0)
    services, task_id, offered = on_air
    manager = services.sessions
    await until(lambda: "multicast.started" in kinds(services))
    (running,) = manager._running.values()
    process = running.process
    with services.write() as session:
        assert manager.session_for(session, task_id) == offered
    with services.write() as session:
        tasks.fail(session, task_id, reason="enough", code="x", now=datetime.now(UTC))
    await until(lambda: not manager._running)
    assert await asyncio.wait_for(process.wait(), 10) == 0
    with services.read() as session:
        assert manager._wanted() == {}


async def test_a_killed_sender_comes_back_with_the_same_session(on_air: Any) -> None:
    services, _task_id, offered = on_air
    manager = services.sessions
    await until(lambda: "multicast.started" in kinds(services))
    first = manager._running[offered["id"]].process.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: kinds(services).count("multicast.started") == 2)
    assert manager._running[offered["id"]].process.pid != first
    assert "multicast.lost" in kinds(services)


async def test_a_sender_that_keeps_dying_is_given_up(on_air: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    services, task_id, _offered = on_air
    monkeypatch.setattr(multicast, "MAX_RESTARTS", 0)
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    await until(lambda: "multicast.lost" in kinds(services) or bool(services.sessions._running))
    for running in services.sessions._running.values():  # it was quicker than this test: kill it
        os.kill(running.process.pid, signal.SIGKILL)
    await until(lambda: "multicast.lost" in kinds(services))
    with services.write() as session:
        assert services.sessions.session_for(session, task_id) is None  # receivers go on over HTTP


async def test_a_session_has_a_key_where_the_site_wants_one(
    on_air: tuple[Services, str, dict[str, Any]],
) -> None:
    services, task, offered = on_air
    assert (offered["key"], offered["encrypt"], offered["symbol"]) == (None, False, 1450)
    rules = services.settings.multicast.model_copy(update={"protection": "encrypt"})
    changed = services.settings.model_copy(update={"multicast": rules})

    def again(settings: Any) -> Any:
        manager = multicast.SessionManager(
            settings, services.database, services.journal, services.store.path, "127.0.0.1"
        )
        with services.write() as session:
            return manager.session_for(session, task)

    keyed = again(changed)
    assert len(bytes.fromhex(keyed["key"])) == 32
    assert keyed["encrypt"]
    # 26 bytes of header: it still fills an MTU of 1500.
    assert 20 + 8 + 26 + keyed["symbol"] == 1500
    # The same after a restart of the daemon; a setting changed on the way is for the next session.
    assert again(changed) == keyed
    services.sessions.use(changed)
    with services.write() as session:
        assert services.sessions.session_for(session, task) == offered
