"""Deploys by multicast: real agents in namespaces of their own, the real sender, the real store."""

import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.imaging.agent.images import blank
from tests.imaging.multicast.room import NetRoom, lines_until, net_room, start_sender

pytestmark = pytest.mark.net

CHUNKS = 64
SESSION = {
    "id": 77, "group": "239.192.7.9", "port": 9000, "report": ["10.9.0.1", 9001], "symbol": 1450, "key": None,
    "version": 2,
}  # fmt: skip


class Site:
    """The server's namespace with a Room in it, and agents on hosts."""

    def __init__(self, room: NetRoom, path: Path) -> None:
        self.room, self.path = room, path
        self.source = path / "source.img"
        noise = random.Random(5)
        with open(blank(self.source, CHUNKS << 20), "r+b") as file:
            for chunk in range(CHUNKS):
                file.seek(chunk << 20)
                file.write(noise.randbytes(300_000))
        self.server = room.start(
            room.server, "-m", "tests.imaging.agent.serve", "10.9.0.1", "8000", str(path / "store"),
            str(self.source),
        )  # fmt: skip
        assert self.server.stdout is not None
        self.manifest = json.loads(self.server.stdout.readline())["manifest"]

    def tell(self, command: str) -> Any:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(command + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def sender(self, **changes: Any) -> "subprocess.Popen[str]":
        order = {
            "session": SESSION, "manifest": self.manifest, "store": str(self.path / "store"),
            "interface": "10.9.0.1", "rate_mbit": 60, "gather_seconds": 1, "expected": None, **changes,
        }  # fmt: skip
        process = start_sender(self.room, order)
        lines_until(process, "started", 60)
        return process

    def agent(self, host: int, disk: Path) -> "subprocess.Popen[str]":
        return self.room.start(
            self.room.hosts[host], "-m", "imaging.agent", "--simulated", "--disk", str(disk),
            "--cmdline", self.tell("boot"), "--log", str(self.path / f"host-{host}.log"),
        )  # fmt: skip

    def finish(self, *agents: "subprocess.Popen[str]") -> list[dict[str, Any]]:
        for agent in agents:
            out, _ = agent.communicate(timeout=200)
            assert agent.returncode == 0, out
        outcomes: list[dict[str, Any]] = self.tell("outcomes")
        assert len(outcomes) == len(agents)
        assert all(outcome["ok"] and outcome["verified"] for outcome in outcomes), outcomes
        return outcomes

    def same(self, *disks: Path) -> bool:
        return all(disk.read_bytes() == self.source.read_bytes() for disk in disks)


def written(disk: Path, mebibytes: int) -> None:
    """Wait until so much is on a disk that was blank."""
    deadline = time.monotonic() + 90
    while disk.stat().st_blocks * 512 < mebibytes << 20:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with net_room(2) as room:
        yield Site(room, tmp_path)


def test_two_hosts_hear_one_stream(site: Site) -> None:
    site.tell(f"session {json.dumps(SESSION)}")
    site.sender(expected=2)
    disks = [blank(site.path / f"disk-{n}.img", CHUNKS << 20) for n in range(2)]
    outcomes = site.finish(*(site.agent(n, disk) for n, disk in enumerate(disks)))
    assert site.same(*disks)
    for outcome in outcomes:
        assert outcome["bytes_multicast"] > CHUNKS * 300_000 * 0.9
        assert outcome["bytes_http"] < CHUNKS * 300_000 * 0.1


def test_a_session_nobody_hears_is_left_for_http(site: Site) -> None:
    site.tell(f"session {json.dumps(SESSION)}")  # and no sender
    disk = blank(site.path / "disk.img", CHUNKS << 20)
    (outcome,) = site.finish(site.agent(0, disk))
    assert site.same(disk)
    assert outcome["bytes_multicast"] == 0
    assert 3 < outcome["seconds"]["receive"] + outcome["seconds"]["scan"] < 60


def test_a_sender_killed_in_mid_stream_and_a_new_session(site: Site) -> None:
    site.tell(f"session {json.dumps(SESSION)}")
    sender = site.sender(gather_seconds=0, rate_mbit=15)
    disk = blank(site.path / "disk.img", CHUNKS << 20)
    agent = site.agent(0, disk)
    lines_until(sender, "sweep-started", 60)
    written(disk, 4)
    sender.kill()
    site.tell("session null")
    (outcome,) = site.finish(agent)
    assert site.same(disk)
    assert outcome["bytes_multicast"] > 0
    assert outcome["bytes_http"] > 0
    # Nothing that multicast had brought was fetched again.
    assert outcome["chunks"] == {"total": CHUNKS, "kept": 0, "written": CHUNKS}


def test_a_host_killed_in_mid_deploy_resumes_and_its_neighbour_does_not_notice(site: Site) -> None:
    site.tell(f"session {json.dumps(SESSION)}")
    site.sender(expected=2, rate_mbit=40)
    disks = [blank(site.path / f"disk-{n}.img", CHUNKS << 20) for n in range(2)]
    first, second = (site.agent(n, disk) for n, disk in enumerate(disks))
    written(disks[0], 16)
    first.kill()
    again = site.agent(0, disks[0])
    # They come in the order in which they end, and a resumed host may well be the first.
    neighbour, resumed = sorted(site.finish(second, again), key=lambda outcome: outcome["chunks"]["kept"])
    assert site.same(*disks)
    assert resumed["chunks"]["kept"] >= 8
    assert resumed["chunks"]["kept"] + resumed["chunks"]["written"] == CHUNKS
    assert neighbour["bytes_multicast"] > CHUNKS * 300_000 * 0.9
