"""`/api/v1/jobs`: long work of the server itself, followed live."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.v1.deps import Admin, ServicesDep, Viewer
from api.v1.live import job_stream
from pxeboot.services.views import JobView, Page

router = APIRouter(tags=["jobs"])


@router.get("/jobs", operation_id="listJobs")
def list_jobs(
    these: ServicesDep, who: Viewer, kind: str | None = None, state: str | None = None
) -> Page[JobView]:
    """Newest first; those that ended are forgotten after a while, and when the server starts again."""
    return Page(items=these.jobs.list(kind=kind, state=state))


@router.get("/jobs/{job}", operation_id="getJob")
def get_job(these: ServicesDep, who: Viewer, job: str) -> JobView:
    """One job: how far it is, or how it ended."""
    return these.jobs.get(job)


@router.delete("/jobs/{job}", status_code=202, operation_id="cancelJob")
def cancel_job(these: ServicesDep, who: Admin, job: str) -> JobView:
    """Ask it to end; what it has done so far stays. One that has ended is answered as it is."""
    return these.jobs.cancel(job, actor=who.name)


@router.get("/jobs/{job}/events", operation_id="followJob", response_class=StreamingResponse)
async def follow_job(these: ServicesDep, who: Viewer, job: str) -> StreamingResponse:
    """Server-sent events: `job` at each change, then `end`."""
    return job_stream(these, job)
