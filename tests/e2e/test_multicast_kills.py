"""A machine, or the sender, is killed in mid multicast deploy. Everything is real but firmware and disks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.halfway import frames, on_disk, senders
from tests.e2e.killing import IMAGE, SIZE, KillRoom, tear

pytestmark = [pytest.mark.net, pytest.mark.timeout(300)]

LIMIT_MBIT = 16  # 46 chunks of a third of a MiB each take eight seconds


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillRoom]:
    with KillRoom(tmp_path_factory.mktemp("multicast"), 6) as room:
        assert room.finish(room.start("capture", [room.source]), [room.source])["state"] == "done"
        yield room


def deploy(room: KillRoom, share: float) -> str:
    """Order a deploy to empty disks; returns when so much of it is on all of them."""
    for seat in room.seats:
        room.spoilt.add(seat.label)
        with seat.disk.open("r+b") as file:
            file.truncate(0)
            file.truncate(SIZE)
    identifier = room.start("deploy", room.seats, image=f"{IMAGE}@1", limit_mbit=LIMIT_MBIT)
    deadline = time.monotonic() + 60
    while min(on_disk(seat.disk) for seat in room.seats) < share * SIZE:
        assert time.monotonic() < deadline, "nothing comes"
        time.sleep(0.02)
    return identifier


def said(room: KillRoom, identifier: str, kind: str) -> int:
    """How often the journal has such a line of an operation."""
    listed: list[dict[str, Any]] = room.classroom.get(f"/events?operation={identifier}&limit=200")["items"]
    return sum(line["kind"] == kind for line in listed)


def test_a_sender_that_is_killed_is_replaced_and_nobody_loses_an_attempt(room: KillRoom) -> None:
    identifier = deploy(room, 0.3)
    (sender,) = senders(room.classroom.server)
    tear(sender)
    done = room.finish(identifier, room.seats)
    assert [(task["state"], task["attempt"]) for task in done["tasks"]] == [("done", 1)] * 2
    assert (said(room, identifier, "multicast.lost"), said(room, identifier, "multicast.started")) == (1, 2)


def test_a_machine_that_was_restarted_fetches_only_what_its_disk_lacks(room: KillRoom) -> None:
    identifier = deploy(room, 0.6)
    victim = room.seats[0]
    victim.sim().power_off()
    [version] = room.versions()
    store: Path = room.classroom.server.data_dir / "store"
    had, lacked = frames(store, version["manifest"], victim.disk)
    assert had > lacked > 0
    victim.power_on()
    done = room.finish(identifier, room.seats)
    tasks = {task["host"]: task for task in done["tasks"]}
    own, other = tasks[victim.host], tasks[room.seats[1].host]
    assert [(task["state"], task["attempt"]) for task in (own, other)] == [("done", 2), ("done", 1)]
    assert sum(own[f"bytes_{way}"] for way in ("multicast", "peers", "http")) <= lacked + had / 100
