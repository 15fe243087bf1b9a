"""Groups: list, make, change, reset."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response

from pxeboot.errors import Conflict, Invalid
from pxeboot.services import groups, images, operations
from pxeboot.services.views import OperationRequest
from webui import forms
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.policy import policy_values
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


def _group_page(
    request: Request,
    these: ServicesDep,
    group: str,
    *,
    status: int = 200,
    error: str = "",
    form: dict[str, str] | None = None,
) -> Response:
    with these.read() as session:
        found = groups.get_group(session, group)
        values = {
            "group": found,
            "images": images.list_images(session, limit=500).items,
            **policy_values(session, these, found, form),
        }
    return page(request, "group.html", status=status, error=error, **values)


@router.get("/groups/{group}")
def show_group(request: Request, these: ServicesDep, who: Reader, group: str) -> Response:
    """One group."""
    return _group_page(request, these, group)


@router.post("/groups/{group}/boot")
def change_group_boot(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    group: str,
    default: Annotated[str, Form()] = "",
    local_boot: Annotated[str, Form()] = "",
    menu: Annotated[str, Form()] = "",
    menu_seconds: Annotated[str, Form()] = "",
    dhcp_options: Annotated[str, Form()] = "",
) -> Response:
    """Change what a group's hosts boot and what DHCP tells them; a mistake brings the form back."""
    form = {
        "default": default,
        "local_boot": local_boot,
        "menu": menu,
        "menu_seconds": menu_seconds,
        "dhcp_options": dhcp_options,
    }
    try:
        with these.write() as session:
            before = groups.get_group(session, group)
            view = groups.update_group(
                session,
                before.name,
                actor=who.name,
                boot=forms.boot_rules(default, local_boot, menu, menu_seconds),
                dhcp_options=forms.dhcp_options(dhcp_options, before.dhcp_options),
            )
    except (Invalid, Conflict) as error:
        return _group_page(request, these, group, status=error.status, error=error.sentence, form=form)
    return redirect(f"/groups/{quote(view.name)}#boot", translate(request, "Saved."))


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
