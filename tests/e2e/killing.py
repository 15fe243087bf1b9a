"""A room in which daemon and agents are killed while they work, and what must hold afterwards, whatever died.

A moment is a number of bytes: a process has reached it when it has read and written so much (/proc/PID/io).
So a seed means the same places of the work on a fast machine and on a busy one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from imaging.store import ChunkStore
from pxeboot.lab import disks
from pxeboot.lab.classroom import Classroom, Seat
from pxeboot.lab.errors import LabError

MIB = 1 << 20
SIZE = 48 * MIB
PART = disks.Partition(disks.LINUX, 1, 46, "data")
IMAGE = "debian"
LIMIT = 240.0  # seconds that an operation may take with all its kills
SETTINGS: dict[str, dict[str, Any]] = {
    "dhcp": {"conflict_probe": False},
    "multicast": {"rate_mbit": 400.0, "gather_seconds": 1.0},
    "registration": {"name_template": "PC-##", "auto_approve": True},
    "tasks": {"silence_seconds": 20, "boot_seconds": 60},
}


class Broken(AssertionError):
    """An invariant does not hold."""


def work_of(pid: int) -> int:
    """Bytes that a process has read and written by now; -1 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/io").read_text("ascii")
    except OSError:
        return -1
    fields = dict(line.split(": ") for line in text.splitlines())
    return int(fields["rchar"]) + int(fields["wchar"])


