"""Archives of rescued files: which there are, whose, and how long they are kept. (Bytes: `rescueshed`.)"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from pydantic import Field
from sqlmodel import Session, col, func, select

from pxeboot.db.models import Host, Operation, Rescue, Task, TaskKind
from pxeboot.errors import Conflict, NotFound
from pxeboot.services import lookup, tasks
from pxeboot.services.unit import changed, note
from pxeboot.services.views import Page, View


class RescueView(View):
    """An archive of files that were copied out of a machine."""

    id: str
    host: str
    operation_id: str
    size: int
    blake3: str
    facts: dict[str, Any] = Field(default_factory=dict)  # files, bytes, unreadable, paths …
    created_by: str = ""
    created_at: datetime
    expires_at: datetime | None = None


def must_be_rescue(task: Task) -> None:
    """Conflict for a task that brings no archive."""
    if task.kind != TaskKind.RESCUE:
        raise Conflict(f"A {task.kind.value} task has no files to send.")


def finish(
    session: Session,
    task_id: str,
    *,
    size: int,
    blake3: str,
    facts: dict[str, Any],
    keep_days: int,
    now: datetime,
) -> RescueView:
    """The archive is whole: from now on it can be had. A repeated call finds it again."""
    task = tasks.row(session, task_id)
    must_be_rescue(task)
    found = session.get(Rescue, task_id)
    if found is None:
        host = session.get(Host, task.host_id)
        operation = session.get(Operation, task.operation_id)
        found = Rescue(
            id=task_id,
            host=host.name if host else "",
            operation_id=task.operation_id,
            created_by=operation.created_by if operation else "",
        )
    found.size, found.blake3, found.facts, found.created_at = size, blake3, facts, now
    found.expires_at = now + timedelta(days=keep_days) if keep_days else None
    session.add(found)
    task.result = {**task.result, "rescue_id": task_id}
    session.add(task)
    session.flush()
    changed(session, "rescue", task_id)
    return _view(found)


def get(session: Session, rescue_id: str) -> RescueView:
    """NotFound(rescue)."""
    return _view(_row(session, rescue_id))


def list_rescues(
    session: Session, *, host: str | None = None, cursor: str | None = None, limit: int = 50
) -> Page[RescueView]:
    """Newest first."""
    lookup.checked_limit(limit)
    start = lookup.read_cursor(cursor, int)[0] if cursor else 0
    query = select(Rescue).order_by(col(Rescue.created_at).desc(), col(Rescue.id))
    if host is not None:
        query = query.where(Rescue.host == host)
    rows = session.exec(query.offset(start).limit(limit + 1)).all()
    following = lookup.make_cursor(start + limit) if len(rows) > limit else None
    return Page(items=[_view(row) for row in rows[:limit]], next_cursor=following)


def total_bytes(session: Session) -> int:
    """How much all archives take."""
    return int(session.exec(select(func.sum(Rescue.size))).one() or 0)


def delete(session: Session, rescue_id: str, *, actor: str) -> None:
    """Forget one; its bytes go with it. NotFound(rescue)."""
    row = _row(session, rescue_id)
    who = f" by {actor}" if actor else ""
    note(session, "api", "rescue.deleted", f"The rescued files of {row.host} were deleted{who}.")
    session.delete(row)
    changed(session, "rescue", rescue_id)


def downloaded(session: Session, rescue_id: str, *, actor: str) -> RescueView:
    """Somebody takes an archive away: people's files, so it is told. NotFound(rescue)."""
    row = _row(session, rescue_id)
    note(session, "api", "rescue.downloaded", f"The rescued files of {row.host} are downloaded by {actor}.")
    return _view(row)


def expired(session: Session, *, now: datetime) -> list[str]:
    """Those whose time is over."""
    return list(session.exec(select(Rescue.id).where(col(Rescue.expires_at) < now)).all())


def known(session: Session) -> set[str]:
    """All identifiers, also of tasks that may still bring one."""
    return set(session.exec(select(Rescue.id)).all())


def _row(session: Session, rescue_id: str) -> Rescue:
    """By identifier, or its beginning when that is enough."""
    found = session.get(Rescue, rescue_id)
    if found is None and len(rescue_id) >= 4:
        rows = session.exec(select(Rescue).where(col(Rescue.id).startswith(rescue_id, autoescape=True))).all()
        found = rows[0] if len(rows) == 1 else None
    if found is None:
        raise NotFound("rescue", rescue_id[:80], "See the list of rescues.")
    return found


def _view(row: Rescue) -> RescueView:
    return RescueView(**row.model_dump())
