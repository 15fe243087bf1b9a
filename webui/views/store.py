"""The image store's jobs: verify, scrub, prune, and the live page of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from pxeboot.events import Change, Record
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep, TechnicianForm
from webui.render import live_block, page, redirect
from webui.stream import live

router = APIRouter(route_class=PageRoute)


@router.post("/store/verify")
def verify(these: ServicesDep, who: TechnicianForm, image: Annotated[str, Form()] = "") -> Response:
    """Read a version, or everything, again."""
    return redirect(f"/jobs/{these.keeper.verify(image, actor=who.name).id}")


@router.post("/store/scrub")
def scrub(these: ServicesDep, who: AdminForm) -> Response:
    """Read everything in the background."""
    return redirect(f"/jobs/{these.keeper.scrub(actor=who.name).id}")


@router.get("/store/prune")
def prune_plan(request: Request, these: ServicesDep, who: Reader) -> Response:
    """What a prune would do."""
    return page(request, "prune.html", plan=these.keeper.plan())


@router.post("/store/prune")
def prune(these: ServicesDep, who: AdminForm) -> Response:
    """Do it."""
    return redirect(f"/jobs/{these.keeper.prune(actor=who.name).id}")


@router.get("/jobs/{job}")
def show_job(request: Request, these: ServicesDep, who: Reader, job: str) -> Response:
    """One job, followed live."""
    return page(request, "job.html", job=these.jobs.get(job))


@router.get("/live/jobs/{job}")
async def job_live(request: Request, these: ServicesDep, who: Reader, job: str) -> Response:
    """Its middle, live, until it is over."""
    these.jobs.get(job)

    def wants(message: Record | Change) -> bool:
        return isinstance(message, Change) and (message.what, message.id) == ("job", job)

    def draw() -> tuple[str, bool]:
        found = these.jobs.get(job)
        return live_block(request, "job.html", job=found), found.finished_at is not None

    return live(these, wants, draw)


@router.post("/jobs/{job}/cancel")
def cancel(these: ServicesDep, who: AdminForm, job: str) -> Response:
    """Ask it to end."""
    these.jobs.cancel(job, actor=who.name)
    return redirect(f"/jobs/{job}")
