"""`/metrics` for Prometheus: needs an API token of any role, as its `authorization` setting sends it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.v1.deps import ServicesDep, Viewer
from pxeboot.adapters.metrics import CONTENT_TYPE, Metrics, render

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request, these: ServicesDep, who: Viewer) -> Response:
    """Sessions, hosts, bytes by way, store, DHCP and TFTP."""
    state = request.app.state
    if not hasattr(state, "metrics"):
        state.metrics = Metrics(these)
    return Response(render(state.metrics.collect()), media_type=CONTENT_TYPE)
