"""Hosts: list, approve, change, explain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from pxeboot.errors import AppError
from pxeboot.services import explain, groups, hosts, images
from webui.guard import PageRoute, Reader, ServicesDep, TechnicianForm
from webui.render import page, redirect, translate

router = APIRouter(route_class=PageRoute)


@router.get("/hosts")
def list_hosts(
    request: Request,
    these: ServicesDep,
    who: Reader,
    q: str = "",
    state: str = "",
    group: str = "",
    cursor: str = "",
) -> Response:
    """The table, filtered."""
    with these.read() as session:
        found = hosts.list_hosts(
            session, state=state or None, group=group or None, q=q, cursor=cursor or None, limit=200
        )
        rooms = groups.list_groups(session, limit=500).items
    return page(request, "hosts.html", page=found, groups=rooms, q=q, state_filter=state, group_filter=group)


@router.post("/hosts/act")
def act(
    request: Request,
    these: ServicesDep,
    who: TechnicianForm,
    do: Annotated[str, Form()],
    host: Annotated[list[str] | None, Form()] = None,
    group: Annotated[str, Form()] = "",
) -> Response:
    """Approve, group, block or delete the ticked hosts; one that refuses does not stop the others."""
    if not host:
        return redirect("/hosts", translate(request, "Tick the hosts first."), "error")
    refused = []
    for name in host:
        try:
            with these.write() as session:
                if do == "approve":
                    hosts.approve_hosts(session, [name], actor=who.name)
                elif do == "group":
                    hosts.set_group(session, [name], group or None, actor=who.name)
                elif do == "block":
                    hosts.update_host(session, name, actor=who.name, state="blocked")
                elif do == "delete":
                    who.require("admin")
                    hosts.delete_host(session, name, actor=who.name)
        except AppError as error:
            refused.append(f"{name}: {error.sentence}")
    if refused:
        return redirect("/hosts", " ".join(refused), "error")
    return redirect("/hosts", translate(request, "Done."))


@router.get("/hosts/{host}")
def show_host(request: Request, these: ServicesDep, who: Reader, host: str) -> Response:
    """One host: what it is, what it would boot and why, its journal."""
    with these.read() as session:
        found = hosts.get_host(session, host)
        why = explain.explain(session, found.id, settings=these.settings, now=datetime.now(UTC), events=100)
        rooms = groups.list_groups(session, limit=500).items
        lines = images.list_images(session, limit=500).items
    return page(request, "host.html", host=found, why=why, groups=rooms, images=lines)


@router.post("/hosts/{host}")
def change_host(
    request: Request,
    these: ServicesDep,
    who: TechnicianForm,
    host: str,
    name: Annotated[str, Form()],
    state: Annotated[str, Form()],
    group: Annotated[str, Form()] = "",
) -> Response:
    """Change name, group and state."""
    with these.write() as session:
        view = hosts.update_host(
            session, host, actor=who.name, name=name.strip(), group=group or None, state=state
        )
    return redirect(f"/hosts/{view.name}", translate(request, "Saved."))
