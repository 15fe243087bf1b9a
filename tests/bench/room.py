"""Machines of the virtual room for measurements: the real daemon, real agents, the server's port shaped."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pxeboot.lab.classroom import Classroom
from tests.bench.harness import Measurement

HOSTS = 8
LINK = 100  # Mbit/s of the server's port, Ethernet frames without preamble and gap
_LIMIT = 140.0
_NO_MULTICAST = """
table bridge pxeboot_bench {
  chain forward { type filter hook forward priority 0; ip daddr 239.0.0.0/8 drop; }
}
"""


class Class:
    """A classroom of simulated hosts with one captured image of random bytes."""

    def __init__(self, room: Classroom, megabytes: int) -> None:
        self.room, self.megabytes = room, megabytes
        source = room.simulated_seat("source", megabytes << 20)
        with open(source.disk, "r+b") as file:
            for at in range(1, megabytes):  # the first MiB stays empty: no table, no boot sector
                file.seek(at << 20)
                file.write(random.randbytes(1 << 20))
        self.source = source.disk
        self.seats = [room.simulated_seat(f"pc{number}", megabytes << 20) for number in range(HOSTS)]
        room.each([source, *self.seats], room.register)
        room.approve([source, *self.seats])
        captured = room.start("capture", hosts=[source.host], image="noise", capture={"whole": ["unknown"]})
        source.power_on()
        self._done(captured)
        source.sim().wait_off(60)
        command = ["tc", "qdisc", "add", "dev", "eth0", "root", "tbf"]
        self.inside(room.room.server, *command, *f"rate {LINK}mbit burst 256k latency 200ms".split())

    def inside(self, namespace: str, *command: str, text: str = "") -> None:
        """Run a command in a namespace. Raises CalledProcessError."""
        subprocess.run(
            ["ip", "netns", "exec", namespace, *command], input=text, text=True, check=True, timeout=20
        )

    def block(self) -> None:
        """From now on the switch drops the groups."""
        self.inside(self.room.room.switch, "nft", "-f", "-", text=_NO_MULTICAST)

    def unblock(self) -> None:
        self.inside(self.room.room.switch, "nft", "delete table bridge pxeboot_bench")

    def order(self, transport: str, *, force_full: bool = False) -> str:
        """Empty the disks, order a deploy to all machines and switch them on; the operation."""
        for seat in self.seats:
            seat.disk.unlink()
            with open(seat.disk, "wb") as file:
                file.truncate(self.megabytes << 20)
        started = self.room.start(
            "deploy", hosts=[seat.host for seat in self.seats], image="noise@1", transport=transport,
            deploy={"verify": False}, force_full=force_full, set_hostname=False,
        )  # fmt: skip
        for seat in self.seats:
            seat.power_on()
        return started

    def finish(self, operation: str) -> list[dict[str, Any]]:
        """Wait for its end; its tasks. Raises RuntimeError unless all end well and all disks are right."""
        tasks = self._done(operation)
        for seat in self.seats:
            seat.sim().wait_off(90)
        for seat in self.seats:
            subprocess.run(["cmp", str(self.source), str(seat.disk)], check=True, timeout=60)
        return tasks

    def deploy(self, transport: str) -> list[dict[str, Any]]:
        """Deploy to all machines, of which none is asked what its disk holds; their tasks."""
        return self.finish(self.order(transport, force_full=True))

    def _done(self, operation: str) -> list[dict[str, Any]]:
        found = self.room.follow(operation, _LIMIT)
        if found["state"] != "done":
            reasons = {task["host"]: task["reason"] for task in found["tasks"]}
            raise RuntimeError(f"the operation ended {found['state']}: {reasons}")
        tasks: list[dict[str, Any]] = found["tasks"]
        return tasks


@contextmanager
def classroom(found: Measurement, megabytes: int, *, told: bool = False) -> Iterator[Class]:
    """A room with an image of so many MiB; ``told``: the daemon knows what its port carries."""
    folder = found.scratch / "room"
    (found.scratch / "nothing").mkdir(exist_ok=True)
    settings: dict[str, dict[str, Any]] = {
        "multicast": {"rate_mbit": 0.95 * LINK, "gather_seconds": 5.0},
        "registration": {"then": "reboot"},
        "peers": {"linger_seconds": 30},
        "bandwidth": {"caps": [f"eth0 = {0.95 * LINK:g} Mbit/s"] if told else []},
    }
    try:
        with Classroom(folder, Path(found.scratch / "nothing"), settings=settings) as room:
            yield Class(room, megabytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def longest(tasks: list[dict[str, Any]]) -> float:
    return max(float(task["seconds"].get("scan", 0) + task["seconds"]["receive"]) for task in tasks)


def shares(tasks: list[dict[str, Any]]) -> str:
    """By which way the bytes came, all machines together."""
    sums = {way: sum(task[f"bytes_{way}"] for task in tasks) for way in ("multicast", "peers", "http")}
    total = sum(sums.values()) or 1
    return ", ".join(f"{100 * size / total:.0f} % {way}" for way, size in sums.items())
