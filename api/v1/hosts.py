"""`/api/v1/hosts`: machines, their approval, their journal, and why they boot what they boot."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response
from sqlmodel import Session

from api.v1.deps import Admin, Cursor, Limit, ServicesDep, Technician, Viewer
from api.v1.schemas import (
    ExplainAnswer,
    HostCreate,
    HostDetail,
    HostResult,
    HostResults,
    HostsNamed,
    HostUpdate,
)
from pxeboot.adapters.container import Services
from pxeboot.errors import AppError, problem_code
from pxeboot.services import boot_rules, explain, host_csv, host_import, hosts, journal, lookup
from pxeboot.services.host_import import ImportReport
from pxeboot.services.views import EventView, HostView, Page

router = APIRouter(tags=["hosts"])
# What a machine boots and which address it has are the site's business, not one technician's.
POLICY = frozenset({"boot", "dhcp_options", "reserved_address"})
CSV_BODY = {"requestBody": {"content": {"text/csv": {"schema": {"type": "string"}}}, "required": True}}


class CsvResponse(Response):
    """CSV text."""

    media_type = "text/csv"


class _Undone(Exception):
    """Leaves a transaction without its changes."""


async def csv_body(request: Request) -> bytes:
    """The body, as far as a list may be long."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > host_csv.LONGEST:
            break
    return data


@router.get("/hosts", operation_id="listHosts")
def list_hosts(
    these: ServicesDep,
    who: Viewer,
    state: Literal["pending", "approved", "blocked"] | None = None,
    group: str | None = None,
    q: str = "",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[HostView]:
    """Hosts by name."""
    with these.read() as session:
        return hosts.list_hosts(session, state=state, group=group, q=q, cursor=cursor, limit=limit)


@router.post("/hosts", status_code=201, operation_id="createHost")
def create_host(these: ServicesDep, who: Technician, body: HostCreate, response: Response) -> HostView:
    """Add a host by hand."""
    with these.write() as session:
        view = hosts.create_host(session, **body.model_dump(), actor=who.name)
    response.headers["Location"] = f"/api/v1/hosts/{view.name}"
    return view


@router.post("/hosts:approve", operation_id="approveHosts")
def approve_hosts(these: ServicesDep, who: Technician, body: HostsNamed) -> HostResults:
    """Let hosts be given tasks; one result per host."""
    results = []
    for name in body.hosts:
        try:
            with these.write() as session:
                view = hosts.approve_hosts(session, [name], actor=who.name)[0]
            results.append(HostResult(host=view.name, ok=True))
        except AppError as error:
            results.append(HostResult(host=name, ok=False, code=problem_code(error), reason=error.sentence))
    return HostResults(results=results)


@router.get("/hosts:export", operation_id="exportHosts", response_class=CsvResponse)
def export_hosts(these: ServicesDep, who: Viewer, group: str | None = None) -> Response:
    """All hosts, or a group's, as CSV."""
    with these.read() as session:
        text = host_csv.render(host_import.export_hosts(session, group))
    return CsvResponse(text, headers={"Content-Disposition": 'attachment; filename="hosts.csv"'})


@router.post("/hosts:import", operation_id="importHosts", openapi_extra=CSV_BODY)
def import_hosts(
    these: ServicesDep, who: Admin, data: Annotated[bytes, Depends(csv_body)], dry_run: bool = False
) -> ImportReport:
    """Add and change hosts from CSV: every line or none; `dry_run` says what would be done."""
    rows = host_csv.parse(host_csv.decode(data))
    # A dry run is the same run, undone.
    with contextlib.suppress(_Undone), these.write() as session:
        report = host_import.import_hosts(session, rows, actor=who.name)
        if dry_run:
            raise _Undone
    return report


@router.get("/hosts/{host}", operation_id="getHost")
def get_host(these: ServicesDep, who: Viewer, host: str) -> HostDetail:
    """One host by name, id or MAC."""
    with these.read() as session:
        return _detail(these, session, hosts.get_host(session, host))


@router.patch("/hosts/{host}", operation_id="updateHost")
def update_host(these: ServicesDep, who: Technician, host: str, body: HostUpdate) -> HostDetail:
    """Change a host; members that are not given stay."""
    changes = body.model_dump(exclude_unset=True)
    if not POLICY.isdisjoint(changes):
        who.require("admin")
    with these.write() as session:
        view = hosts.update_host(session, host, actor=who.name, **changes)
        return _detail(these, session, view)


@router.delete("/hosts/{host}", status_code=204, operation_id="deleteHost")
def delete_host(these: ServicesDep, who: Admin, host: str) -> None:
    """Forget a host: it is unknown again."""
    with these.write() as session:
        hosts.delete_host(session, host, actor=who.name)


@router.get("/hosts/{host}/events", operation_id="listHostEvents")
def list_host_events(
    these: ServicesDep, who: Viewer, host: str, limit: Limit = 50, cursor: Cursor = None
) -> Page[EventView]:
    """What a host asked and was told, newest first."""
    with these.read() as session:
        return journal.list_events(session, host=host, limit=limit, cursor=cursor)


@router.get("/hosts/{host}/explain", operation_id="explainHost")
def explain_host(these: ServicesDep, who: Viewer, host: str) -> ExplainAnswer:
    """What it would boot now and why, and what it did last; an unknown MAC is explained too."""
    with these.read() as session:
        answer = explain.explain(session, host, settings=these.settings, now=datetime.now(UTC))
    return ExplainAnswer(
        host=answer.host.name if answer.host else answer.mac,
        action=answer.action,
        reason=answer.reason,
        sentences=answer.sentences,
        events=answer.events,
    )


def _detail(these: Services, session: Session, view: HostView) -> HostDetail:
    rules = boot_rules.effective(session, lookup.host(session, view.name), these.settings)
    return HostDetail(**dict(view), effective_boot=rules)
