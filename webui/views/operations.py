"""Operations: list, and the live page of one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from pxeboot.services import operations, transfers
from pxeboot.services.transfer_views import ReasonView
from webui import forms
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import live_block, page, redirect
from webui.stream import live

router = APIRouter(route_class=PageRoute)


@router.get("/operations")
def list_operations(request: Request, these: ServicesDep, who: Reader, cursor: str = "") -> Response:
    """Newest first."""
    with these.read() as session:
        found = operations.list_operations(session, cursor=cursor or None, limit=100)
    return page(request, "operations.html", page=found)


@router.get("/operations/{operation}")
def show_operation(request: Request, these: ServicesDep, who: Reader, operation: str) -> Response:
    """One operation, followed live."""
    with these.read() as session:
        found = operations.get(session, operation)
    shown = these.sessions.transfers.view(operation)
    return page(request, "operation.html", operation=found, transfer=shown)


@router.get("/live/operations/{operation}")
async def operation_live(request: Request, these: ServicesDep, who: Reader, operation: str) -> Response:
    """Its table, live, until it is over."""

    def draw() -> tuple[str, bool]:
        with these.read() as session:
            found = operations.get(session, operation)
        shown = these.sessions.transfers.view(operation)
        html = live_block(request, "operation.html", operation=found, transfer=shown)
        return html, found.state != "running"

    return live(these, lambda message: message.operation_id == operation, draw)


@router.get("/operations/{operation}/why")
def why(request: Request, these: ServicesDep, who: Reader, operation: str) -> Response:
    """Why it took as long as it did, in sentences."""
    with these.read() as session:
        found = operations.get(session, operation)
    reasons = [ReasonView.of(reason) for reason in these.sessions.transfers.why(operation)]
    return page(request, "operation_why.html", operation=found, why=reasons)


@router.post("/operations/{operation}/bandwidth")
def bandwidth(
    these: ServicesDep,
    who: AdminForm,
    operation: str,
    limit: Annotated[str, Form()] = "",
    priority: Annotated[str, Form()] = "normal",
) -> Response:
    """Another limit or priority, at once."""
    changes = {"limit_mbit": forms.mbit(limit), "priority": forms.priority(priority)}
    with these.write() as session:
        before = transfers.rules(session, [operation]).get(operation, (None, 1.0))[0]
        now, _ = transfers.change(session, operation, changes, actor=who.name)
    if now != before:
        these.sessions.transfers.limit_changed(operation, now, who.name)
    these.sessions.transfers.look_soon()
    return redirect(f"/operations/{operation}")


@router.post("/operations/{operation}/cancel")
def cancel(these: ServicesDep, who: AdminForm, operation: str) -> Response:
    """Stop what has not ended."""
    with these.write() as session:
        operations.cancel(session, operation, actor=who.name)
    return redirect(f"/operations/{operation}")
