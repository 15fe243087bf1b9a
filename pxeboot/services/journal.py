"""Reading and keeping the journal (writing to it is `pxeboot.events.Journal`)."""

from __future__ import annotations

from sqlmodel import Session

from pxeboot.services.views import EventView, Page


def list_events(
    session: Session,
    *,
    host: str | None = None,
    mac: str | None = None,
    operation_id: str | None = None,
    plane: str | None = None,
    kind: str | None = None,
    after_id: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[EventView]:
    """Newest first; with `after_id` (for SSE's Last-Event-ID) oldest first from there on."""
    raise NotImplementedError
