"""Hosts: list, approve, change, explain."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from api.v1.live import EventFilter
from pxeboot.errors import AppError, Conflict, Invalid
from pxeboot.services import explain, groups, hosts, images, journal, tasks
from webui import forms
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep, TechnicianForm
from webui.policy import policy_values
from webui.render import live_block, page, redirect, translate
from webui.stream import live
from webui.views.images import EMPTY_CAPTURE

router = APIRouter(route_class=PageRoute)
EVENTS = 100  # on the page of a host


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


def _host_page(
    request: Request,
    these: ServicesDep,
    host: str,
    *,
    status: int = 200,
    error: str = "",
    form: dict[str, str] | None = None,
) -> Response:
    with these.read() as session:
        found = hosts.get_host(session, host)
        values = {
            "host": found,
            "why": explain.explain(
                session, found.name, settings=these.settings, now=datetime.now(UTC), events=EVENTS
            ),
            "groups": groups.list_groups(session, limit=500).items,
            "images": images.list_images(session, limit=500).items,
            "last": tasks.last_view(session, found.id),
            "capture_form": EMPTY_CAPTURE,
            **policy_values(session, these, found, form),
        }
    return page(request, "host.html", status=status, error=error, **values)


@router.get("/hosts/{host}")
def show_host(request: Request, these: ServicesDep, who: Reader, host: str) -> Response:
    """One host: what it is, what it would boot and why, its journal."""
    return _host_page(request, these, host)


@router.get("/live/hosts/{host}")
async def host_live(request: Request, these: ServicesDep, who: Reader, host: str) -> Response:
    """What a host asked and was told, live."""

    def machine() -> journal.Whose:
        with these.read() as session:
            return journal.whose(session, host)

    def draw() -> tuple[str, bool]:
        with these.read() as session:
            events = journal.list_events(session, host=host, limit=EVENTS).items
        return live_block(request, "host.html", why={"events": events}), False

    wanted = EventFilter(await asyncio.to_thread(machine))
    return live(these, wanted.wants, draw)


@router.post("/hosts/{host}/boot")
def change_host_boot(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    host: str,
    default: Annotated[str, Form()] = "",
    local_boot: Annotated[str, Form()] = "",
    menu: Annotated[str, Form()] = "",
    menu_seconds: Annotated[str, Form()] = "",
    reserved_address: Annotated[str, Form()] = "",
    dhcp_options: Annotated[str, Form()] = "",
) -> Response:
    """Change what a host boots and what DHCP tells it; a mistake brings the form back as it was filled in."""
    form = {
        "default": default,
        "local_boot": local_boot,
        "menu": menu,
        "menu_seconds": menu_seconds,
        "reserved_address": reserved_address,
        "dhcp_options": dhcp_options,
    }
    try:
        with these.write() as session:
            before = hosts.get_host(session, host)
            view = hosts.update_host(
                session,
                before.name,
                actor=who.name,
                boot=forms.boot_rules(default, local_boot, menu, menu_seconds),
                reserved_address=reserved_address,
                dhcp_options=forms.dhcp_options(dhcp_options, before.dhcp_options),
            )
    except (Invalid, Conflict) as error:
        return _host_page(request, these, host, status=error.status, error=error.sentence, form=form)
    return redirect(f"/hosts/{view.name}#boot", translate(request, "Saved."))


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
