"""Leases: who has which address, and the same as CSV."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from pxeboot.errors import Invalid
from pxeboot.services import leases
from pxeboot.services.views import Page
from webui.guard import PageRoute, Reader, ServicesDep
from webui.render import page

router = APIRouter(route_class=PageRoute)


@router.get("/leases")
def show_leases(
    request: Request,
    these: ServicesDep,
    who: Reader,
    q: str = "",
    state: str = "",
    subnet: str = "",
    cursor: str = "",
) -> Response:
    """The table, filtered."""
    table, error = these.leases.all(), ""
    found: Page[leases.LeaseRow] = Page(items=[])
    with these.read() as session:
        try:
            found = leases.list_leases(
                session,
                table,
                now=datetime.now(UTC),
                q=q,
                state=state,
                subnet=subnet,
                cursor=cursor or None,
                limit=200,
            )
        except Invalid as refused:
            error = refused.sentence
    return page(
        request,
        "leases.html",
        page=found,
        states=leases.STATES,
        subnets=leases.subnets_of(table),
        gives=these.leases.gives_addresses,
        error=error,
        q=q,
        state_filter=state,
        subnet_filter=subnet,
    )


@router.get("/leases.csv")
def download_leases(
    these: ServicesDep, who: Reader, q: str = "", state: str = "", subnet: str = ""
) -> StreamingResponse:
    """All that match, for a spreadsheet."""
    with these.read() as session:
        found = leases.rows(
            session, these.leases.all(), now=datetime.now(UTC), q=q, state=state, subnet=subnet
        )
    headers = {"Content-Disposition": 'attachment; filename="leases.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(leases.as_csv(found), media_type="text/csv; charset=utf-8", headers=headers)
