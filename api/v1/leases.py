"""`/api/v1/leases`: who has which address."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.v1.deps import Cursor, Limit, ServicesDep, Viewer
from pxeboot.services import leases
from pxeboot.services.leases import LeaseRow
from pxeboot.services.views import Page

router = APIRouter(tags=["leases"])


@router.get("/leases", operation_id="listLeases")
def list_leases(
    these: ServicesDep,
    who: Viewer,
    subnet: str = "",
    state: str = "",
    mac: str = "",
    q: str = "",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[LeaseRow]:
    """Leases by address; none where another DHCP server gives the addresses."""
    with these.read() as session:
        return leases.list_leases(
            session,
            these.leases.all(),
            now=datetime.now(UTC),
            subnet=subnet,
            state=state,
            mac=mac,
            q=q,
            cursor=cursor,
            limit=limit,
        )


@router.get("/leases.csv", operation_id="exportLeases", response_class=StreamingResponse)
def export_leases(
    these: ServicesDep, who: Viewer, subnet: str = "", state: str = "", mac: str = "", q: str = ""
) -> StreamingResponse:
    """All leases that match, as CSV."""
    with these.read() as session:
        found = leases.rows(
            session, these.leases.all(), now=datetime.now(UTC), subnet=subnet, state=state, mac=mac, q=q
        )
    headers = {"Content-Disposition": 'attachment; filename="leases.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(leases.as_csv(found), media_type="text/csv; charset=utf-8", headers=headers)
