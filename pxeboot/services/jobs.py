"""Long work of the server itself (verify, prune, scrub, import, export): how far it is, and how it ended.

A job is a function that runs in a thread of its own and is asked to stop by a flag. Jobs that write to the
store take turns, in the order they came; those that only read run beside them. Jobs are kept in memory; the
journal tells how each ended, and after a restart which ones were forgotten.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlmodel import Session, col, select

from imaging.errors import Cancelled, ImagingError
from pxeboot.db.models import Event, new_id
from pxeboot.errors import AppError, Conflict, NotFound
from pxeboot.events import Change, Journal
from pxeboot.services.views import JobView

log = logging.getLogger(__name__)

KEPT = 100  # finished jobs that are remembered
TELL_SECONDS = 0.25  # live pages hear of progress at most this often
FINAL = frozenset({"done", "failed", "cancelled"})
_ENDS = ("job.done", "job.failed", "job.cancelled", "job.forgotten")

Work = Callable[["JobHandle"], dict[str, Any]]


class JobHandle:
    """What the work of a job holds: where it tells how far it is, and asks whether it should go on."""

    def __init__(self, job: _Job, tell: Callable[[_Job], None]) -> None:
        self._job, self._tell, self._told = job, tell, 0.0

    @property
    def id(self) -> str:
        """The job's identifier."""
        return self._job.view.id

    def progress(self, done: int, total: int, message: str = "") -> None:
        """How far the work is, in a unit of its own; `total` 0: unknown. Cheap: call it often."""
        was = self._job.view
        self._job.view = was.model_copy(
            update={"done": done, "total": total, "message": message[:300] or was.message}
        )
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            self._tell(self._job)

    def stop(self) -> bool:
        """Whether somebody wants the work to end: return soon, or raise `imaging.errors.Cancelled`."""
        return self._job.stopping.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleep; True as soon as the work should stop."""
        return self._job.stopping.wait(seconds)


class _Job:
    """A job as the runner knows it; `view` is replaced as a whole, so that readers need no lock."""

    def __init__(self, view: JobView, work: Work, writes: bool, once: str, background: bool) -> None:
        self.view, self.work, self.writes, self.once = view, work, writes, once
        self.background = background
        self.stopping = threading.Event()
        self.ended = threading.Event()
        self.why_stopped = ""


class Jobs:
    """Starts jobs and knows them. Thread-safe."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}  # in the order they came
        self._turn: deque[_Job] = deque()  # the writer at work, then those that wait
        self._closed = False

    def start(
        self,
        kind: str,
        title: str,
        work: Work,
        *,
        actor: str = "",
        writes: bool = True,
        once: str = "",
        background: bool = False,
    ) -> JobView:
        """Begin, or queue behind the job that writes to the store now; what `work` returns is the result.

        `once`: while an unfinished job was started with the same words, that one is meant. `background`: it
        is asked to stop as soon as another one must write. Conflict while the server stops.
        """
        with self._lock:
            if self._closed:
                raise Conflict("The server is stopping; start this again when it is back.")
            for known in self._jobs.values():
                if once and known.once == once and known.view.state not in FINAL:
                    return known.view
            view = JobView(
                id=new_id(), kind=kind, title=title, created_by=actor, created_at=datetime.now(UTC)
            )
            job = self._jobs[view.id] = _Job(view, work, writes, once, background)
            self._forget_old()
            in_the_way = [other for other in self._turn if writes and other.background and not background]
            if writes:
                self._turn.append(job)
            if not writes or len(self._turn) == 1:
                self._run(job)
            view = job.view
        for other in in_the_way:
            self._stop(other, f"It made way: {title}.")
        by = f" by {actor}" if actor else ""
        self._record(job, "job.started", f"{title}: started{by}.")
        return view

    def get(self, job_id: str) -> JobView:
        """NotFound(job)."""
        return self._job(job_id).view

    def list(self, *, kind: str | None = None, state: str | None = None) -> list[JobView]:
        """Newest first."""
        with self._lock:
            views = [job.view for job in reversed(self._jobs.values())]
        return [v for v in views if (kind is None or v.kind == kind) and (state is None or v.state == state)]

    def last(self, kind: str) -> JobView | None:
        """The newest of a kind that has ended."""
        return next((view for view in self.list(kind=kind) if view.state in FINAL), None)

    def cancel(self, job_id: str, *, actor: str = "") -> JobView:
        """Ask a job to end; one that has ended stays as it is. NotFound(job)."""
        job = self._job(job_id)
        self._stop(job, "It was cancelled" + (f" by {actor}." if actor else "."))
        return job.view

    def wait(self, job_id: str, timeout: float) -> JobView:
        """The job at its end, or as it is after `timeout` seconds. NotFound(job)."""
        job = self._job(job_id)
        job.ended.wait(timeout)
        return job.view

    def close(self, timeout: float = 10.0) -> None:
        """Ask all to end and wait for them, so that the store can be closed."""
        with self._lock:
            self._closed = True
            unfinished = [job for job in self._jobs.values() if job.view.state not in FINAL]
        for job in reversed(unfinished):  # who waits must not begin when the one before it ends
            self._stop(job, "The server was stopped.")
        end = time.monotonic() + timeout
        for job in unfinished:
            if not job.ended.wait(max(0.0, end - time.monotonic())):
                log.warning("job %s (%s) did not stop in time", job.view.id, job.view.title)

    def _job(self, job_id: str) -> _Job:
        with self._lock:
            found = self._jobs.get(job_id)
        if found is None:
            raise NotFound("job", job_id, "Jobs are forgotten when the server starts again.")
        return found

    def _stop(self, job: _Job, why: str) -> None:
        with self._lock:
            if job.view.state in FINAL or job.stopping.is_set():
                return
            job.why_stopped = why
            job.stopping.set()
            waiting = job.view.state == "waiting"
            if waiting:
                self._turn.remove(job)
                self._end(job, "cancelled", error=why)
        if waiting:
            self._told_end(job)
        else:
            self._journal.publish(Change("job", job.view.id))

    def _run(self, job: _Job) -> None:
        """The lock is held."""
        job.view = job.view.model_copy(update={"state": "running", "started_at": datetime.now(UTC)})
        thread = threading.Thread(target=self._work, args=(job,), name=f"job-{job.view.kind}", daemon=True)
        thread.start()

    def _work(self, job: _Job) -> None:
        state, result, error, code = "done", dict[str, Any](), "", ""
        handle = JobHandle(job, lambda each: self._journal.publish(Change("job", each.view.id)))
        try:
            result = job.work(handle)
        except Cancelled as stopped:
            state, error = "cancelled", job.why_stopped or str(stopped)
        except AppError as failed:
            state, error, code = "failed", failed.sentence, failed.problem_code
        except ImagingError as failed:
            state, error, code = "failed", str(failed), failed.code
        except Exception as failed:
            log.error("job %s (%s) failed", job.view.id, job.view.title, exc_info=failed)
            state, code = "failed", "internal"
            error = f"The server made a mistake ({type(failed).__name__}); its log has the details."
        if state == "done" and job.stopping.is_set():
            state, error = "cancelled", job.why_stopped
        with self._lock:
            self._end(job, state, result=result, error=error, code=code)
            if job.writes:
                self._turn.remove(job)
                if self._turn and not self._closed:
                    self._run(self._turn[0])
        self._told_end(job)

    def _end(
        self, job: _Job, state: str, *, result: dict[str, Any] | None = None, error: str = "", code: str = ""
    ) -> None:
        """The lock is held."""
        job.view = job.view.model_copy(
            update={
                "state": state,
                "result": result or {},
                "error": error,
                "code": code,
                "finished_at": datetime.now(UTC),
            }
        )

    def _told_end(self, job: _Job) -> None:
        view = job.view
        sentence = f"{view.title}: {view.state}." + (f" {view.error}" if view.error else "")
        self._record(job, f"job.{view.state}", sentence)
        job.ended.set()

    def _record(self, job: _Job, kind: str, sentence: str) -> None:
        data: dict[str, Any] = {"job": job.view.id, "kind": job.view.kind, "title": job.view.title}
        if job.view.state in FINAL:
            data |= {"code": job.view.code, "error": job.view.error, "result": job.view.result}
        self._journal.record("job", kind, sentence, data=data)
        self._journal.publish(Change("job", job.view.id))

    def _forget_old(self) -> None:
        """The lock is held."""
        ended = [id for id, job in self._jobs.items() if job.view.state in FINAL]
        for id in ended[: max(0, len(ended) - KEPT)]:
            del self._jobs[id]


