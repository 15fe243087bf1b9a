"""Downloads at a gate: they wait without blocking anybody, a new rate frees them, the gone are forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from math import inf
from pathlib import Path
from typing import Any

import pytest

from pxeboot.adapters.shaper import Gate, PacedFile, PacedResponse

SLOW = 8e3  # bit/s: a kilobyte a second; nothing of these sizes passes in time
BODY = bytes(range(256)) * 4096  # 1 MiB


async def test_a_new_rate_frees_who_waits_already() -> None:
    gate = Gate(SLOW)
    await gate.enter(10_000)  # the first goes at once
    waiting = [asyncio.create_task(gate.enter(10_000)) for _ in range(3)]
    await asyncio.sleep(0)
    assert gate.waiting == 3
    gate.change(inf)
    await asyncio.wait_for(asyncio.gather(*waiting), 30)
    assert gate.waiting == 0
    assert gate.passed == pytest.approx(40_000 * 1538 / 1448, abs=4)


async def test_who_is_cancelled_leaves_the_queue() -> None:
    gate = Gate(SLOW)
    await gate.enter(10_000)
    first, second = (asyncio.create_task(gate.enter(10_000)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert gate.waiting == 1
    gate.change(inf)
    await asyncio.wait_for(second, 30)


class Client:
    """The other side of a response: takes what is sent, and goes when told."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.gone = asyncio.Event()
        self.complete = False

    async def receive(self) -> MutableMapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            self.taken += message["body"]
            self.complete = not message.get("more_body", False)


def response(gate: Gate) -> PacedResponse:
    made = PacedResponse(BODY)
    made.gate = gate
    return made


@pytest.mark.parametrize("rate", [inf, 400e6])
async def test_the_body_arrives_whole(rate: float) -> None:
    client = Client()
    made = response(Gate(rate))
    assert made.headers["content-length"] == str(len(BODY))
    await asyncio.wait_for(made({"type": "http"}, client.receive, client.send), 60)
    assert (bytes(client.taken) == BODY, client.complete) == (True, True)


async def test_a_client_that_has_gone_uses_nothing_up() -> None:
    client, gate = Client(), Gate(SLOW)
    serving = asyncio.create_task(response(gate)({"type": "http"}, client.receive, client.send))
    async with asyncio.timeout(30):
        while not client.taken:
            await asyncio.sleep(0.01)
    sent = len(client.taken)
    assert 0 < sent < len(BODY)
    client.gone.set()
    await asyncio.sleep(0)
    gate.change(inf)  # the piece that waited goes, and no other
    await asyncio.wait_for(serving, 30)
    assert len(client.taken) <= sent + (4 << 10)


def scope(**headers: str) -> dict[str, Any]:
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    return {"type": "http", "method": "GET", "headers": pairs, "asgi": {"spec_version": "2.3"}}


def file_of(path: Path, gate: Gate) -> PacedFile:
    path.write_bytes(BODY)
    made = PacedFile(path)
    made.gate = gate
    return made


@pytest.mark.parametrize(("headers", "start"), [({}, 0), ({"range": "bytes=1000-"}, 1000)])
async def test_a_file_arrives_whole_or_from_a_byte_on(
    tmp_path: Path, headers: dict[str, str], start: int
) -> None:
    client, gate = Client(), Gate(400e6)
    await asyncio.wait_for(
        file_of(tmp_path / "file", gate)(scope(**headers), client.receive, client.send), 20
    )
    assert (bytes(client.taken), client.complete) == (BODY[start:], True)
    assert gate.passed == pytest.approx((len(BODY) - start) * 1538 / 1448, rel=0.001)


async def test_who_has_gone_takes_no_more_of_a_file(tmp_path: Path) -> None:
    client, gate = Client(), Gate(SLOW)
    serving = asyncio.create_task(file_of(tmp_path / "file", gate)(scope(), client.receive, client.send))
    while not gate.waiting:
        await asyncio.sleep(0.001)
    sent = len(client.taken)
    client.gone.set()
    await asyncio.wait_for(serving, 5)
    assert (len(client.taken), gate.waiting) == (sent, 0)
