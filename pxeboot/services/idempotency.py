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

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session


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
    raise NotImplementedError


def finish(session: Session, principal: str, key: str, *, status: int, body: str, location: str = "") -> None:
    """Keep the answer for the next time."""
    raise NotImplementedError
