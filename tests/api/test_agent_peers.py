"""Neighbours on the task plane: who hears of whom, what the server gives to each room once, what is shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pxeboot.services import journal
from tests.api.conftest import Served
from tests.api.test_agent import CHUNKS, HASHES, OUTCOME, checkin, upload
from tests.plane import ip

HELLO = {"port": 9080, "prefix": 24, "have": 0, "complete": False, "way": "peers", "left": []}


class Room:
    """Three machines in the same deploy; ``post(n, …)`` is machine n's agent."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.found: dict[int, dict[str, Any]] = {}
        self.operation = ""

    async def begin(self, *numbers: int, **request: Any) -> None:
        self.served.room(3)
        self.served.start(kind="capture", hosts=["pc1"], image="fresh")
        source = await checkin(self.served)
        async with self.served.client(1, source["credential"]) as client:
            await upload(client, source["task"]["id"])
            await client.post(f"/agent/v1/tasks/{source['task']['id']}/outcome", json=OUTCOME)
        asked = {"transport": "peers", **request}
        self.operation = self.served.start(kind="deploy", group="B204", image="fresh", **asked).id
        for number in numbers:
            self.found[number] = await checkin(self.served, number)
            assert self.found[number]["status"] == 200

    def task(self, number: int) -> dict[str, Any]:
        task: dict[str, Any] = self.found[number]["task"]
        return task

    async def post(self, number: int, call: str, address: int = 0, **body: Any) -> httpx.Response:
        async with self.served.client(address or number, self.found[number]["credential"]) as client:
            return await client.post(f"/agent/v1/tasks/{self.task(number)['id']}/{call}", **body)

    async def hello(self, number: int, address: int = 0, **changes: Any) -> dict[str, Any]:
        answer = await self.post(number, "peers", address, json={**HELLO, **changes})
        assert answer.status_code == 200, answer.text
        said: dict[str, Any] = answer.json()
        return said

    async def take(self, number: int, *wanted: int) -> int | None:
        answer = await self.post(number, "chunk", content=b"".join(HASHES[index] for index in wanted))
        if answer.status_code == 204:
            return None
        place = int(answer.headers["X-Pxeboot-Place"])
        assert answer.content == self.served.services.store.frame(HASHES[wanted[place]])
        return wanted[place]


@pytest.fixture
def room(served: Served) -> Room:
    return Room(served)


async def test_hosts_of_a_deploy_share_a_secret_and_hear_of_each_other(room: Room) -> None:
    await room.begin(1, 2)
    orders = [room.task(number)["peers"] for number in (1, 2)]
    assert orders[0] == orders[1]
    assert len(orders[0]["secret"]) == 64
    assert {k: v for k, v in orders[0].items() if k != "secret"} == {
        "port": 9080, "across": False, "linger": 60, "rate": None,
    }  # fmt: skip
    assert (await room.hello(1))["others"] == 0
    second = await room.hello(2)
    assert second["neighbours"] == [[ip(1), 9080]]
    assert second["sent"] is None  # no multicast session
    assert (await room.hello(1))["neighbours"] == [[ip(2), 9080]]


async def test_each_deploy_has_another_secret_and_a_restart_the_same(room: Room) -> None:
    await room.begin(1)
    store, order = room.served.services.store, room.task(1)["peers"]
    purpose = f"peers {room.operation} {room.task(1)['manifest']}"
    assert order["secret"] == store.derived(purpose)
    assert order["secret"] != store.derived(purpose + "x")


async def test_another_subnet_is_another_swarm_by_default(room: Room) -> None:
    await room.begin(1, 2)
    await room.hello(1, prefix=30)  # 10.20.0.x in nets of four addresses
    assert (await room.hello(2, address=90, prefix=30))["others"] == 0
    assert (await room.hello(2, address=90, prefix=8))["others"] == 0  # the prefixes must agree
    assert (await room.hello(1, prefix=8))["others"] == 1


