"""Multicast whose machine, sender or daemon is killed (SIGKILL): the real daemon, eight real agents.

A machine that is killed comes back as one whose power was cut: by DHCP and boot script, as another process
and another receiver, which looks at its disk with the agent's own scan. What its disk held is asked of the
disk while it is off.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pxeboot.lab.classroom import Seat
from tests.bench.harness import Entry, Measurement
from tests.bench.lan import wait_until
from tests.bench.room import HOSTS, LINK, Class, classroom, longest, shares
from tests.e2e.halfway import frames, on_disk, senders
from tests.e2e.killing import tear

MIB = 1 << 20
GOAL_REFETCHED, GOAL_RESUMED = 1.0, 5.0  # % of what it had, s
_SETTLE = 0.4  # s; what was in the link's queue and in the machines' memory when the sender died is past
_LIMIT = 60.0


# -- a machine --------------------------------------------------------------------------------------------


def rebooted(found: Measurement) -> None:
    """One of eight is killed when 60 % of the image is on its disk, and switched on again."""
    size = found.megabytes(192, 48)
    with classroom(found, size, told=True) as room:
        store = room.room.server.data_dir / "store"
        manifest = room.room.get("/images/noise/versions")["items"][0]["manifest"]
        undisturbed = longest(room.finish(room.order("multicast")))
        victim = room.seats[0]
        for _ in found.rounds(3):
            operation = room.order("multicast")
            wait_until("60 % on its disk", lambda: on_disk(victim.disk) >= 0.6 * size * MIB, _LIMIT)
            victim.sim().power_off()
            had, lacked = frames(store, manifest, victim.disk)
            began = time.monotonic()
            victim.power_on()
            # The image's first MiB is zeros: on a disk that is scanned it stays a hole.
            wait_until("the rest on its disk", lambda: on_disk(victim.disk) >= (size - 1) * MIB, _LIMIT)
            seconds = time.monotonic() - began
            tasks = {task["host"]: task for task in room.finish(operation)}
            own = tasks.pop(victim.host)
            others = longest(list(tasks.values()))
            got = sum(own[f"bytes_{way}"] for way in ("multicast", "peers", "http"))
            found.ours.append(100 * max(0, got - lacked) / had)
            found.remark(
                f"{size} MiB to {HOSTS} over {LINK} Mbit/s; it had {had / MIB:.1f} MiB, lacked "
                f"{lacked / MIB:.1f} and took in {got / MIB:.1f} ({shares([own])}); its disk was complete "
                f"{seconds:.1f} s after it was switched on; the others {others / undisturbed:.2f} × their "
                "undisturbed time"
            )


# -- the server -------------------------------------------------------------------------------------------


@dataclass
class Intake:
    """When a machine took in again a chunk by whatever way, and when a chunk's worth of the stream and
    afterwards a chunk; monotonic seconds, 0 = not yet."""

    seat: Seat
    any_way: float = 0.0
    multicast: float = 0.0

    def __post_init__(self) -> None:
        self.pid = self.seat.sim().agent_pid
        self._disk, self._stream = on_disk(self.seat.disk), heard(self.pid)
        self._since: int | None = None

    def look(self, now: float) -> bool:
        """Whether there is nothing more to find out."""
        disk = on_disk(self.seat.disk)
        if not self.any_way and disk >= self._disk + MIB:
            self.any_way = now
        if self._since is None and heard(self.pid) >= self._stream + MIB:
            self._since = disk
        if not self.multicast and self._since is not None and disk >= self._since + MIB:
            self.multicast = now
        return bool(self.any_way and self.multicast)


def heard(pid: int | None) -> int:
    """Octets of multicast packets that have reached the IP layer where this process is."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/netstat").read_text("ascii").splitlines()]
    names, values = (line for line in lines if line[0] == "IpExt:")
    return int(values[names.index("InMcastOctets")])


def killed(found: Measurement, kill: Callable[[Class], float]) -> None:
    """``kill`` strikes when 30 % of the image is written, and says when what it killed began anew."""
    size = found.megabytes(160, 96)
    with classroom(found, size, told=True) as room:
        for _ in found.rounds(3):
            operation = room.order("multicast")
            wait_until("30 % on all", lambda: least(room) >= 0.3 * size * MIB, _LIMIT)
            struck = time.monotonic()
            with watched(room) as intakes:
                began = kill(room)
            tasks = room.finish(operation)
            if any(task["attempt"] != 1 for task in tasks):
                raise RuntimeError("a machine lost its attempt")
            stream = max(intake.multicast for intake in intakes)
            chunk = max(intake.any_way for intake in intakes)
            found.ours.append(stream - began)
            found.remark(
                f"{size} MiB to {HOSTS} over {LINK} Mbit/s: all had a chunk by whatever way after "
                f"{chunk - began:.1f} s, the stream after {stream - began:.1f} s ({stream - struck:.1f} s "
                f"after the kill); {shares(tasks)}; the deploy took {longest(tasks):.1f} s"
            )


def least(room: Class) -> int:
    """Bytes on the disk of the machine that has least."""
    return min(on_disk(seat.disk) for seat in room.seats)


@contextmanager
def watched(room: Class) -> Iterator[list[Intake]]:
    """Look at all machines from a moment after now; leaving waits until all take in the stream again."""
    intakes: list[Intake] = []

    def watch() -> None:
        time.sleep(_SETTLE)
        intakes.extend(map(Intake, room.seats))
        end = time.monotonic() + _LIMIT
        while time.monotonic() < end:
            now = time.monotonic()
            if all([intake.look(now) for intake in intakes]):  # noqa: C419 - each of them
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield intakes
    thread.join(_LIMIT + 5)
    if not all(intake.any_way and intake.multicast for intake in intakes):
        raise TimeoutError(f"not all took in the stream again within {_LIMIT:.0f} s")


def kill_daemon(room: Class) -> float:
    room.room.server.kill()
    began = time.monotonic()
    room.room.server.start()
    return began


def kill_sender(room: Class) -> float:
    struck = time.monotonic()
    for pid in senders(room.room.server):
        tear(pid)
    return struck


NEEDS = ("tc", "cmp", "busybox")


def _entry(name: str, unit: str, goal: float, measure: Any) -> Entry:
    return Entry(name, unit, measure, goal=goal, lower=True, needs=NEEDS)


ENTRIES = (
    _entry("multicast_reboot", "% of what it had", GOAL_REFETCHED, rebooted),
    _entry("multicast_server_killed", "s", GOAL_RESUMED, lambda found: killed(found, kill_daemon)),
    _entry("multicast_sender_killed", "s", GOAL_RESUMED, lambda found: killed(found, kill_sender)),
)
