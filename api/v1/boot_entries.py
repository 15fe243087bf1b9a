"""`/api/v1/boot-entries`: what administrators add to the boot menus."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from api.v1.deps import Admin, Cursor, Limit, ServicesDep, Viewer
from api.v1.schemas import BootEntryCreate, BootEntryUpdate
from pxeboot.services import boot_entries, menu_preview
from pxeboot.services.menu_preview import MenuPreview
from pxeboot.services.views import BootEntryView, Page

router = APIRouter(tags=["boot entries"])


@router.get("/boot-entries", operation_id="listBootEntries")
def list_boot_entries(
    these: ServicesDep, who: Viewer, group: str | None = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[BootEntryView]:
    """Entries in the order of the menus; with `group` those that its machines have."""
    with these.read() as session:
        return boot_entries.list_entries(session, group=group, cursor=cursor, limit=limit)


@router.post("/boot-entries", status_code=201, operation_id="createBootEntry")
def create_boot_entry(
    these: ServicesDep, who: Admin, body: BootEntryCreate, response: Response
) -> BootEntryView:
    """Add an entry."""
    with these.write() as session:
        view = boot_entries.create_entry(session, **body.model_dump(), actor=who.name)
    response.headers["Location"] = f"/api/v1/boot-entries/{view.name}"
    return view


@router.get("/boot-entries/{entry}", operation_id="getBootEntry")
def get_boot_entry(these: ServicesDep, who: Viewer, entry: str) -> BootEntryView:
    """One entry; its password is never shown."""
    with these.read() as session:
        return boot_entries.get_entry(session, entry)


@router.patch("/boot-entries/{entry}", operation_id="updateBootEntry")
def update_boot_entry(these: ServicesDep, who: Admin, entry: str, body: BootEntryUpdate) -> BootEntryView:
    """Change an entry; members that are not given stay."""
    with these.write() as session:
        return boot_entries.update_entry(
            session, entry, actor=who.name, **body.model_dump(exclude_unset=True)
        )


@router.delete("/boot-entries/{entry}", status_code=204, operation_id="deleteBootEntry")
def delete_boot_entry(these: ServicesDep, who: Admin, entry: str) -> None:
    """Remove an entry, unless it is the default of a host or group."""
    with these.write() as session:
        boot_entries.delete_entry(session, entry, actor=who.name)


@router.get("/boot-menu", operation_id="previewBootMenu")
def preview_boot_menu(
    these: ServicesDep, who: Viewer, group: str | None = None, firmware: Literal["bios", "uefi"] = "uefi"
) -> MenuPreview:
    """What the menu of a group's machines looks like (without `group`: of machines in none)."""
    with these.read() as session:
        return menu_preview.menu_preview(session, group, firmware, these.settings)