@dataclass(frozen=True)
class Last:
    """How the last job of a kind ended, as the journal remembers it."""

    at: datetime
    result: dict[str, Any]
    error: str


def last_in_journal(session: Session, kind: str) -> Last | None:
    """The newest of a kind that ended with a result, also before the server started. None: never."""
    rows = session.exec(
        select(Event)
        .where(col(Event.kind).in_(("job.done", "job.cancelled", "job.failed")))
        .order_by(col(Event.id).desc())
        .limit(500)
    )
    for row in rows:
        if row.data.get("kind") == kind:
            return Last(row.at, dict(row.data.get("result") or {}), str(row.data.get("error") or ""))
    return None


def forgotten(session: Session, *, now: datetime, days: int = 30) -> Sequence[tuple[str, str]]:
    """(id, title) of jobs that the journal saw begin and not end: ask before the first job is started."""
    rows = session.exec(
        select(Event)
        .where(col(Event.kind).in_(("job.started", *_ENDS)), col(Event.at) > now - timedelta(days=days))
        .order_by(col(Event.id))
    ).all()
    ended = {row.data.get("job") for row in rows if row.kind != "job.started"}
    begun = {
        str(row.data.get("job")): str(row.data.get("title", "")) for row in rows if row.kind == "job.started"
    }
    return [(id, title) for id, title in begun.items() if id not in ended]


def tell_forgotten(session: Session, journal: Journal, *, now: datetime) -> int:
    """Say in the journal which jobs the last run of the daemon did not finish; how many."""
    found = forgotten(session, now=now)
    for id, title in found:
        journal.record(
            "job",
            "job.forgotten",
            f"{title}: not finished when the server ended; it was forgotten. Start it again if it is needed.",
            data={"job": id, "title": title},
        )
    return len(found)
