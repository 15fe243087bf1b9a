"""A request that may be sent twice is done once (draft-ietf-httpapi-idempotency-key-header).

Use, in the same unit of work as what the request does:

    with services.write() as session:
        stored = idempotency.begin(session, principal.name, key, method, path, body, now=now)
        if stored is None:
            view = operations.start(…)
            idempotency.finish(session, principal.name, key, status=202, body=view.model_dump_json(),
            location=…)

Writers are serialised (BEGIN IMMEDIATE), so a second request with the same key waits for the first and
gets its answer; "in
flight" is only ever seen when `begin` was committed alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session, col, delete

from pxeboot.db.models import IdempotencyKey
from pxeboot.errors import Conflict, Invalid

KEPT = timedelta(hours=72)


@dataclass(frozen=True)
class StoredAnswer:
    """What the first request was answered; send it again with header `Idempotent-Replayed: true`."""

    status: int
    body: str
    location: str


def begin(
    session: Session, principal: str, key: str, method: str, path: str, body: bytes, *, now: datetime
) -> StoredAnswer | None:
    """None: do it. Otherwise the stored answer. Invalid(idempotency-key-reused) for another body;
    Conflict(in flight).

    Keys are kept 72 hours; Invalid for a key over 255 characters.
    """
    if not 1 <= len(key) <= 255:
        raise Invalid("An Idempotency-Key has 1 to 255 characters.", field="Idempotency-Key")
    session.execute(delete(IdempotencyKey).where(col(IdempotencyKey.created_at) < now - KEPT))
    fingerprint = hashlib.sha256(b"\0".join([method.encode(), path.encode(), body])).hexdigest()
    row = session.get(IdempotencyKey, f"{principal}:{key}")
    if row is None:
        session.add(IdempotencyKey(key=f"{principal}:{key}", fingerprint=fingerprint, created_at=now))
        session.flush()
        return None
    if row.fingerprint != fingerprint:
        error = Invalid(
            "This Idempotency-Key was used for another request; choose a new one.", field="Idempotency-Key"
        )
        error.problem_code = "idempotency-key-reused"
        raise error
    if row.status == 0:
        conflict = Conflict(
            "The first request with this Idempotency-Key is still being worked on; ask again soon."
        )
        conflict.problem_code = "idempotency-key-in-flight"
        raise conflict
    return StoredAnswer(row.status, row.body, row.location)


def finish(session: Session, principal: str, key: str, *, status: int, body: str, location: str = "") -> None:
    """Keep the answer for the next time."""
    row = session.get(IdempotencyKey, f"{principal}:{key}")
    if row is None:
        raise Invalid("This Idempotency-Key has not begun.", field="Idempotency-Key")
    row.status, row.body, row.location = status, body, location
    session.add(row)
    session.flush()
