"""The life of a task, as a table, and the guarded UPDATE that moves it.

scheduled → queued → booting → running → verifying → done
              ↑         │         │          │
              └─────────┴─────────┴──────────┘  a lost attempt, while attempts are left
any unfinished state → failed(reason) | cancelled
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import CursorResult, update
from sqlmodel import Session, col

from pxeboot.db.models import Task, TaskState

S = TaskState
MOVES: dict[TaskState, frozenset[TaskState]] = {
    S.SCHEDULED: frozenset({S.QUEUED, S.FAILED, S.CANCELLED}),
    S.QUEUED: frozenset({S.BOOTING, S.FAILED, S.CANCELLED}),
    S.BOOTING: frozenset({S.RUNNING, S.QUEUED, S.FAILED, S.CANCELLED}),
    S.RUNNING: frozenset({S.VERIFYING, S.DONE, S.QUEUED, S.FAILED, S.CANCELLED}),
    S.VERIFYING: frozenset({S.DONE, S.QUEUED, S.FAILED, S.CANCELLED}),
    S.DONE: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
}
FINAL = frozenset(state for state, targets in MOVES.items() if not targets)
ACTIVE = frozenset(MOVES) - FINAL
WORKING = frozenset({S.RUNNING, S.VERIFYING})  # an agent is at work


def move(
    session: Session,
    task_id: str,
    to: TaskState,
    *,
    expect: Collection[TaskState] | None = None,
    attempt: int | None = None,
    attempt_new: int | None = None,
    **values: Any,
) -> bool:
    """Move a task if it is where we believe it is, and set `values`; False when somebody else was faster.

    `expect` narrows the states it may come from (default: all the table allows); `attempt` must still be
    the
    current one. Two callers can never both get True for the same move.
    """
    sources = {state for state, targets in MOVES.items() if to in targets}
    if expect is not None:
        sources &= set(expect)
    statement = update(Task).where(col(Task.id) == task_id, col(Task.state).in_(sources))
    if attempt is not None:
        statement = statement.where(col(Task.attempt) == attempt)
    if attempt_new is not None:
        values["attempt"] = attempt_new
    result = session.execute(
        statement.values(state=to, **values).execution_options(synchronize_session="fetch")
    )
    assert isinstance(result, CursorResult)
    return bool(result.rowcount == 1)