def tear(pid: int) -> None:
    """SIGKILL; a process that has just ended is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Moment:
    """Waits in a thread until a process has done so much work since the wait began, and acts at once.

    ``find``: its process id, once there is one; with ``times``, so often, each time in another process.
    ``struck`` tells how often it came to that; ``worked`` what the process had done when last looked at.
    """

    def __init__(
        self, find: Callable[[], int | None], after: int, act: Callable[[int], None], times: int = 1
    ) -> None:
        self.struck, self.worked, self._over = 0, 0, threading.Event()
        self._find, self._after, self._act, self._times = find, after, act, times
        self._thread = threading.Thread(target=self._watch, name="moment", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        pid: int | None = None
        began, gone = 0, set[int]()
        while self.struck < self._times and not self._over.wait(0.001):
            if pid is None:
                if (pid := self._find()) in gone:
                    pid = None
                began = work_of(pid) if pid is not None else 0
            elif (done := work_of(pid)) < 0:
                if self._times == 1:
                    return
                gone.add(pid)
                pid = None
            else:
                self.worked = done - began
                if self.worked >= self._after:
                    self._act(pid)
                    self.struck += 1
                    gone.add(pid)
                    pid = None

    def end(self) -> int:
        """Stop waiting; how often it has struck."""
        self._over.set()
        self._thread.join()
        return self.struck


class KillRoom:
    """A classroom of simulated hosts: ``source`` is captured, ``seats`` are deployed to."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        (directory / "boot").mkdir(parents=True)
        self.classroom = Classroom(directory, directory / "boot", settings=SETTINGS)
        self.contents: dict[str, str] = {}  # manifest -> digest of the partition that was captured
        self.spoilt = set[str]()  # labels of seats whose disks somebody has changed since they were proved
        self.sound = True  # False: the test itself damages the store
        self.kills = 0

    def __enter__(self) -> KillRoom:
        self.classroom.__enter__()
        self.source = self.classroom.simulated_seat("source", SIZE)
        self.seats = [self.classroom.simulated_seat(f"pc{number}", SIZE) for number in (1, 2)]
        disks.write_table(self.source.disk, "gpt", [PART])
        self.renew(1.0)
        for seat in (self.source, *self.seats):
            self.classroom.register(seat)
        return self

    def __exit__(self, *_: object) -> None:
        self.classroom.__exit__()

    # --- disks ---

    def renew(self, share: float) -> None:
        """Other content in this share of the source's chunks; a third of each is noise, the rest text."""
        with self.source.disk.open("r+b") as file:
            for chunk in range(PART.size):
                if self.dice.random() < share:
                    noise = self.dice.randbytes(MIB // 3)
                    file.seek(PART.offset + chunk * MIB)
                    file.write((noise + b"all the men and women merely players " * 20_000)[:MIB])

    def spoil(self, seat: Seat) -> None:
        """What a host's disk is before a deploy: blank, another system's, or an image with changes."""
        self.spoilt.add(seat.label)
        fate = self.dice.random()
        with seat.disk.open("r+b") as file:
            if fate < 0.3:
                file.truncate(0)
                file.truncate(SIZE)
            elif fate < 0.4:
                file.write(self.dice.randbytes(SIZE))
            else:
                for _ in range(12):
                    file.seek(PART.offset + self.dice.randrange(PART.size) * MIB)
                    file.write(self.dice.randbytes(5000))

    # --- operations ---

    def start(self, kind: str, seats: Sequence[Seat], **request: Any) -> str:
        """Order an operation and press the buttons. A server that dies meanwhile is asked again, once
        started: the key sees to it that this is one operation.
        """
        options: dict[str, Any] = {"capture": {"whole": ["unknown"]}} if kind == "capture" else {}
        if kind == "deploy":
            options["set_hostname"] = False
        request = {"hosts": [seat.host for seat in seats], "image": IMAGE, **options, **request}
        key = str(uuid.UUID(int=self.dice.getrandbits(128)))
        identifier = self.ask(lambda: self.classroom.start(kind, key=key, **request))
        for seat in seats:
            seat.power_on()
        return str(identifier)

    def ask(self, question: Callable[[], Any]) -> Any:
        """Ask the server; when it dies over the question, start it and ask again."""
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                return question()
            except (OSError, HTTPException) as error:
                if time.monotonic() > deadline:
                    raise Broken("the server does not answer, however often it is started") from error
                time.sleep(0.1)  # it may be dying just now
                self.revive()

    def finish(self, identifier: str, seats: Sequence[Seat], *moments: Moment) -> dict[str, Any]:
        """See an operation to its end: a dead server is started, a host at rest with work left is woken.
        What must hold is looked at after each kill.
        """
        deadline, looked = time.monotonic() + LIMIT, 0
        while True:
            self.revive()
            found: dict[str, Any] = self.ask(lambda: self.classroom.operation(identifier))
            if (struck := sum(moment.struck for moment in moments)) > looked:
                looked = struck
                self.ask(self.check)
            if found["state"] != "running":
                break
            waiting = {task["host"] for task in found["tasks"] if task["finished_at"] is None}
            for seat in seats:
                if seat.host in waiting and not seat.sim().busy:
                    seat.power_on()
            if time.monotonic() > deadline:
                raise Broken(f"not over after {LIMIT:.0f} s: {json.dumps(found['tasks'], indent=1)}")
            time.sleep(0.1)
        self.kills += sum(moment.end() for moment in moments)
        self.revive()
        for seat in seats:
            with contextlib.suppress(LabError):  # the server died while the host was on its way to its disk
                seat.sim().wait_off(180)
        self.learn()
        self.check_end(found)
        self.check()
        return found

    def revive(self) -> None:
        """Start the server if it is dead."""
        if not self.classroom.server.running:
            self.classroom.server.start()

    def job(self, path: str, *moments: Moment, **body: Any) -> dict[str, Any]:
        """Start a job of the server and wait for its end; as it was last seen when it died with the server,
        {} when it was not seen at all.
        """
        job: dict[str, Any] = {}
        try:
            job = self.classroom.call("POST", path, body or None)
            deadline = time.monotonic() + LIMIT
            while job["finished_at"] is None:
                if time.monotonic() > deadline:
                    raise Broken(f"{path} is not over after {LIMIT:.0f} s")
                time.sleep(0.02)
                job = self.classroom.get(f"/jobs/{job['id']}")
        except (OSError, HTTPException) as gone:
            if not moments:
                raise Broken(f"the server died over {path}") from gone
        self.kills += sum(moment.end() for moment in moments)
        self.revive()
        self.check()
        return job

    def versions(self) -> list[dict[str, Any]]:
        """The image's versions."""
        images = {image["name"] for image in self.classroom.get("/images")["items"]}
        return list(self.classroom.get(f"/images/{IMAGE}/versions")["items"]) if IMAGE in images else []

    def learn(self) -> None:
        """Versions that appeared since the last time hold what the source's disk holds now."""
        for version in self.versions():
            self.contents.setdefault(version["manifest"], digest(self.source.disk))

    # --- what must hold ---

    def check(self) -> None:
        """No version that does not verify, and no host that is said to hold what it does not."""
        if not self.sound:
            return
        with ChunkStore(self.classroom.server.data_dir / "store", readonly=True) as store:
            listed, kept = self.versions(), store.manifests()
            for version in listed:
                if version["manifest"] not in kept:
                    raise Broken(f"{version['name']} has no manifest in the store")
                if bad := list(store.verify(version["manifest"])):
                    raise Broken(f"{version['name']} does not verify: {bad[0]}")
        for seat in self.seats:
            self._check_host(seat)

    def check_logs(self) -> None:
        """No accident in the logs: what dies by our hand says nothing, and the others are prepared for it."""
        for log in (self.classroom.server.log_path, *self.classroom.directory.glob("*.sim.log")):
            _, found, accident = log.read_text("utf-8", "replace").partition("Traceback")
            if found:
                raise Broken(f"{log.name} tells of an accident:\n{accident[:20_000]}")

    def _check_host(self, seat: Seat) -> None:
        host = self.classroom.get(f"/hosts/{seat.host}")
        task = host["task"]
        if not host["held_manifest"]:
            return
        if task is not None and task["kind"] == "deploy" and task["state"] in ("running", "verifying"):
            raise Broken(f"{seat.host} is being written and is said to hold {host['held_version']}")
        if seat.label in self.spoilt:  # by the test, as by a person at the machine: nobody can know that yet
            return
        held = digest(seat.disk)
        again = self.classroom.get(f"/hosts/{seat.host}")
        if again["held_manifest"] == host["held_manifest"] and held != self.contents[host["held_manifest"]]:
            raise Broken(f"{seat.host} is said to hold {host['held_version']}; its disk differs")

    def check_end(self, operation: dict[str, Any]) -> None:
        """Each task of an operation that is over: done and true, or failed with a sentence."""
        seats = {seat.host: seat for seat in self.seats}
        for task in operation["tasks"]:
            if task["state"] == "done":
                if task["kind"] == "deploy":
                    manifest = task["result"]["manifest"]
                    if not task["verified"] or digest(seats[task["host"]].disk) != self.contents[manifest]:
                        raise Broken(f"{task['host']} is called done and its disk differs")
                    self.spoilt.discard(seats[task["host"]].label)
            elif task["state"] == "failed":
                if not task["code"] or not task["reason"].endswith("."):
                    raise Broken(f"failed without a sentence: {task}")
            else:
                raise Broken(f"an operation is over with a task that is {task['state']}")


def digest(disk: Path) -> str:
    """What names the bytes of the partition, and that it is in the table."""
    with disk.open("rb") as file:
        head = file.read(MIB)
        file.seek(PART.offset)
        body = file.read(PART.size * MIB)
    table = b"EFI PART" in head[512:520] and head[1024 + 32 : 1024 + 48]
    return hashlib.sha256(repr(table).encode() + body).hexdigest()


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text("ascii").split())
    return found
