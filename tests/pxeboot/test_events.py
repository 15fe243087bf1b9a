"""The journal in memory: batches, bounds, and pages that follow."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from pxeboot import events
from pxeboot.events import CROWD, Change, Journal, Lagged, Record, Subscription


class Store:
    """Takes batches; can be told to fail."""

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.failures = 0

    def __call__(self, records: Sequence[Record]) -> list[int]:
        if self.failures:
            self.failures -= 1
            raise OSError("disk full")
        self.batches.append(list(records))
        return list(range(1, len(records) + 1))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def journal(store: Store) -> Iterator[Journal]:
    made = Journal(store)
    made.start()
    yield made
    made.stop()


def test_many_threads_few_batches(journal: Journal, store: Store) -> None:
    def talk() -> None:
        for number in range(100):
            journal.record("dhcp", "dhcp.offered", f"{number}")

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert journal.flush()
    assert sum(len(batch) for batch in store.batches) == 400
    assert len(store.batches) < 40


def test_a_record_is_on_disk_soon(journal: Journal, store: Store) -> None:
    journal.record("boot", "boot.decided", "x")
    end = time.monotonic() + 30
    while not store.batches and time.monotonic() < end:
        time.sleep(0.01)
    assert store.batches


def test_a_disk_that_fails_is_tried_again_then_the_batch_is_counted(journal: Journal, store: Store) -> None:
    store.failures = 2
    journal.record("boot", "boot.decided", "kept")
    assert journal.flush()
    assert journal.dropped == 0
    store.failures = 5
    journal.record("boot", "boot.decided", "lost")
    assert journal.flush()
    assert journal.dropped == 1
    assert [record.sentence for batch in store.batches for record in batch] == ["kept"]


def test_the_backlog_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pxeboot.events.BACKLOG", 10)
    stuck = Journal(None)  # never started
    for number in range(15):
        stuck.record("dhcp", "dhcp.offered", str(number))
    assert stuck.dropped == 5


def test_a_crowd_is_counted_and_told_in_one_line(
    journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand machines at once must not have the journal take the processor from DHCP."""
    monkeypatch.setattr(events.time, "monotonic", lambda: 1000.5)
    for number in range(CROWD + 40):
        journal.record("dhcp", "dhcp.offered" if number % 2 else "dhcp.acknowledged", f"{number}")
        journal.record("task", "task.started", f"{number}")  # what people do is always written
    monkeypatch.undo()
    assert journal.flush()
    lines = [record for batch in store.batches for record in batch]
    dhcp = [record for record in lines if record.plane == "dhcp"]
    told = [record for record in dhcp if record.kind == "dhcp.counted"]
    assert len(dhcp) - len(told) == CROWD
    assert sum(count for record in told for count in record.data.values()) == 40
    assert "more events in a moment were only counted" in told[0].sentence
    assert sum(record.plane == "task" for record in lines) == CROWD + 40
    # Late ones of a full second are told as soon, and the next second has its own share.
    journal.record("dhcp", "dhcp.offered", "after")
    assert journal.flush()
    assert store.batches[-1][-1].sentence == "after"


async def test_pages_follow(journal: Journal) -> None:
    with journal.subscribe(lambda message: message.host_id == 7) as live:
        journal.record("boot", "boot.decided", "other", host_id=8)
        journal.record("boot", "boot.decided", "mine", host_id=7)
        record = await live.get(30)
        assert isinstance(record, Record)
        assert (record.sentence, record.id) == ("mine", 2)  # it has its row id: SSE can resume from it
        journal.publish(Change("host", "7", host_id=7))
        assert await live.get(30) == Change("host", "7", host_id=7)
        assert await live.get(0.01) is None


async def test_a_slow_page_is_told_that_it_missed_something(journal: Journal) -> None:
    with journal.subscribe(size=4) as live:
        for number in range(6):
            journal.publish(Change("task", str(number)))
        await asyncio.sleep(0.05)
        assert await live.get(30) == Lagged(4)
        assert await live.get(30) == Change("task", "4")


async def test_the_same_change_waits_once(journal: Journal) -> None:
    with journal.subscribe() as live:
        for _ in range(100):
            journal.publish(Change("task", "1"))
        await asyncio.sleep(0.05)
        assert await live.get(30) == Change("task", "1")
        assert await live.get(0.01) is None


async def test_stopping_ends_every_stream_at_once(journal: Journal) -> None:
    async def wait(live: Subscription) -> None:
        assert await live.get(30) is None
        assert live.closed

    with journal.subscribe() as one, journal.subscribe() as two:
        waiting = asyncio.gather(wait(one), wait(two))
        await asyncio.sleep(0.01)
        journal.close_subscriptions()
        await asyncio.wait_for(waiting, 20)
    with journal.subscribe() as late:
        assert late.closed
        assert await late.get(30) is None
