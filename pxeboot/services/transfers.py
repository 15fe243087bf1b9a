"""Transfers in the database: limits and priorities of operations, machines that receive, records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import CursorResult
from sqlmodel import Session, col, delete, select

from pxeboot.db.models import Host, Operation, OperationState, Task, TransferLog
from pxeboot.errors import Conflict, NotFound
from pxeboot.services.task_states import ACTIVE
from pxeboot.services.unit import changed, note
from pxeboot.transfer.arbiter import PRIORITIES
from pxeboot.transfer.figures import Machine
from pxeboot.transfer.log import StreamLog


def rules(session: Session, ids: Collection[str]) -> dict[str, tuple[float | None, float]]:
    """By operation: its limit in Mbit/s (None: none) and its weight."""
    rows = session.exec(select(Operation.id, Operation.params).where(col(Operation.id).in_(ids))).all()
    return {id: (_limit(params), PRIORITIES.get(str(params.get("priority")), 1.0)) for id, params in rows}


def machines(session: Session, ids: Collection[str]) -> list[Machine]:
    """The machines of unfinished tasks of these operations."""
    rows = session.execute(
        sa.select(
            col(Task.operation_id), col(Host.name), col(Host.address), col(Task.state), col(Task.stage),
            col(Task.done), col(Task.total), col(Task.bytes_multicast), col(Task.bytes_peers),
            col(Task.bytes_http), col(Task.way), col(Task.way_reason),
        )
        .join(Host, col(Host.id) == col(Task.host_id))
        .where(col(Task.operation_id).in_(ids), col(Task.state).in_(ACTIVE))
    ).all()  # fmt: skip
    return [Machine(row[0], row[1], row[2], row[3].value, *row[4:]) for row in rows]


def change(
    session: Session, operation_id: str, changes: Mapping[str, Any], *, actor: str
) -> tuple[float | None, str]:
    """Set `limit_mbit` (None lifts it) and `priority` of an operation, also while it runs; those that are
    not named stay.

    The new limit and priority. NotFound(operation); Conflict when it is over.
    """
    operation = session.get(Operation, operation_id)
    if operation is None:
        raise NotFound("operation", operation_id)
    if operation.state != OperationState.RUNNING:
        raise Conflict(f"This operation is over already ({operation.state.value}).", operation=operation_id)
    operation.params = {**operation.params, **changes}  # another object: JSON columns do not see inside
    session.add(operation)
    limit, priority = _limit(operation.params), str(operation.params.get("priority") or "normal")
    words = f"at most {limit:g} Mbit/s" if limit else "no limit of its own"
    note(
        session,
        "api",
        "operation.changed",
        f"{operation.title}: {words}, priority {priority}, set by {actor or 'somebody'}.",
        operation_id=operation_id,
        data={"limit_mbit": limit, "priority": priority},
    )
    changed(session, "operation", operation_id, operation_id=operation_id)
    return limit, priority


def keep(
    session: Session, operation_id: str, session_id: int, data: dict[str, Any], *, now: datetime
) -> None:
    """Write the record of a stream over what is there. An operation that was deleted is fine."""
    if session.get(Operation, operation_id) is None:
        return
    row = session.get(TransferLog, (operation_id, session_id))
    if row is None:
        row = TransferLog(operation_id=operation_id, session_id=session_id)
    row.data, row.changed_at = data, now
    session.add(row)


def prune(session: Session, *, keep_days: int, now: datetime) -> int:
    """Forget the records of long ago; how many."""
    old = delete(TransferLog).where(col(TransferLog.changed_at) < now - timedelta(days=keep_days))
    result = session.execute(old)
    assert isinstance(result, CursorResult)
    return int(result.rowcount)


def kept(session: Session, operation_id: str) -> dict[int, StreamLog]:
    """The records of an operation by session (0: its downloads). NotFound(operation)."""
    if session.get(Operation, operation_id) is None:
        raise NotFound("operation", operation_id)
    rows: Sequence[TransferLog] = session.exec(
        select(TransferLog)
        .where(TransferLog.operation_id == operation_id)
        .order_by(col(TransferLog.session_id).desc())
    ).all()
    return {row.session_id: StreamLog.from_json(row.data) for row in rows}


def _limit(params: Mapping[str, Any]) -> float | None:
    value = params.get("limit_mbit")
    return float(value) if value else None
