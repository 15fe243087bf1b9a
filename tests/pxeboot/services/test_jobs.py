"""Long work of the server: how it is followed, stopped, made to wait, and remembered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from imaging.errors import Cancelled, StoreError
from pxeboot.errors import Conflict, NotFound
from pxeboot.events import Journal, Record
from pxeboot.services import journal as journal_service
from pxeboot.services.jobs import KEPT, JobHandle, Jobs, forgotten, tell_forgotten
from tests.plane import Plane


@pytest.fixture
def said() -> list[Record]:
    return []


@pytest.fixture
def journal(said: list[Record]) -> Iterator[Journal]:
    def keep(records: Any) -> list[int]:
        said.extend(records)
        return list(range(1, len(records) + 1))

    made = Journal(keep)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def jobs(journal: Journal) -> Iterator[Jobs]:
    made = Jobs(journal)
    yield made
    made.close(30)


class Work:
    """Work that waits until it is told to go on, or to stop."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.go_on, self.error = threading.Event(), threading.Event(), error

    def __call__(self, handle: JobHandle) -> dict[str, Any]:
        self.begun.set()
        handle.progress(3, 10, "chunk 3")
        while not self.go_on.wait(0.01):
            if handle.stop():
                raise Cancelled("stopped")
        if self.error is not None:
            raise self.error
        return {"bad": 0}


def test_a_job_is_followed_to_its_result(jobs: Jobs, journal: Journal, said: list[Record]) -> None:
    work = Work()
    started = jobs.start("verify", "Verify debian@1", work, actor="ada")
    assert work.begun.wait(30)
    seen = jobs.get(started.id)
    assert (seen.state, seen.done, seen.total, seen.percent, seen.message) == (
        "running", 3, 10, 30, "chunk 3",
    )  # fmt: skip
    work.go_on.set()
    ended = jobs.wait(started.id, 30)
    assert (ended.state, ended.result, ended.error) == ("done", {"bad": 0}, "")
    assert ended.finished_at is not None
    assert jobs.last("verify") == ended
    assert journal.flush()
    assert [record.sentence for record in said] == [
        "Verify debian@1: started by ada.",
        "Verify debian@1: done.",
    ]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (StoreError("The disk is gone."), "store-failed", "The disk is gone."),
        (Conflict("Somebody uses it."), "conflict", "Somebody uses it."),
        (ZeroDivisionError(), "internal", "The server made a mistake (ZeroDivisionError)"),
    ],
)
def test_what_goes_wrong_is_told_in_a_sentence(
    jobs: Jobs, error: Exception, code: str, sentence: str
) -> None:
    work = Work(error)
    work.go_on.set()
    ended = jobs.wait(jobs.start("prune", "Prune", work).id, 30)
    assert (ended.state, ended.code) == ("failed", code)
    assert sentence in ended.error


def test_writers_take_turns_and_readers_do_not_wait(jobs: Jobs) -> None:
    first, second, reader = Work(), Work(), Work()
    one = jobs.start("prune", "Prune", first)
    two = jobs.start("import", "Import", second)
    jobs.start("export", "Export", reader, writes=False)
    assert first.begun.wait(30)
    assert reader.begun.wait(30)
    assert jobs.get(two.id).state == "waiting"
    assert not second.begun.is_set()
    first.go_on.set()
    assert jobs.wait(one.id, 30).state == "done"
    assert second.begun.wait(30)
    reader.go_on.set()


def test_a_job_can_be_cancelled_while_it_runs_and_while_it_waits(jobs: Jobs) -> None:
    first, second = Work(), Work()
    one, two = jobs.start("scrub", "Scrub", first), jobs.start("prune", "Prune", second)
    assert first.begun.wait(30)
    assert jobs.cancel(two.id, actor="ada").state == "cancelled"
    jobs.cancel(one.id, actor="ada")
    ended = jobs.wait(one.id, 30)
    assert (ended.state, ended.error) == ("cancelled", "It was cancelled by ada.")
    assert not second.begun.is_set()
    assert jobs.cancel(one.id).error == "It was cancelled by ada."  # once is enough
    again = Work()
    again.go_on.set()
    assert jobs.wait(jobs.start("prune", "Prune", again).id, 30).state == "done"


def test_the_same_job_is_not_started_twice(jobs: Jobs) -> None:
    work = Work()
    one = jobs.start("verify", "Verify", work, once="verify all")
    assert jobs.start("verify", "Verify", Work(), once="verify all").id == one.id
    work.go_on.set()
    jobs.wait(one.id, 30)
    fresh = Work()
    fresh.go_on.set()
    assert jobs.start("verify", "Verify", fresh, once="verify all").id != one.id


def test_old_jobs_are_forgotten_and_unknown_ones_are_named(jobs: Jobs) -> None:
    ids = []
    for _ in range(KEPT + 5):
        work = Work()
        work.go_on.set()
        ids.append(jobs.start("verify", "Verify", work, writes=False).id)
        jobs.wait(ids[-1], 30)
    assert len(jobs.list()) <= KEPT + 1
    assert jobs.list()[0].id == ids[-1]
    with pytest.raises(NotFound) as unknown:
        jobs.get(ids[0])
    assert unknown.value.problem_code == "job-not-found"


def test_a_stopping_server_ends_its_jobs(journal: Journal) -> None:
    jobs, work, waiting = Jobs(journal), Work(), Work()
    one, two = jobs.start("prune", "Prune", work), jobs.start("prune", "Prune again", waiting)
    jobs.close(5)
    assert jobs.get(one.id).error == "The server was stopped."
    assert jobs.get(two.id).state == "cancelled"
    assert not waiting.begun.is_set()
    with pytest.raises(Conflict, match="stopping"):
        jobs.start("prune", "Prune", work)


def test_a_restart_names_the_jobs_it_forgot(plane: Plane) -> None:
    now = datetime.now(UTC)

    def begun(id: str, kind: str) -> Record:
        return Record("job", kind, "", now, data={"job": id, "title": f"Prune {id}"})

    with plane.write() as session:
        journal_service.store(
            session, [begun("1", "job.started"), begun("1", "job.done"), begun("2", "job.started")]
        )
    heard: list[Record] = []
    journal = Journal(lambda records: heard.extend(records) or [0] * len(records))  # type: ignore[func-returns-value]
    journal.start()
    with plane.read() as session:
        assert tell_forgotten(session, journal, now=now) == 1
    journal.stop()
    assert "Prune 2: not finished when the server ended" in heard[0].sentence
    with plane.write() as session:
        journal_service.store(session, heard)
    with plane.read() as session:
        assert forgotten(session, now=now) == []
