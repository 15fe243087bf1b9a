"""The journal: every plane says what it did and why, live pages hear it, and a thread writes it down.

`Journal.record` never waits and never touches the database, so it may be called from the DHCP hot path,
from worker threads
and from the event loop alike. What it takes is batched (at most 0.2 s) and given to `store` in a thread
of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.2
BACKLOG = 20_000  # records waiting for the disk; beyond it the oldest go, counted
# Lines a second of the planes whose pace strangers set. Writing one costs as much as giving a lease; 200
# machines switched on at once stay below. What comes beyond is counted, and told as one line.
CROWD = 500
CROWDED_PLANES = frozenset({"dhcp", "tftp", "boot"})
STORE_ATTEMPTS = 5  # then the batch is given up, counted: the journal must never stop the daemon


@dataclass(frozen=True)
class Record:
    """One line of the journal. `plane`: dhcp tftp boot agent multicast api ui schedule task job doctor
    server; `kind`: past participle."""

    plane: str
    kind: str
    sentence: str
    at: datetime
    host_id: int | None = None
    mac: str = ""
    operation_id: str | None = None
    task_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    id: int | None = None  # once written


@dataclass(frozen=True)
class Change:
    """Something people look at has changed; nothing is written down. Pages read the thing again."""

    what: str  # operation | task | host | image | group | schedule | boot_entry | job
    id: str
    operation_id: str | None = None
    host_id: int | None = None


@dataclass(frozen=True)
class Lagged:
    """The subscriber was too slow and has missed something: read everything again."""

    missed: int


Message = Record | Change | Lagged


class Subscription:
    """A bounded queue of messages for one live page. `await get(timeout)` gives None when nothing came."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wants: Callable[[Record | Change], bool] | None, size: int
    ):
        self._loop = loop
        self._wants = wants
        self._queue: deque[Record | Change] = deque()
        self._size = size
        self._missed = 0
        self._ready = asyncio.Event()
        self.closed = False

    def offer(self, message: Record | Change) -> None:
        """From any thread: hand a message over if it is wanted."""
        if self.closed or (self._wants is not None and not self._wants(message)):
            return
        # A loop that is gone has no pages any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._take, message)

    def _take(self, message: Record | Change) -> None:
        if len(self._queue) >= self._size:
            self._missed += len(self._queue)
            self._queue.clear()
        elif isinstance(message, Change) and message in self._queue:
            return  # it is about to read the thing anyway
        self._queue.append(message)
        self._ready.set()

    async def get(self, timeout: float = 15.0) -> Message | None:
        """The next message; None after `timeout` seconds of silence, or at once when the journal is
        closed."""
        if not self._queue and not self.closed and not self._missed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), timeout)
        if self._missed:
            missed, self._missed = self._missed, 0
            return Lagged(missed)
        if self._queue:
            message = self._queue.popleft()
            if not self._queue and not self.closed:
                self._ready.clear()
            return message
        return None

    def close(self) -> None:
        """End it: a waiting `get` returns None. From any thread."""
        self.closed = True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ready.set)


