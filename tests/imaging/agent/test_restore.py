"""Frames on their way to the disk: who may be blamed for a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.agent.demand import Demand
from imaging.agent.progress import Progress
from imaging.agent.restore import Restore
from imaging.agent.server import Server
from imaging.errors import ChunkInvalid
from imaging.options import DeployOptions
from imaging.target import Target, assign
from tests.imaging.agent.conftest import Typist
from tests.imaging.agent.images import blank, make_disk, store_image
from tests.imaging.agent.room import Room


def test_wrong_frames_by_multicast_or_of_neighbours_never_fail_a_deploy(room: Room, tmp_path: Path) -> None:
    """Datagrams may come from anybody, neighbours may lie. What the server itself gives wrong again and
    again is its fault."""
    manifest = store_image(room, make_disk(tmp_path / "source.img"))
    given = assign(manifest, 0, str(blank(tmp_path / "target.img")), DeployOptions(), spill_limit=0)
    right, wrong = (room.store.frame(manifest.chunks[index].hash) for index in (5, 2))
    demand = Demand(len(manifest.chunks))
    demand.want_all()
    with Target(manifest, given, write=True) as target:
        restore = Restore(manifest, {0: target}, demand, Progress("7", Server(room.url), Typist().console))
        for _ in range(20):
            assert demand.claim(5)
            assert not restore.put(5, wrong, source="multicast")
            assert demand.claim(5)
            assert not restore.put(5, wrong, source="peers")
        for _ in range(3):
            assert demand.claim(5)
            assert not restore.put(5, wrong, source="http")
        assert not restore.matches(5)
        assert demand.claim(5)
        with pytest.raises(ChunkInvalid):
            restore.put(5, wrong, source="http")
        assert demand.claim(5)
        assert restore.put(5, right, source="multicast")
        assert restore.matches(5)
