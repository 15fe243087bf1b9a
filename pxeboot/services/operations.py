"""Operations: one request over one or many hosts; its tasks are its outcome."""

from __future__ import annotations

from sqlmodel import Session

from pxeboot.services.views import OperationRequest, OperationView, Page
from pxeboot.settings import Settings


def start(
    session: Session,
    request: OperationRequest,
    *,
    actor: str,
    settings: Settings,
    schedule_id: int | None = None,
) -> OperationView:
    """Make the operation and one task per host.

    A host that is pending, blocked or busy gets its task as failed(reason); the others go on. When no
    host is left, Conflict
    with `errors=[{"host", "code", "msg"}]` and nothing is made. NotFound(group|host|image|version) with
    the nearest names;
    Invalid when the request names no host, or a capture not exactly one.
    """
    raise NotImplementedError


def get(session: Session, operation_id: str) -> OperationView:
    """One operation with its tasks (by host name). NotFound(operation)."""
    raise NotImplementedError


def list_operations(
    session: Session,
    *,
    state: str | None = None,
    kind: str | None = None,
    host: str | None = None,
    group: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[OperationView]:
    """Newest first, without tasks (their `counts` are there)."""
    raise NotImplementedError


def cancel(session: Session, operation_id: str, *, actor: str) -> OperationView:
    """End what has not ended: waiting tasks at once, running ones when their agent next asks. Conflict
    when it is over."""
    raise NotImplementedError
