"""The life of one task: offered to a booting machine, claimed at check-in, followed, ended, or lost and
tried again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select

from pxeboot.db.models import (
    Host,
    ImageVersion,
    Operation,
    OperationState,
    Task,
    TaskKind,
    TaskState,
)
from pxeboot.errors import Conflict, Invalid, NotFound
from pxeboot.services import tokens
from pxeboot.services.present import task_views
from pxeboot.services.task_states import ACTIVE, FINAL, WORKING, move
from pxeboot.services.unit import changed, note
from pxeboot.services.views import TaskView
from pxeboot.settings import TaskSettings

STAGES = ("inventory", "scan", "receive", "write", "verify", "customise", "upload")
# A loader that asks for its script again this soon is still in the same boot; later the machine has been
# restarted.
SAME_BOOT = timedelta(seconds=15)


def get(session: Session, task_id: str) -> TaskView:
    """NotFound(task)."""
    return task_views(session, [row(session, task_id)])[0]


def row(session: Session, task_id: str) -> Task:
    """The row of a task. NotFound(task)."""
    found = session.get(Task, task_id)
    if found is None:
        raise NotFound("task", task_id)
    return found


def active(session: Session, host_id: int) -> Task | None:
    """The one unfinished task of a host."""
    return session.exec(select(Task).where(Task.host_id == host_id, col(Task.state).in_(ACTIVE))).first()


def last_finished(session: Session, host_id: int) -> Task | None:
    """What a host finished last, however it ended."""
    return session.exec(
        select(Task)
        .where(Task.host_id == host_id, col(Task.state).in_(FINAL))
        .order_by(col(Task.finished_at).desc())
    ).first()


def boot(session: Session, host_id: int, *, now: datetime) -> Task | None:
    """The machine asks for its boot script: which task does this boot belong to? Counts the attempt.

    A machine that boots while its agent should be at work has lost that agent: the attempt is over at
    once, without
    waiting for the silence. None: nothing to do, or the last attempt is used up (the task has failed).
    """
    task = active(session, host_id)
    if task is None:
        return None
    if task.state in WORKING:
        lose(
            session,
            task.id,
            task.attempt,
            now=now,
            code="agent-lost",
            reason="The machine was restarted while its agent was at work.",
        )
    elif task.state == TaskState.BOOTING:
        if task.heard_at is not None and now - task.heard_at <= SAME_BOOT:
            return task
        lose(
            session,
            task.id,
            task.attempt,
            now=now,
            code="boot-lost",
            reason="The machine was restarted before its agent checked in.",
        )
    session.refresh(task)
    if task.state != TaskState.QUEUED:
        return None
    attempt = task.attempt + 1
    if not move(
        session,
        task.id,
        TaskState.BOOTING,
        attempt=task.attempt,
        attempt_new=attempt,
        heard_at=now,
        stage="",
        message="",
        done=0,
        total=0,
    ):
        return None
    session.refresh(task)
    _tell(
        session,
        task,
        "task.booting",
        f"Attempt {attempt} of {task.max_attempts}: its boot script was fetched.",
    )
    return task


def claim(session: Session, task_id: str, *, now: datetime) -> bool:
    """The agent checked in: booting → running, for exactly one caller."""
    task = row(session, task_id)
    if not move(
        session,
        task_id,
        TaskState.RUNNING,
        expect={TaskState.BOOTING},
        heard_at=now,
        started_at=task.started_at or now,
    ):
        return False
    session.refresh(task)
    _tell(session, task, "task.running", f"The agent checked in; {task.kind.value} begins.")
    return True


def progress(
    session: Session,
    task_id: str,
    *,
    attempt: int,
    stage: str,
    done: int,
    total: int,
    bytes_multicast: int,
    bytes_http: int,
    message: str,
    now: datetime,
) -> tuple[bool, str]:
    """Keep what the agent reports; (go on?, why not). Invalid for an unknown stage."""
    if stage not in STAGES:
        raise Invalid(f"There is no stage {stage!r}; stages are {', '.join(STAGES)}.", field="stage")
    task = row(session, task_id)
    if task.state in FINAL:
        return False, task.reason or f"The task is {task.state.value}."
    if task.attempt != attempt or task.state not in WORKING:
        return False, "Another boot of this machine has taken the task over."
    if stage == "verify" and task.state == TaskState.RUNNING:
        move(session, task_id, TaskState.VERIFYING, attempt=attempt)
    if stage != task.stage:
        # Only a stage's beginning is worth a line in the journal.
        _tell(session, task, f"task.{stage}", f"Stage {stage} begins.")
    session.execute(
        update(Task)
        .where(col(Task.id) == task_id, col(Task.attempt) == attempt)
        .values(
            stage=stage,
            done=done,
            total=total,
            bytes_multicast=bytes_multicast,
            bytes_http=bytes_http,
            message=message[:500],
            heard_at=now,
        )
    )
    changed(session, "task", task_id, operation_id=task.operation_id, host_id=task.host_id)
    return True, ""


def heard(session: Session, task_id: str, *, attempt: int, now: datetime) -> None:
    """Any other sign of life (chunks going to and fro)."""
    session.execute(
        update(Task)
        .where(col(Task.id) == task_id, col(Task.attempt) == attempt, col(Task.state).in_(WORKING))
        .values(heard_at=now)
    )


def outcome(
    session: Session,
    task_id: str,
    *,
    attempt: int,
    ok: bool,
    reason: str,
    code: str,
    verified: bool,
    manifest: str | None,
    bytes_multicast: int,
    bytes_http: int,
    seconds: dict[str, float],
    chunks: dict[str, int],
    now: datetime,
    customise: Sequence[dict[str, Any]] = (),
) -> TaskView:
    """The agent's last word. A repeated one is heard and changes nothing.

    A deploy is done only when verified and holding the manifest it was given, a capture only when its
    version exists; an
    agent that claims otherwise gets failed(outcome-contradicts). Conflict when another boot took the
    task over.
    """
    task = row(session, task_id)
    if task.state in FINAL:
        return task_views(session, [task])[0]
    if task.attempt != attempt or task.state not in WORKING:
        raise Conflict("Another boot of this machine has taken the task over.", task=task_id)
    if ok:
        doubt = _doubt(task, verified, manifest, _expected_manifest(session, task))
        if doubt:
            ok, code, reason = False, "outcome-contradicts", doubt
    result = {**task.result, "chunks": chunks, **({"manifest": manifest} if manifest else {})}
    if customise:
        result["customise"] = list(customise)
    move(
        session,
        task_id,
        TaskState.DONE if ok else TaskState.FAILED,
        attempt=attempt,
        reason="" if ok else (reason or "The agent gave no reason.")[:1000],
        code="" if ok else (code or "agent-error")[:60],
        verified=verified and ok,
        bytes_multicast=bytes_multicast,
        bytes_http=bytes_http,
        seconds=seconds,
        result=result,
        heard_at=now,
        finished_at=now,
    )
    session.refresh(task)
    host = session.get(Host, task.host_id)
    if host is not None and manifest and ok and task.kind in (TaskKind.DEPLOY, TaskKind.CAPTURE):
        host.held_manifest, host.held_since = manifest, now
        session.add(host)
    _finished(session, task, now)
    return task_views(session, [task])[0]


def touch_disk(session: Session, task: Task) -> None:
    """From now on the disk of this task's host is being changed: nobody may believe that it holds a
    version."""
    session.execute(
        update(Host).where(col(Host.id) == task.host_id).values(held_manifest="", held_since=None)
    )


def lose(session: Session, task_id: str, attempt: int, *, now: datetime, reason: str, code: str) -> bool:
    """An attempt is over without a word: queued again while attempts are left, else failed. False: it
    was not current."""
    task = row(session, task_id)
    lively = {TaskState.BOOTING, TaskState.RUNNING, TaskState.VERIFYING}
    if task.attempt < task.max_attempts:
        if not move(
            session,
            task_id,
            TaskState.QUEUED,
            expect=lively,
            attempt=attempt,
            stage="",
            done=0,
            total=0,
            message=reason,
        ):
            return False
        session.refresh(task)
        tokens.revoke(session, host_id=task.host_id)
        _tell(
            session,
            task,
            "task.lost",
            f"{reason} Attempt {attempt} of {task.max_attempts} is lost; it will be tried again.",
        )
        return True
    final = f"{reason} All {task.max_attempts} attempts are used up."
    return _fail(session, task, reason=final, code=code, now=now, expect=lively, attempt=attempt)


def fail(session: Session, task_id: str, *, reason: str, code: str, now: datetime) -> bool:
    """End an unfinished task as failed(reason)."""
    return _fail(session, row(session, task_id), reason=reason, code=code, now=now)


def cancel(session: Session, task_id: str, *, reason: str, now: datetime) -> bool:
    """End an unfinished task as cancelled; its agent hears of it when it next reports."""
    task = row(session, task_id)
    if not move(session, task_id, TaskState.CANCELLED, reason=reason, code="cancelled", finished_at=now):
        return False
    session.refresh(task)
    _finished(session, task, now)
    return True


def reap(session: Session, settings: TaskSettings, *, now: datetime, since: datetime) -> int:
    """Find attempts that fell silent and tasks whose machine never came; returns how many were ended or
    queued again.

    `since` is when this daemon started: agents get a full silence before they count as lost by our own
    absence.
    """
    moved = 0
    for task in waiting_too_long(session, settings, now=now, since=since):
        if task.state == TaskState.QUEUED:
            reason = f"The machine did not boot from us within {settings.wait_seconds // 60} minutes."
            moved += _fail(session, task, reason=reason, code="never-booted", now=now)
        elif task.state == TaskState.BOOTING:
            reason = f"The agent did not check in within {settings.boot_seconds} s of the boot script."
            moved += lose(session, task.id, task.attempt, now=now, reason=reason, code="boot-lost")
        else:
            reason = f"The agent was silent for {settings.silence_seconds} s (stage {task.stage or 'start'})."
            moved += lose(session, task.id, task.attempt, now=now, reason=reason, code="agent-lost")
    return moved


def waiting_too_long(
    session: Session, settings: TaskSettings, *, now: datetime, since: datetime
) -> Sequence[Task]:
    """Tasks whose limit has passed."""
    limits = {
        TaskState.QUEUED: timedelta(seconds=settings.wait_seconds),
        TaskState.BOOTING: timedelta(seconds=settings.boot_seconds),
        TaskState.RUNNING: timedelta(seconds=settings.silence_seconds),
        TaskState.VERIFYING: timedelta(seconds=settings.silence_seconds),
    }
    late = []
    for task in session.exec(select(Task).where(col(Task.state).in_(limits))).all():
        last = max(task.heard_at or task.created_at, task.created_at)
        if task.state != TaskState.QUEUED:
            last = max(last, since)
        if now - last > limits[task.state]:
            late.append(task)
    return late


def _fail(session: Session, task: Task, *, reason: str, code: str, now: datetime, **guard: Any) -> bool:
    if not move(session, task.id, TaskState.FAILED, reason=reason, code=code, finished_at=now, **guard):
        return False
    session.refresh(task)
    tokens.revoke(session, host_id=task.host_id)
    _finished(session, task, now)
    return True


def _expected_manifest(session: Session, task: Task) -> str:
    version = session.get(ImageVersion, task.version_id) if task.version_id else None
    return version.manifest if version else ""


def _doubt(task: Task, verified: bool, manifest: str | None, expected: str) -> str:
    """Why an outcome that says ok cannot be true; "" when it can."""
    if task.kind == TaskKind.DEPLOY and not verified:
        return "The agent reported success without having verified the disk."
    if task.kind == TaskKind.DEPLOY and manifest != expected:
        return "The agent reported success for another image than it was given."
    if task.kind == TaskKind.CAPTURE and "version" not in task.result:
        return "The agent reported success, but no manifest arrived, so there is no new version."
    return ""


def _finished(session: Session, task: Task, now: datetime) -> None:
    words = {
        TaskState.DONE: f"{task.kind.value.capitalize()} is done" + (", verified." if task.verified else "."),
        TaskState.FAILED: f"{task.kind.value.capitalize()} failed: {task.reason}",
        TaskState.CANCELLED: f"{task.kind.value.capitalize()} was cancelled: {task.reason}",
    }
    _tell(session, task, f"task.{task.state.value}", words[task.state])
    changed(session, "host", task.host_id, host_id=task.host_id)
    settle(session, task.operation_id, now=now)


def _tell(session: Session, task: Task, kind: str, sentence: str) -> None:
    note(
        session,
        "task",
        kind,
        sentence,
        host_id=task.host_id,
        operation_id=task.operation_id,
        task_id=task.id,
        data={"attempt": task.attempt, "code": task.code} if task.code else {"attempt": task.attempt},
    )
    changed(session, "task", task.id, operation_id=task.operation_id, host_id=task.host_id)


def settle(session: Session, operation_id: str, *, now: datetime) -> OperationState:
    """Derive the operation's state from its tasks and keep it."""
    session.flush()
    states = list(session.exec(select(Task.state).where(Task.operation_id == operation_id)).all())
    operation = session.get(Operation, operation_id)
    assert operation is not None  # tasks refer to it
    if any(state in ACTIVE for state in states):
        state = OperationState.RUNNING
    elif states and all(item == TaskState.DONE for item in states):
        state = OperationState.DONE
    elif any(item == TaskState.DONE for item in states):
        state = OperationState.PARTLY
    elif any(item == TaskState.CANCELLED for item in states) and not any(
        s == TaskState.FAILED for s in states
    ):
        state = OperationState.CANCELLED
    else:
        state = OperationState.FAILED
    if state != operation.state:
        operation.state = state
        operation.finished_at = None if state == OperationState.RUNNING else now
        session.add(operation)
        if state != OperationState.RUNNING:
            note(
                session,
                "task",
                f"operation.{state.value}",
                f"{operation.title} ended: {state.value}.",
                operation_id=operation_id,
            )
    changed(session, "operation", operation_id, operation_id=operation_id)
    return state
