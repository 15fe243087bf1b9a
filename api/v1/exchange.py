"""`/api/v1/exchange`: images from and for other programs, in the server's exchange folder."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.v1.deps import Admin, ServicesDep
from pxeboot.services.exchange_views import ExchangeView, ExportOrder, ImportOrder
from pxeboot.services.views import JobView

router = APIRouter(tags=["exchange"])


@router.get("/exchange", operation_id="getExchange")
def get_exchange(these: ServicesDep, who: Admin) -> ExchangeView:
    """The files of the exchange folder, and this server's key as others see it on bundles."""
    return these.exchange.view()


@router.post("/exchange:import", status_code=202, operation_id="importImage")
def import_image(these: ServicesDep, who: Admin, body: ImportOrder, response: Response) -> JobView:
    """Make a version of a disk file, an image folder or a bundle: a job; `result.version` names it."""
    job = these.exchange.start_import(body, actor=who.name)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job


@router.post("/exchange:export", status_code=202, operation_id="exportImage")
def export_image(these: ServicesDep, who: Admin, body: ExportOrder, response: Response) -> JobView:
    """Write a version as disk files or a bundle, and read it back: a job; `result.files` names them."""
    job = these.exchange.start_export(body, actor=who.name)
    response.headers["Location"] = f"/api/v1/jobs/{job.id}"
    return job
