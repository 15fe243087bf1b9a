"""The doctor's page: what the checks of this server and its network found, and a button to look again."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from webui.guard import PageRoute, Reader, ServicesDep, TechnicianForm
from webui.render import page, redirect

router = APIRouter(route_class=PageRoute)


def _values(these: ServicesDep) -> dict[str, Any]:
    watch = these.doctor
    return {"findings": watch.findings, "at": watch.at, "looking": watch.running}


@router.get("/doctor")
async def doctor(request: Request, these: ServicesDep, who: Reader) -> Response:
    """The last findings."""
    return page(request, "doctor.html", **_values(these))


@router.post("/doctor")
async def look(these: ServicesDep, who: TechnicianForm) -> Response:
    """Run every check, which takes some ten seconds, and show the page again."""
    await these.doctor.look()
    return redirect("/doctor")
