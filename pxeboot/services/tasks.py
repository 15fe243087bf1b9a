"""The life of one task: claimed at check-in, followed, ended. (`attempts` offers it to a booting machine and
tries again what was lost; `outcomes` judges an agent's last word.)"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select

from pxeboot.db.models import Host, Operation, OperationState, Task, TaskState
from pxeboot.errors import Invalid, NotFound
from pxeboot.services import tokens
from pxeboot.services.present import task_views
from pxeboot.services.task_states import ACTIVE, FINAL, WORKING, move
from pxeboot.services.unit import changed, note
from pxeboot.services.views import TaskView

_WAYS = {
    "multicast": "Chunks come by multicast again.",
    "peers": "Chunks come from neighbours.",
    "http": "Chunks come from the server alone.",
}
STAGES = ("inventory", "scan", "receive", "write", "verify", "customise", "upload", "wipe", "test", "shell")


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


def last_view(session: Session, host_id: int) -> TaskView | None:
    """The same as people see it."""
    task = last_finished(session, host_id)
    return task_views(session, [task])[0] if task is not None else None


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
    tell(session, task, "task.running", f"The agent checked in; {task.kind.value} begins.")
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
    bytes_peers: int = 0,
    way: str = "",
    way_reason: str = "",
) -> tuple[bool, str]:
    """Keep what the agent reports; (go on?, why not). Invalid for an unknown stage or way."""
    if way and way not in _WAYS:
        raise Invalid(f"There is no way {way!r}; ways are {', '.join(_WAYS)}.", field="way")
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
        tell(session, task, f"task.{stage}", f"Stage {stage} begins.")
    if way and way != task.way and (task.way or way != "multicast"):
        tell(session, task, f"task.way-{way}", f"{_WAYS[way]} {way_reason}".rstrip())
    session.execute(
        update(Task)
        .where(col(Task.id) == task_id, col(Task.attempt) == attempt)
        .values(
            stage=stage,
            done=done,
            total=total,
            bytes_multicast=bytes_multicast,
            bytes_peers=bytes_peers,
            bytes_http=bytes_http,
            way=way or task.way,
            way_reason=way_reason[:500] if way else task.way_reason,
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


def touch_disk(session: Session, task: Task) -> None:
    """From now on the disk of this task's host is being changed: nobody may believe that it holds a
    version."""
    session.execute(
        update(Host).where(col(Host.id) == task.host_id).values(held_manifest="", held_since=None)
    )


def fail(session: Session, task_id: str, *, reason: str, code: str, now: datetime) -> bool:
    """End an unfinished task as failed(reason)."""
    return end_failed(session, row(session, task_id), reason=reason, code=code, now=now)


def cancel(session: Session, task_id: str, *, reason: str, now: datetime) -> bool:
    """End an unfinished task as cancelled; its agent hears of it when it next reports."""
    task = row(session, task_id)
    if not move(session, task_id, TaskState.CANCELLED, reason=reason, code="cancelled", finished_at=now):
        return False
    session.refresh(task)
    ended(session, task, now)
    return True


def end_failed(session: Session, task: Task, *, reason: str, code: str, now: datetime, **guard: Any) -> bool:
    if not move(session, task.id, TaskState.FAILED, reason=reason, code=code, finished_at=now, **guard):
        return False
    session.refresh(task)
    tokens.revoke(session, host_id=task.host_id)
    ended(session, task, now)
    return True


def ended(session: Session, task: Task, now: datetime) -> None:
    words = {
        TaskState.DONE: f"{task.kind.value.capitalize()} is done" + (", verified." if task.verified else "."),
        TaskState.FAILED: f"{task.kind.value.capitalize()} failed: {task.reason}",
        TaskState.CANCELLED: f"{task.kind.value.capitalize()} was cancelled: {task.reason}",
    }
    tell(session, task, f"task.{task.state.value}", words[task.state])
    changed(session, "host", task.host_id, host_id=task.host_id)
    settle(session, task.operation_id, now=now)


def tell(session: Session, task: Task, kind: str, sentence: str) -> None:
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