async def test_the_server_gives_each_chunk_once(room: Room) -> None:
    await room.begin(1, 2)
    for number in (1, 2):
        await room.hello(number)
    assert await room.take(1, 0, 1, 2) == 0
    assert await room.take(2, 0, 1, 2) == 1
    assert await room.take(2, 0) is None
    async with room.served.client(1, room.found[1]["credential"]) as client:
        plain = await client.get(f"/agent/v1/chunks/{HASHES[2].hex()}")
    assert plain.status_code == 200
    assert await room.take(2, 2) is None  # what went over plain HTTP counts


async def test_nonsense_and_strangers_are_refused(room: Room) -> None:
    await room.begin(1, 2)
    for content in (b"", b"x", bytes(32 * 257)):
        assert (await room.post(1, "chunk", content=content)).status_code == 422
    assert (await room.post(1, "chunk", content=bytes(32))).status_code == 404
    for spoilt in ({"port": 70000}, {"prefix": 33}, {"left": [{"address": "x" * 50, "port": 1}]}):
        assert (await room.post(1, "peers", json={**HELLO, **spoilt})).status_code == 422
    room.found[2]["credential"] = room.found[1]["credential"]
    for call, body in (("peers", {"json": HELLO}), ("chunk", {"content": HASHES[0]})):
        answer = await room.post(2, call, **body)
        assert (answer.status_code, answer.json()["code"]) == (401, "token-foreign")


async def test_a_host_that_is_done_hears_whether_it_is_still_needed(room: Room) -> None:
    await room.begin(1, 2)
    await room.hello(2)
    done = {**OUTCOME, "manifest": room.task(1)["manifest"], "bytes_peers": 9, "way": "peers"}
    assert (await room.post(1, "outcome", json=done)).status_code == 200
    assert (await room.hello(1, complete=True))["needed"] is True
    # The other one hears of it, and is given nothing on its behalf any more.
    assert (await room.hello(2))["neighbours"] == [[ip(1), 9080]]
    assert (await room.post(1, "chunk", content=HASHES[0])).json()["code"] == "task-over"
    await room.hello(2, complete=True)
    assert (await room.hello(1, complete=True))["needed"] is False


async def test_a_neighbour_that_is_left_is_journalled_and_named_no_more(room: Room) -> None:
    await room.begin(1, 2, 3)
    for number in (1, 2, 3):
        await room.hello(number)
    left = [{"address": ip(1), "port": 9080, "reason": "a chunk from it fails its hash"}]
    for number in (2, 3):
        await room.hello(number, left=left)
    assert (await room.hello(2))["neighbours"] == [[ip(3), 9080]]
    room.served.services.journal.flush()
    with room.served.read() as session:
        lines = [event.sentence for event in journal.list_events(session, limit=50).items]
    assert any("fails its hash" in line for line in lines), lines


async def test_way_and_reason_are_shown_with_the_task(room: Room) -> None:
    await room.begin(1)
    body = {
        "stage": "receive", "done": 1, "total": 3, "bytes_peers": 77, "way": "peers",
        "way_reason": "Nothing of 239.192.0.0 has arrived.",
    }  # fmt: skip
    assert (await room.post(1, "progress", json=body)).json()["continue"] is True
    (view,) = [task for task in room.served.operation(room.operation).tasks if task.host == "pc1"]
    assert (view.bytes_peers, view.way, view.way_reason) == (77, "peers", body["way_reason"])
    refused = await room.post(1, "progress", json={**body, "way": "pigeon"})
    assert refused.status_code == 422


@pytest.mark.parametrize("way", ["http", "multicast"])
async def test_neighbours_are_part_of_multicast_not_of_http(room: Room, way: str) -> None:
    await room.begin(1, transport=way)
    assert (room.task(1)["peers"] is None) == (way == "http")
    assert (await room.hello(1))["connections"] == (0 if way == "http" else 4)


@pytest.fixture
def without(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path / "data", peers={"enabled": False})
    yield made
    made.close()
    shutil.rmtree(tmp_path / "data")


async def test_a_site_may_do_without(without: Served) -> None:
    room = Room(without)
    await room.begin(1)
    assert room.task(1)["peers"] is None
    assert (await room.hello(1))["connections"] == 0
    assert len(CHUNKS) == 3
