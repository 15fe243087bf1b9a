"""Groups: list, make, change, reset."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response

from pxeboot.services import groups, images, operations
from pxeboot.services.views import OperationRequest
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import page, redirect, translate

router = APIRouter(route_class=PageRoute)


@router.get("/groups")
def list_groups(request: Request, these: ServicesDep, who: Reader) -> Response:
    """All groups."""
    with these.read() as session:
        found = groups.list_groups(session, limit=500).items
    return page(request, "groups.html", groups=found)


@router.post("/groups")
def create_group(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    name: Annotated[str, Form()],
    name_template: Annotated[str, Form()] = "",
    description: Annotated[str, Form()] = "",
) -> Response:
    """Make a group."""
    with these.write() as session:
        view = groups.create_group(
            session, name=name.strip(), name_template=name_template, description=description, actor=who.name
        )
    return redirect(f"/groups/{quote(view.name)}", translate(request, "The group is made."))


@router.get("/groups/{group}")
def show_group(request: Request, these: ServicesDep, who: Reader, group: str) -> Response:
    """One group."""
    with these.read() as session:
        found = groups.get_group(session, group)
        lines = images.list_images(session, limit=500).items
    return page(request, "group.html", group=found, images=lines)


@router.post("/groups/{group}")
def change_group(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    group: str,
    do: Annotated[str, Form()],
    name: Annotated[str, Form()],
    name_template: Annotated[str, Form()] = "",
    image: Annotated[str, Form()] = "",
    description: Annotated[str, Form()] = "",
) -> Response:
    """Change or delete a group."""
    with these.write() as session:
        if do == "delete":
            groups.delete_group(session, group, actor=who.name)
            return redirect("/groups", translate(request, "Deleted."))
        view = groups.update_group(
            session,
            group,
            actor=who.name,
            name=name.strip(),
            name_template=name_template,
            image=image or None,
            description=description,
        )
    return redirect(f"/groups/{quote(view.name)}", translate(request, "Saved."))


@router.post("/groups/{group}/reset")
def reset_group(request: Request, these: ServicesDep, who: AdminForm, group: str) -> Response:
    """Reset every host of the group to the group's image."""
    with these.write() as session:
        view = operations.start(
            session, OperationRequest(kind="reset", group=group), actor=who.name, settings=these.settings
        )
    return redirect(f"/operations/{view.id}")
