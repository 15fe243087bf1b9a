"""The overview."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from pxeboot.services import hosts, images, journal, operations
from webui.guard import PageRoute, Reader, ServicesDep
from webui.render import live_block, page
from webui.stream import live

router = APIRouter(route_class=PageRoute)


def _values(these: ServicesDep) -> dict[str, Any]:
    with these.read() as session:
        return {
            "hosts": len(hosts.list_hosts(session, limit=500).items),
            "pending": len(hosts.list_hosts(session, state="pending", limit=500).items),
            "images": len(images.list_images(session, limit=500).items),
            "running": operations.list_operations(session, state="running").items,
            "events": journal.list_events(session, limit=15).items,
            "doctor_errors": these.doctor.errors,
        }


@router.get("/")
def home(request: Request, these: ServicesDep, who: Reader) -> Response:
    """What is there, what waits, what runs."""
    return page(request, "home.html", **_values(these))


@router.get("/live/home")
async def home_live(request: Request, these: ServicesDep, who: Reader) -> Response:
    """The overview's middle, live."""
    return live(these, lambda _: True, lambda: (live_block(request, "home.html", **_values(these)), False))
