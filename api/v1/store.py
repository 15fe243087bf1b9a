"""`/api/v1/store`: the image store in numbers, and the jobs that look after it."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.v1.deps import Admin, ServicesDep, Technician, Viewer
from api.v1.schemas import PruneOrder, ScrubOrder, VerifyOrder
from pxeboot.services.store_views import StoreView
from pxeboot.services.views import JobView, RetentionPlan

router = APIRouter(tags=["store"])


def _accepted(job: JobView, response: Response) -> JobView:
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


@router.get("/store", operation_id="getStore")
def get_store(these: ServicesDep, who: Viewer) -> StoreView:
    """Sizes, and how the last scrub and recompression ended."""
    return these.keeper.status()


@router.post("/store:verify", status_code=202, operation_id="verifyStore")
def verify_store(
    these: ServicesDep, who: Technician, response: Response, body: VerifyOrder | None = None
) -> JobView:
    """Read every chunk of a version, or of the whole store, again: a job; `result.damaged` counts."""
    return _accepted(these.keeper.verify((body.image if body else None) or "", actor=who.name), response)


@router.get("/store/prune-plan", operation_id="planPrune")
def plan_prune(these: ServicesDep, who: Viewer, image: str = "") -> RetentionPlan:
    """Which versions a prune would delete, and why it keeps the others. Nothing is changed."""
    return these.keeper.plan(image)


@router.post("/store:prune", status_code=202, operation_id="pruneStore")
def prune_store(
    these: ServicesDep, who: Admin, response: Response, body: PruneOrder | None = None
) -> JobView:
    """Delete what the images' `keep` gives up, and chunks that no version needs: a job."""
    return _accepted(these.keeper.prune((body.image if body else None) or "", actor=who.name), response)


@router.post("/store:scrub", status_code=202, operation_id="scrubStore")
def scrub_store(
    these: ServicesDep, who: Admin, response: Response, body: ScrubOrder | None = None
) -> JobView:
    """Read the whole store at the rate of the settings, find and mend damage; goes on where it was."""
    return _accepted(these.keeper.scrub(restart=bool(body and body.restart), actor=who.name), response)


@router.post("/store:recompress", status_code=202, operation_id="recompressStore")
def recompress_store(these: ServicesDep, who: Admin, response: Response) -> JobView:
    """Compress what was not compressed thoroughly yet: a job."""
    return _accepted(these.keeper.recompress(actor=who.name), response)
