"""`/api/v1/groups`: sets of hosts, and the reset of one."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from sqlmodel import Session

from api.v1.deps import Admin, Cursor, IdempotencyKey, Limit, ServicesDep, Viewer
from api.v1.idempotent import once
from api.v1.schemas import GroupCreate, GroupDetail, GroupReset, GroupUpdate
from pxeboot.adapters.container import Services
from pxeboot.services import boot_rules, groups, lookup, operations
from pxeboot.services.views import GroupView, OperationRequest, OperationView, Page

router = APIRouter(tags=["groups"])


@router.get("/groups", operation_id="listGroups")
def list_groups(
    these: ServicesDep, who: Viewer, q: str = "", limit: Limit = 50, cursor: Cursor = None
) -> Page[GroupView]:
    """Groups by name."""
    with these.read() as session:
        return groups.list_groups(session, q=q, cursor=cursor, limit=limit)


@router.post("/groups", status_code=201, operation_id="createGroup")
def create_group(these: ServicesDep, who: Admin, body: GroupCreate, response: Response) -> GroupView:
    """Make a group."""
    with these.write() as session:
        view = groups.create_group(session, **body.model_dump(), actor=who.name)
    response.headers["Location"] = f"/api/v1/groups/{view.name}"
    return view


@router.get("/groups/{group}", operation_id="getGroup")
def get_group(these: ServicesDep, who: Viewer, group: str) -> GroupDetail:
    """One group."""
    with these.read() as session:
        return _detail(these, session, groups.get_group(session, group))


@router.patch("/groups/{group}", operation_id="updateGroup")
def update_group(these: ServicesDep, who: Admin, group: str, body: GroupUpdate) -> GroupDetail:
    """Change a group; members that are not given stay."""
    with these.write() as session:
        view = groups.update_group(session, group, actor=who.name, **body.model_dump(exclude_unset=True))
        return _detail(these, session, view)


@router.delete("/groups/{group}", status_code=204, operation_id="deleteGroup")
def delete_group(these: ServicesDep, who: Admin, group: str) -> None:
    """Delete a group; its hosts stay, without a group."""
    with these.write() as session:
        groups.delete_group(session, group, actor=who.name)


@router.post(
    "/groups/{group}:reset", status_code=202, operation_id="resetGroup", response_model=OperationView
)
async def reset_group(
    request: Request,
    these: ServicesDep,
    who: Admin,
    group: str,
    body: GroupReset | None = None,
    key: IdempotencyKey = None,
) -> Response:
    """Bring every host of the group back to an image version; what a host already holds is not sent."""
    wanted = OperationRequest(kind="reset", group=group, **(body or GroupReset()).model_dump())
    return await once(
        request,
        these,
        who,
        key,
        lambda session: operations.start(session, wanted, actor=who.name, settings=these.settings),
    )


def _detail(these: Services, session: Session, view: GroupView) -> GroupDetail:
    rules = boot_rules.effective(session, lookup.group(session, view.name), these.settings)
    return GroupDetail(**dict(view), effective_boot=rules)
