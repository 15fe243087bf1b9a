"""The journal: what every part of the service did, filtered, live."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from api.v1.live import EventFilter
from pxeboot.errors import NotFound
from pxeboot.services import hosts, journal
from webui.guard import PageRoute, Reader, ServicesDep
from webui.render import live_block, page
from webui.stream import live
from webui.words import PLANES

router = APIRouter(route_class=PageRoute)
LINES = 100


def _values(these: ServicesDep, plane: str, host: str, cursor: str = "") -> dict[str, Any]:
    with these.read() as session:
        found = journal.list_events(
            session, plane=plane or None, host=host or None, cursor=cursor or None, limit=LINES
        )
    return {"page": found, "events": found.items, "plane": plane, "host_filter": host}


@router.get("/journal")
def show_journal(
    request: Request, these: ServicesDep, who: Reader, plane: str = "", host: str = "", cursor: str = ""
) -> Response:
    """The newest lines, of one plane and one machine if asked."""
    host, error = host.strip(), ""
    try:
        values = _values(these, plane, host, cursor)
    except NotFound as missing:  # a typing mistake in a filter: say so above all lines
        values, error = {**_values(these, plane, "", cursor), "host_filter": host}, missing.sentence
    with these.read() as session:
        names = [item.name for item in hosts.list_hosts(session, limit=500).items]
    following = not cursor and not error
    return page(
        request, "journal.html", planes=PLANES, names=names, following=following, error=error, **values
    )


@router.get("/live/journal")
async def journal_live(
    request: Request, these: ServicesDep, who: Reader, plane: str = "", host: str = ""
) -> Response:
    """The lines, live."""

    def machine() -> journal.Whose | None:
        with these.read() as session:
            return journal.whose(session, host) if host else None

    wanted = EventFilter(await asyncio.to_thread(machine), plane)
    return live(
        these,
        wanted.wants,
        lambda: (live_block(request, "journal.html", **_values(these, plane, host)), False),
    )
