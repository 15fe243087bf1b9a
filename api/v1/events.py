"""`/api/v1/events`: the journal, as a list and live."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from api.v1.deps import Cursor, Limit, ServicesDep, Viewer
from api.v1.live import event_stream
from pxeboot.services import journal
from pxeboot.services.views import EventView, Page

router = APIRouter(tags=["events"])
HOST = Query(description="Only one machine's: name, id, UUID or MAC, also of a machine nobody registered.")


@router.get("/events", operation_id="listEvents")
def list_events(
    these: ServicesDep,
    who: Viewer,
    host: Annotated[str | None, HOST] = None,
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
            session,
            host=host,
            plane=plane,
            kind=kind,
            mac=mac,
            operation_id=operation,
            cursor=cursor,
            limit=limit,
        )


@router.get("/events/stream", operation_id="followEvents", response_class=StreamingResponse)
async def follow_events(
    these: ServicesDep,
    who: Viewer,
    host: Annotated[str | None, HOST] = None,
    plane: str | None = None,
    kind: str | None = None,
    last_event_id: Annotated[
        int | None, Header(description="Begin with what was written after this line of the journal.")
    ] = None,
) -> StreamingResponse:
    """Server-sent events `journal`, `change` and `lagged`, as they happen."""
    return await event_stream(these, host=host, plane=plane, kind=kind, after=last_event_id)
