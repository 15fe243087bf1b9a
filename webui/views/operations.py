"""Operations: list, and the live page of one."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from pxeboot.services import operations
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
    return page(request, "operation.html", operation=found)


@router.get("/live/operations/{operation}")
async def operation_live(request: Request, these: ServicesDep, who: Reader, operation: str) -> Response:
    """Its table, live, until it is over."""

    def draw() -> tuple[str, bool]:
        with these.read() as session:
            found = operations.get(session, operation)
        return live_block(request, "operation.html", operation=found), found.state != "running"

    return live(these, lambda message: message.operation_id == operation, draw)


@router.post("/operations/{operation}/cancel")
def cancel(these: ServicesDep, who: AdminForm, operation: str) -> Response:
    """Stop what has not ended."""
    with these.write() as session:
        operations.cancel(session, operation, actor=who.name)
    return redirect(f"/operations/{operation}")