class Journal:
    """Takes records from everywhere, writes them in batches, and lets subscribers follow.

    `store(records) -> ids` writes a batch and returns one row id for each; it runs in the journal's own
    thread.
    """

    def __init__(self, store: Callable[[Sequence[Record]], Sequence[int]] | None = None) -> None:
        self._store = store
        self._waiting: deque[Record] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._closed = False  # no more live streams
        self._writing = False
        self._second = 0
        self._this_second: Counter[str] = Counter()  # by plane
        self._crowd: Counter[tuple[str, str]] = Counter()  # by plane and kind: counted, not written
        self._subscriptions: set[Subscription] = set()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def start(self) -> None:
        """Start the writing thread."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Write what waits (at most `timeout` seconds) and end; live subscriptions end too."""
        self.close_subscriptions()
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def record(
        self,
        plane: str,
        kind: str,
        sentence: str,
        *,
        host_id: int | None = None,
        mac: str = "",
        operation_id: str | None = None,
        task_id: str | None = None,
        data: dict[str, Any] | None = None,
        at: datetime | None = None,
    ) -> None:
        """Note what a plane did. Never blocks, never raises; from any thread."""
        if plane in CROWDED_PLANES and self._crowded(plane, kind):
            return
        self._add(
            Record(
                plane,
                kind,
                sentence,
                at or datetime.now(UTC),
                host_id,
                mac,
                operation_id,
                task_id,
                data or {},
            )
        )

    def add(self, record: Record) -> None:
        """Like `record`, for a record that is made already."""
        if record.plane not in CROWDED_PLANES or not self._crowded(record.plane, record.kind):
            self._add(record)

    def _add(self, record: Record) -> None:
        with self._wake:
            if len(self._waiting) >= BACKLOG:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(record)
            self._wake.notify()

    def _crowded(self, plane: str, kind: str) -> bool:
        """Count a line; whether this plane had its share of this second already."""
        with self._wake:
            second = int(time.monotonic())
            if second != self._second:
                self._second = second
                self._this_second.clear()
            self._this_second[plane] += 1
            if self._this_second[plane] <= CROWD:
                return False
            if not self._crowd:
                self._wake.notify()
            self._crowd[plane, kind] += 1
            return True

    def _told_together(self) -> list[Record]:
        """One line for each plane that had too much to say; called with the lock held."""
        crowd, self._crowd = self._crowd, Counter()
        lines = []
        for plane in sorted({plane for plane, _ in crowd}):
            kinds = {kind: count for (of, kind), count in sorted(crowd.items()) if of == plane}
            spelt = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            sentence = f"{sum(kinds.values())} more events in a moment were only counted: {spelt}."
            lines.append(Record(plane, f"{plane}.counted", sentence, datetime.now(UTC), data=dict(kinds)))
        return lines

    def publish(self, change: Change) -> None:
        """Tell live pages that something changed, without writing anything. From any thread."""
        for subscription in tuple(self._subscriptions):
            subscription.offer(change)

    @contextlib.contextmanager
    def subscribe(
        self, wants: Callable[[Record | Change], bool] | None = None, size: int = 256
    ) -> Iterator[Subscription]:
        """Follow live, from the event loop: `with journal.subscribe() as live: message = await
        live.get()`."""
        subscription = Subscription(asyncio.get_running_loop(), wants, size)
        subscription.closed = self._closed
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            subscription.closed = True
            self._subscriptions.discard(subscription)

    def close_subscriptions(self) -> None:
        """End all live streams, so that HTTP can stop (uvicorn waits for open responses)."""
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything recorded so far is written (tests, orderly stop). False when time ran
        out."""
        end = time.monotonic() + timeout
        with self._wake:
            while self._waiting or self._crowd or self._writing:
                left = end - time.monotonic()
                if left <= 0:
                    return False
                self._wake.wait(min(0.05, left))
        return True

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._crowd and not self._stopping:
                    self._wake.wait()
                if self._stopping and not self._waiting and not self._crowd:
                    return
            if not self._stopping:
                time.sleep(BATCH_SECONDS / 2)  # let a burst become one transaction
            with self._wake:
                batch = [*self._waiting, *self._told_together()]
                self._waiting.clear()
                self._writing = True
            self._write(batch)
            with self._wake:
                self._writing = False
                self._wake.notify_all()

    def _write(self, batch: list[Record]) -> None:
        written: list[Record] = batch
        if self._store is not None:
            for attempt in range(1, STORE_ATTEMPTS + 1):
                try:
                    ids = self._store(batch)
                    written = [replace(record, id=id) for record, id in zip(batch, ids, strict=True)]
                    break
                except Exception as error:  # whatever the disk says, the daemon goes on
                    if attempt == STORE_ATTEMPTS or self._stopping:
                        self.dropped += len(batch)
                        log.error("journal: %d records could not be written: %s", len(batch), error)
                        break
                    time.sleep(0.1 * attempt)
        for record in written:
            for subscription in tuple(self._subscriptions):
                subscription.offer(record)
