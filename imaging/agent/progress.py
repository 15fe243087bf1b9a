"""What the agent is doing right now, told to the console and, once a second, to the server, which may say
stop.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Literal

from imaging.agent.console import Console
from imaging.agent.disks import human
from imaging.agent.errors import AgentError, Cancelled
from imaging.agent.server import Server

_EVERY = 1.0  # seconds, ± 25 %: a room that started together must not report together
_CALL_SECONDS = 5.0

Source = Literal["multicast", "peers", "http"]
Way = Literal["", "multicast", "peers", "http"]

STAGES = ("inventory", "scan", "receive", "write", "verify", "customise", "upload", "wipe", "test", "shell")


class Progress:
    """Counters shared by all threads of a task, and the thread that reports them.

    ``stop`` is set as soon as the task must end: the server said so, or a worker failed. ``check()`` then
    raises the reason in whichever thread asks.
    """

    def __init__(self, task: str, server: Server, console: Console, every: float = _EVERY) -> None:
        self.stop = server.stop
        self.seconds: dict[str, float] = {}
        self.bytes_multicast = 0
        self.bytes_peers = 0
        self.bytes_http = 0
        self.way: Way = ""  # by which chunks come now
        self.way_reason = ""  # why not by a better one
        self.stage = "inventory"
        self.done = self.total = 0
        self.message = ""
        self.chunks = {"total": 0, "kept": 0, "written": 0}
        self.notes: dict[str, object] = {}  # more members of the outcome
        # What was changed on the disk after it was verified; goes into the outcome as it is.
        self.afterwards: dict[str, Any] = {}
        self._task = task
        # Progress is news, not data: one quick try; the next tick brings the same and more.
        self._server = server.another(patience=0.0, timeout=_CALL_SECONDS)
        self._server.stop = threading.Event()
        self._console = console
        self._every = every
        self._lock = threading.Lock()
        self.verified = False  # every chunk was read back and matched
        self._reason: BaseException | None = None
        self._finished = threading.Event()
        self._changed_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._thread.join(_CALL_SECONDS + 1)
        self._server.close()

    def enter(self, stage: str, total: int = 0, message: str = "") -> None:
        """Begin (or go back to) a stage; the time since the last call counts for the stage before."""
        with self._lock:
            self._close_stage()
            changed = stage != self.stage
            self.stage, self.done, self.total, self.message = stage, 0, total, message
        if changed:
            self._console.say(f"agent: stage={stage}")
        self.check()

    def stage_at(self, stage: str, done: int, total: int) -> None:
        """The image engine's progress callback: enters the stage if need be, and raises if the task must
        end.
        """
        if stage != self.stage:
            self.enter(stage, total)
        self.done, self.total = done, total
        self.check()

    def say(self, sentence: str) -> None:
        """A line for the console."""
        self._console.say(sentence)

    def leave(self) -> None:
        """Close the books of the last stage."""
        with self._lock:
            self._close_stage()

    def _close_stage(self) -> None:
        now = time.monotonic()
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self._changed_at
        self._changed_at = now

    def received(self, source: Source, size: int, *, written: int) -> None:
        """Count the bytes of a frame by where it came from, and whether it was written."""
        with self._lock:
            if source == "multicast":
                self.bytes_multicast += size
            elif source == "peers":
                self.bytes_peers += size
            else:
                self.bytes_http += size
            self.chunks["written"] += written

    def goes_by(self, way: Way, reason: str) -> None:
        """Chunks come by this way from now on; ``reason``: why not by a better one."""
        if way != self.way:
            self._console.say(f"agent: way={way}" + (f" reason={reason}" if reason else ""))
        self.way, self.way_reason = way, reason

    def add(self, *, done: int = 0, http: int = 0, kept: int = 0, written: int = 0) -> None:
        """Count units of the stage, frame bytes over HTTP, and chunks."""
        with self._lock:
            self.done += done
            self.bytes_http += http
            self.chunks["kept"] += kept
            self.chunks["written"] += written

    def fail(self, reason: BaseException) -> None:
        """End the task with ``reason`` (the first one counts)."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
        self.stop.set()

    def check(self) -> None:
        """Raise the reason if the task must end."""
        if self.stop.is_set():
            raise self._reason or Cancelled("The task was stopped.")

    @property
    def reason(self) -> BaseException | None:
        """Why the task must end, once it must."""
        return self._reason

    @property
    def stopping(self) -> bool:
        """Must the task end?"""
        return self.stop.is_set()

    def snapshot(self) -> dict[str, object]:
        """The body of a progress call."""
        with self._lock:
            return {
                "stage": self.stage,
                "done": self.done,
                "total": self.total,
                "bytes_multicast": self.bytes_multicast,
                "bytes_peers": self.bytes_peers,
                "bytes_http": self.bytes_http,
                "way": self.way,
                "way_reason": self.way_reason[:500],
                "message": self.message[:500],
            }

    def _run(self) -> None:
        next_call = 0.0
        while not self._finished.wait(0.2):
            now = time.monotonic()
            body = self.snapshot()
            sizes = (self.bytes_multicast, self.bytes_peers, self.bytes_http)
            multicast, peers, http = (human(size).replace(" ", "") for size in sizes)
            note = f"multicast={multicast} peers={peers} http={http} {self.message}".strip()
            self._console.progress(self.stage, self.done, self.total, note)
            if now >= next_call:
                next_call = now + self._every * random.uniform(0.75, 1.25)
                self._call(body)

    def _call(self, body: dict[str, object]) -> None:
        try:
            answer = self._server.progress(self._task, body)
        except AgentError as error:
            # 4xx: the server no longer knows this task or this credential (cancelled, a newer boot took
            # over). Anything else is a server that is away for a moment: the disk does not care.
            if 400 <= error.status < 500 and error.status not in (408, 429):
                self.fail(Cancelled(error.sentence, error.code))
            return
        if answer.get("continue") is False:
            self.fail(Cancelled(str(answer.get("reason") or "The server cancelled the task.")))
