"""All that is long on the task plane passes a gate of its operation: what we send, and what comes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from math import inf

import pytest
import uvicorn

from pxeboot.adapters.shaper import WIRE_COST, Gate
from pxeboot.adapters.streams import DOWNLOADS, UPLOADS
from pxeboot.services import tasks
from tests.api.conftest import Served
from tests.api.test_agent import CHUNKS, HASHES, MANIFEST, RECORDS, capture, checkin
from tests.api.test_agent_customise import WALL, prepared
from tests.api.test_agent_peers import Room

SLOW = 8e3  # bit/s: nothing of these sizes passes in time


def passed(served: Served, operation: str, kind: int) -> int:
    """Bytes of payload."""
    gates = [
        stream.gate
        for key, stream in served.services.sessions.transfers._streams.items()
        if key[:2] == (operation, kind) and stream.gate is not None
    ]
    return round(sum(gate.passed for gate in gates) / WIRE_COST)


async def test_manifests_and_chunks_that_the_server_gives_a_swarm_count(served: Served) -> None:
    room = Room(served)
    await room.begin(1, 2)
    await room.hello(1)
    assert await room.take(1, 0) == 0
    frame = len(served.services.store.frame(HASHES[0]))
    assert passed(served, room.operation, DOWNLOADS) == pytest.approx(frame, abs=2)
    async with served.client(1, room.found[1]["credential"]) as client:
        answer = await client.get(f"/agent/v1/manifests/{MANIFEST.id}")
    assert answer.content == MANIFEST.to_bytes()
    assert len(answer.headers["x-pxeboot-signature"]) == 128
    whole = frame + len(answer.content)
    assert passed(served, room.operation, DOWNLOADS) == pytest.approx(whole, abs=3)


async def test_files_and_drivers_count(served: Served) -> None:
    hash = await prepared(served)
    said = await checkin(served)
    task = f"/agent/v1/tasks/{said['task']['id']}"
    with served.read() as session:
        operation = tasks.row(session, said["task"]["id"]).operation_id
    async with served.client(1, said["credential"]) as client:
        assert (await client.get(f"{task}/files/{hash}")).content == WALL
        assert passed(served, operation, DOWNLOADS) == pytest.approx(len(WALL), abs=2)
        await client.get(f"{task}/drivers/Box%2A/%2A/net.inf")
    assert passed(served, operation, DOWNLOADS) == pytest.approx(len(WALL) + 9, abs=3)


async def test_uploads_of_a_capture_wait_for_their_turn(served: Served) -> None:
    operation = capture(served)
    found = await checkin(served)
    base = f"/agent/v1/tasks/{found['task']['id']}"
    transfers = served.services.sessions.transfers
    gate = transfers.intake(operation, "10.20.0.1")
    gate.change(SLOW)
    await gate.enter(4 << 10)  # what may go at once has gone
    async with served.client(1, found["credential"]) as client:
        sending = asyncio.create_task(client.put(f"{base}/chunks", content=RECORDS))
        while not gate.waiting:
            await asyncio.sleep(0.01)
        assert not sending.done()
        gate.change(inf)
        assert (await sending).json() == {"stored": len(CHUNKS)}
        before = passed(served, operation, UPLOADS)
        assert before == pytest.approx(len(RECORDS) + (4 << 10), abs=5)
        answer = await client.post(f"{base}/manifest", content=MANIFEST.to_bytes())
        assert answer.status_code == 200
    assert passed(served, operation, UPLOADS) - before == pytest.approx(len(MANIFEST.to_bytes()), abs=3)
    assert passed(served, operation, DOWNLOADS) == 0


@pytest.fixture
async def listening(served: Served) -> AsyncIterator[int]:
    """A port of a real HTTP server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(served.app, log_level="critical", lifespan="off"))
        running = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
        server.should_exit = server.force_exit = True
        await asyncio.wait([running], timeout=5)


async def test_what_waits_at_a_gate_the_client_cannot_send(served: Served, listening: int) -> None:
    """Not into our memory either: the kernel's buffers are all that fills."""
    operation = capture(served)
    found = await checkin(served)
    gate: Gate = served.services.sessions.transfers.intake(operation, "127.0.0.1")
    gate.change(SLOW)
    size, sent = 256 << 20, 0
    head = (
        f"PUT /agent/v1/tasks/{found['task']['id']}/chunks HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {found['credential']}\r\nContent-Length: {size}\r\n\r\n"
    )

    def push(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(head.encode() + HASHES[0] + (1 << 20).to_bytes(4, "big"))
        piece = bytes(1 << 16)
        try:
            while sent < size:
                sent += connection.send(piece)
        except TimeoutError:
            return

    with socket.create_connection(("127.0.0.1", listening), timeout=1.5) as connection:
        thread = threading.Thread(target=push, args=(connection,))
        thread.start()
        await asyncio.to_thread(thread.join)
    assert gate.passed > 0
    assert sent < size / 4
