"""Attempts at a task: offered to a booting machine, lost without a word, tried again while some are left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import Session, col, select

from pxeboot.db.models import Task, TaskState
from pxeboot.services import tasks, tokens
from pxeboot.services.task_states import WORKING, move
from pxeboot.settings import TaskSettings

# A loader that asks for its script again this soon is still in the same boot; later the machine has been
# restarted.
SAME_BOOT = timedelta(seconds=15)


def boot(session: Session, host_id: int, *, now: datetime) -> Task | None:
    """The machine asks for its boot script: which task does this boot belong to? Counts the attempt.

    A machine that boots while its agent should be at work has lost that agent: the attempt is over at
    once, without
    waiting for the silence. None: nothing to do, or the last attempt is used up (the task has failed).
    """
    task = tasks.active(session, host_id)
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
    tasks.tell(
        session,
        task,
        "task.booting",
        f"Attempt {attempt} of {task.max_attempts}: its boot script was fetched.",
    )
    return task


def lose(session: Session, task_id: str, attempt: int, *, now: datetime, reason: str, code: str) -> bool:
    """An attempt is over without a word: queued again while attempts are left, else failed. False: it
    was not current."""
    task = tasks.row(session, task_id)
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
        tasks.tell(
            session,
            task,
            "task.lost",
            f"{reason} Attempt {attempt} of {task.max_attempts} is lost; it will be tried again.",
        )
        return True
    final = f"{reason} All {task.max_attempts} attempts are used up."
    return tasks.end_failed(session, task, reason=final, code=code, now=now, expect=lively, attempt=attempt)


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
            moved += tasks.end_failed(session, task, reason=reason, code="never-booted", now=now)
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
