"""The unit of work: what services note during a transaction is told to the world only after its commit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session

from pxeboot.db.engine import Database
from pxeboot.events import Change, Journal, Record

_NOTES = "pxeboot_notes"


def note(
    session: Session,
    plane: str,
    kind: str,
    sentence: str,
    *,
    host_id: int | None = None,
    mac: str = "",
    operation_id: str | None = None,
    task_id: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Journal this once the transaction is committed; forget it if it is rolled back."""
    session.info.setdefault(_NOTES, []).append(
        Record(plane, kind, sentence, datetime.now(UTC), host_id, mac, operation_id, task_id, data or {})
    )


def changed(
    session: Session, what: str, id: object, *, operation_id: str | None = None, host_id: int | None = None
) -> None:
    """Tell live pages, once the transaction is committed, that this thing changed."""
    session.info.setdefault(_NOTES, []).append(Change(what, str(id), operation_id, host_id))


@contextlib.contextmanager
def writing(database: Database, journal: Journal | None) -> Iterator[Session]:
    """A writing session; after its commit its notes go to the journal."""
    with database.write() as session:
        yield session
    if journal is None:
        return
    for message in session.info.pop(_NOTES, []):
        if isinstance(message, Record):
            journal.add(message)
        else:
            journal.publish(message)
