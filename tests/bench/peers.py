"""Eight machines without multicast: fetching from each other, beside everybody fetching from the server.

The real daemon and real agents in a virtual room, the server's port shaped, the machines' ports wide. The
figure is the longest time of the eight from the first look at the disk to the last chunk written.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pxeboot.lab.classroom import Classroom, Seat
from tests.bench.harness import Entry, Measurement

HOSTS = 8
LINK = 100  # Mbit/s of the server's port, Ethernet frames without preamble and gap
#: A chunk of random bytes on the link: TCP, IP and Ethernet take 74 of 1514 bytes.
_GOODPUT = LINK * 1440 / 1514
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

    def deploy(self, transport: str) -> list[dict[str, Any]]:
        """Deploy to eight empty disks; their tasks. Raises RuntimeError unless all end well."""
        for seat in self.seats:
            seat.disk.unlink()
            with open(seat.disk, "wb") as file:
                file.truncate(self.megabytes << 20)
        wanted = {"image": "noise@1", "transport": transport, "force_full": True, "set_hostname": False}
        deploy = {"verify": False}
        started = self.room.start("deploy", hosts=[s.host for s in self.seats], deploy=deploy, **wanted)
        for seat in self.seats:
            seat.power_on()
        tasks = self._done(started)
        for seat in self.seats:
            seat.sim().wait_off(90)
        self.same(self.seats)
        return tasks

    def same(self, seats: list[Seat]) -> None:
        for seat in seats:
            subprocess.run(["cmp", str(self.source), str(seat.disk)], check=True, timeout=60)

    def _done(self, operation: str) -> list[dict[str, Any]]:
        found = self.room.follow(operation, _LIMIT)
        if found["state"] != "done":
            reasons = {task["host"]: task["reason"] for task in found["tasks"]}
            raise RuntimeError(f"the operation ended {found['state']}: {reasons}")
        tasks: list[dict[str, Any]] = found["tasks"]
        return tasks


@contextmanager
def classroom(found: Measurement, megabytes: int, rate: float = 0.95 * LINK) -> Iterator[Class]:
    folder = found.scratch / "room"
    (found.scratch / "nothing").mkdir(exist_ok=True)
    settings: dict[str, dict[str, Any]] = {
        "multicast": {"rate_mbit": rate, "gather_seconds": 5.0},
        "registration": {"then": "reboot"},
        "peers": {"linger_seconds": 30},
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


def against_http(found: Measurement) -> None:
    """How many times faster eight machines are that fetch from each other than from the server alone."""
    size = found.megabytes(48)
    with classroom(found, size) as room:
        for _ in found.rounds(2):
            alone = longest(room.deploy("http"))
            tasks = room.deploy("peers")
            found.ours.append(alone / longest(tasks))
            ideal = size * 8 * 1.048576 / _GOODPUT
            found.remark(
                f"{size} MiB, the server's port {LINK} Mbit/s: the server alone {alone:.1f} s, "
                f"peers {longest(tasks):.1f} s (the image needs {ideal:.1f} s once), {shares(tasks)}"
            )


def blocked(found: Measurement, seconds: float) -> None:
    """Multicast is dropped by the switch, from the start or ``seconds`` after the first datagrams."""
    size = found.megabytes(64 if not seconds else 176, 16)
    with classroom(found, size) as room:
        ideal = size * 8 * 1.048576 / _GOODPUT
        for _ in found.rounds(1 if seconds else 2):
            timer = threading.Timer(_BOOT_SECONDS + seconds, room.block)
            if seconds:
                timer.start()
            else:
                room.block()
            try:
                tasks = room.deploy("multicast")
            finally:
                timer.cancel()
            room.unblock()
            found.ours.append(longest(tasks) / ideal)
            reason = next((task["way_reason"] for task in tasks if task["way_reason"]), "none")
            found.remark(
                f"{size} MiB to {HOSTS}, the server's port {LINK} Mbit/s: {longest(tasks):.1f} s, "
                f"{shares(tasks)}; a host says: {reason}"
            )


_BOOT_SECONDS = 8.0  # DHCP, boot script and the agent's start of eight simulated hosts, and the gathering
NEEDS = ("nft", "tc", "cmp", "busybox")
ENTRIES = (
    Entry("peers_vs_http", "× the server alone", against_http, goal=3, needs=NEEDS),
    Entry(
        "peers_multicast_blocked", "× the image's time", lambda found: blocked(found, 0), goal=HOSTS / 3,
        lower=True, needs=NEEDS,
    ),
    Entry(
        "peers_multicast_dies", "× the image's time", lambda found: blocked(found, 10), goal=HOSTS / 3,
        lower=True, needs=NEEDS,
    ),
)  # fmt: skip
