"""`/api/v1/events`: the journal, as a list and live."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.v1.deps import Cursor, Limit, ServicesDep, Viewer
from api.v1.live import HEADERS, changes, describe, encode
from pxeboot.services import journal
from pxeboot.services.views import EventView, Page

router = APIRouter(tags=["events"])


@router.get("/events", operation_id="listEvents")
def list_events(
    these: ServicesDep,
    who: Viewer,
    plane: str | None = None,
    kind: str | None = None,
    mac: str | None = None,
    operation: str | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[EventView]:
    """What every plane did, newest first."""
    with these.read() as session:
        return journal.list_events(
            session, plane=plane, kind=kind, mac=mac, operation_id=operation, cursor=cursor, limit=limit
        )


@router.get("/events/stream", operation_id="followEvents", response_class=StreamingResponse)
async def follow_events(
    these: ServicesDep,
    who: Viewer,
) -> StreamingResponse:
    """Server-sent events `journal`, `change` and `lagged`, as they happen."""

    async def body() -> AsyncIterator[str]:
        yield ": following\n\n"
        async for message in changes(these, lambda _: True):
            yield ": still here\n\n" if message is None else encode(*describe(message))

    return StreamingResponse(body(), media_type="text/event-stream", headers=HEADERS)
