"""The boot menu: entries of an administrator's own, their order, and what a machine's menu will look like."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Request, Response
from starlette.datastructures import FormData

from pxeboot.boot.rules import ENTRY_KINDS
from pxeboot.errors import Conflict, Invalid, NotFound
from pxeboot.services import boot_entries, groups
from pxeboot.services.menu_preview import menu_preview
from pxeboot.services.views import BootEntryView
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import page, redirect, translate

router = APIRouter(route_class=PageRoute)
EMPTY = BootEntryView(id=0, name="", title="", kind="", created_at=datetime.fromtimestamp(0, UTC))


async def sent(request: Request) -> FormData:
    """The whole form: an entry's parameters are named by its kind."""
    return await request.form()


@router.get("/menu")
def show_menu(
    request: Request, these: ServicesDep, who: Reader, group: str = "", firmware: str = ""
) -> Response:
    """All entries in their order, and what the menu of a group's machines looks like."""
    with these.read() as session:
        entries = boot_entries.list_entries(session, limit=500).items
        rooms = groups.list_groups(session, limit=500).items
        room = group if group in {item.name for item in rooms} else ""
        kind: Literal["bios", "uefi"] = "bios" if firmware == "bios" else "uefi"
        preview = menu_preview(session, room or None, kind, these.settings)
    return page(
        request,
        "menu.html",
        entries=entries,
        kinds=ENTRY_KINDS,
        groups=rooms,
        preview=preview,
        group_filter=room,
        firmware_filter=kind,
    )


def _entry_page(
    request: Request,
    these: ServicesDep,
    entry: BootEntryView,
    *,
    original: str = "",
    status: int = 200,
    error: str = "",
) -> Response:
    """The form of an entry; `original`: the name it has now, "" for a new one."""
    with these.read() as session:
        rooms = groups.list_groups(session, limit=500).items
    return page(
        request,
        "menu_entry.html",
        status=status,
        entry=entry,
        original=original,
        kind=ENTRY_KINDS[entry.kind],
        groups=rooms,
        error=error,
    )


@router.get("/menu/add")
def new_entry(request: Request, these: ServicesDep, who: Reader, kind: str = "") -> Response:
    """The form of a new entry of one kind."""
    who.require("admin")
    if kind not in ENTRY_KINDS:
        return redirect("/menu", translate(request, "Choose what the entry starts."), "error")
    firmware = ENTRY_KINDS[kind].firmware
    return _entry_page(request, these, EMPTY.model_copy(update={"kind": kind, "firmware": firmware}))


@router.get("/menu/entries/{entry}")
def show_entry(request: Request, these: ServicesDep, who: Reader, entry: str) -> Response:
    """The form of an entry."""
    who.require("admin")
    with these.read() as session:
        found = boot_entries.get_entry(session, entry)
    return _entry_page(request, these, found, original=found.name)


@router.post("/menu/entries")
@router.post("/menu/entries/{entry}")
def save_entry(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    form: Annotated[FormData, Depends(sent)],
    title: Annotated[str, Form()],
    name: Annotated[str, Form()],
    kind: Annotated[str, Form()],
    entry: str | None = None,
    group: Annotated[str, Form()] = "",
    firmware: Annotated[str, Form()] = "",
    key: Annotated[str, Form()] = "",
    enabled: Annotated[bool, Form()] = False,
    hidden: Annotated[bool, Form()] = False,
    password: Annotated[str, Form()] = "",
    unprotect: Annotated[bool, Form()] = False,
) -> Response:
    """Add or change an entry; a mistake brings the form back as it was filled in."""
    known = ENTRY_KINDS.get(kind)
    names = (*known.required, *known.optional) if known else ()
    values: dict[str, Any] = {
        "title": title,
        "name": name,
        "kind": kind,
        "params": {param: str(form.get(f"param-{param}", "")).strip() for param in names},
        "group": group or None,
        "firmware": firmware,
        "key": key.strip(),
        "enabled": enabled,
        "hidden": hidden,
    }
    secret = {"password": password or None} if password or unprotect else {}
    try:
        with these.write() as session:
            if entry is None:
                boot_entries.create_entry(session, actor=who.name, **values, **secret)
            else:
                boot_entries.update_entry(session, entry, actor=who.name, **values, **secret)
    except (Invalid, Conflict, NotFound) as error:
        if known is None:
            raise
        before = EMPTY
        if entry is not None:
            with these.read() as session:
                before = boot_entries.get_entry(session, entry)
        filled = before.model_copy(update=values)
        return _entry_page(
            request, these, filled, original=before.name, status=error.status, error=error.sentence
        )
    return redirect("/menu", translate(request, "Saved."))


@router.post("/menu/entries/{entry}/{do}")
def act(request: Request, these: ServicesDep, who: AdminForm, entry: str, do: str) -> Response:
    """Move an entry up or down, switch it on or off, or remove it."""
    with these.write() as session:
        if do in ("up", "down"):
            boot_entries.move_entry(session, entry, do == "up", actor=who.name)
        elif do in ("on", "off"):
            boot_entries.update_entry(session, entry, actor=who.name, enabled=do == "on")
        elif do == "delete":
            boot_entries.delete_entry(session, entry, actor=who.name)
    return redirect("/menu", translate(request, "Saved."))
