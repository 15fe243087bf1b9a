"""`/api/v1/operations`: what was asked of many hosts, and the outcome of each, live."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api.v1.deps import Admin, Cursor, IdempotencyKey, Limit, ServicesDep, Viewer
from api.v1.idempotent import once
from api.v1.live import operation_stream
from pxeboot.services import operations, transfers
from pxeboot.services.transfer_views import OperationChange, ReasonView, TransferView, WhyView
from pxeboot.services.views import OperationRequest, OperationView, Page

router = APIRouter(tags=["operations"])


@router.get("/operations", operation_id="listOperations")
def list_operations(
    these: ServicesDep,
    who: Viewer,
    state: str | None = None,
    kind: str | None = None,
    host: str | None = None,
    group: str | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[OperationView]:
    """Newest first, with counts instead of tasks."""
    with these.read() as session:
        return operations.list_operations(
            session, state=state, kind=kind, host=host, group=group, cursor=cursor, limit=limit
        )


@router.post("/operations", status_code=202, operation_id="startOperation", response_model=OperationView)
async def start_operation(
    request: Request, these: ServicesDep, who: Admin, body: OperationRequest, key: IdempotencyKey = None
) -> Response:
    """Capture from a host, or deploy to hosts or a group; hosts take their tasks when they boot."""
    return await once(
        request,
        these,
        who,
        key,
        lambda session: operations.start(
            session, body, actor=who.name, settings=these.settings, allow=these.keeper.check_room
        ),
    )


@router.get("/operations/{operation}", operation_id="getOperation")
def get_operation(these: ServicesDep, who: Viewer, operation: str) -> OperationView:
    """One operation with the outcome of each host."""
    with these.read() as session:
        return operations.get(session, operation)


@router.patch("/operations/{operation}", operation_id="changeOperation")
def change_operation(these: ServicesDep, who: Admin, operation: str, body: OperationChange) -> OperationView:
    """Another limit or priority; it holds within a second, also for what is being sent."""
    said = body.said()
    with these.write() as session:
        limit, _ = transfers.change(session, operation, said, actor=who.name)
        found = operations.get(session, operation)
    if "limit_mbit" in said:
        these.sessions.transfers.limit_changed(operation, limit, who.name)
    these.sessions.transfers.look_soon()
    return found


@router.get("/operations/{operation}/transfer", operation_id="getTransfer")
def get_transfer(these: ServicesDep, who: Viewer, operation: str) -> TransferView:
    """What is sent now: its streams with their rates and limits, and a line for each machine."""
    with these.read() as session:
        operations.get(session, operation)
    return these.sessions.transfers.view(operation)


@router.get("/operations/{operation}/why", operation_id="explainOperation")
def explain_operation(these: ServicesDep, who: Viewer, operation: str) -> WhyView:
    """Why it took as long as it did, in sentences; also while it runs."""
    reasons = these.sessions.transfers.why(operation)
    return WhyView(operation=operation, reasons=[ReasonView.of(reason) for reason in reasons])


@router.get("/operations/{operation}/log", operation_id="getTransferLog")
def get_transfer_log(these: ServicesDep, who: Viewer, operation: str) -> list[dict[str, Any]]:
    """The record of each stream that these sentences come from (docs/bandwidth.md says what is in it)."""
    return [record.to_json() for record in these.sessions.transfers.records(operation)]


@router.post("/operations/{operation}:cancel", operation_id="cancelOperation")
def cancel_operation(these: ServicesDep, who: Admin, operation: str) -> OperationView:
    """End what has not ended."""
    with these.write() as session:
        return operations.cancel(session, operation, actor=who.name)


@router.get(
    "/operations/{operation}/events", operation_id="followOperation", response_class=StreamingResponse
)
async def follow_operation(these: ServicesDep, who: Viewer, operation: str) -> StreamingResponse:
    """Server-sent events: `operation` with the whole operation and `transfer` with what it transfers, each at
    each change, then `end`."""
    return await operation_stream(these, operation)
