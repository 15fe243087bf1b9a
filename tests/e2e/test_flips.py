"""A bit flips in the store while the real daemon sleeps: the deploy is true, or it fails with a sentence.

(That the store itself never serves a wrong byte: tests/imaging/store. Here it is what people are told.)
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.lab.errors import LabError
from tests.e2e.killing import IMAGE, KillRoom

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KillRoom]:
    """One version is kept; a copy of its store lies beside it."""
    with KillRoom(tmp_path_factory.mktemp("flips"), 9) as room:
        room.finish(room.start("capture", [room.source]), [room.source])
        room.classroom.server.stop()
        room.sound = False
        shutil.copytree(store(room), store(room).with_name("sound"))
        yield room


def store(room: KillRoom) -> Path:
    return room.classroom.server.data_dir / "store"


@pytest.mark.parametrize("kind", ["packs/*.pack", "index.sqlite", "manifests/*"])
def test_a_flipped_bit_is_put_right_or_told(room: KillRoom, kind: str) -> None:
    server, seat = room.classroom.server, room.seats[0]
    server.stop()
    shutil.rmtree(store(room))
    shutil.copytree(store(room).with_name("sound"), store(room))
    victim = max(store(room).glob(kind), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    at = room.dice.randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    victim.write_bytes(data)
    try:
        server.start()
    except LabError as refused:  # it would rather not start than serve what it cannot read
        if kind != "index.sqlite" or not re.search(r"(?i)index.*(delete|remove)", str(refused)):
            raise
        return
    room.spoil(seat)
    done = room.finish(room.start("deploy", [seat], max_attempts=1, force_full=True), [seat])
    [task] = done["tasks"]
    if kind == "packs/*.pack":
        assert (task["state"], task["code"]) in [("failed", "chunk-damaged"), ("done", "")]
    elif kind == "manifests/*":
        assert task["state"] == "failed", "what our key did not sign is written to no disk"
    if task["state"] == "failed":
        assert not room.classroom.get(f"/hosts/{seat.host}")["held_manifest"]
        found = room.job("/store:verify", image=f"{IMAGE}@1")
        assert found["state"] == "failed" or found["result"]["damaged"], "and a look at the store finds it"
    room.check_logs()
