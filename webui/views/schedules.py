"""Schedules: list, switch, delete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from pxeboot.events import Change, Record
from pxeboot.services import schedules
from pxeboot.services.views import ScheduleView
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import live_block, page, redirect
from webui.stream import live

router = APIRouter(route_class=PageRoute)


def _all(these: ServicesDep) -> list[ScheduleView]:
    with these.read() as session:
        return schedules.list_schedules(session, limit=500).items


@router.get("/schedules")
def list_schedules(request: Request, these: ServicesDep, who: Reader) -> Response:
    """All schedules."""
    return page(request, "schedules.html", schedules=_all(these))


@router.get("/live/schedules")
async def schedules_live(request: Request, these: ServicesDep, who: Reader) -> Response:
    """The table, live: a schedule that ran links to its operation."""

    def wants(message: Record | Change) -> bool:
        return (message.what if isinstance(message, Change) else message.plane) == "schedule"

    return live(these, wants, lambda: (live_block(request, "schedules.html", schedules=_all(these)), False))


@router.post("/schedules/{schedule}")
def change(these: ServicesDep, who: AdminForm, schedule: int, do: Annotated[str, Form()]) -> Response:
    """Switch on or off, or delete."""
    with these.write() as session:
        if do == "delete":
            schedules.delete_schedule(session, schedule, actor=who.name)
        else:
            schedules.update_schedule(
                session, schedule, actor=who.name, now=datetime.now(UTC), enabled=do == "on"
            )
    return redirect("/schedules")
