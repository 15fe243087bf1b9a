"""A room's machines from a list: all of its lines, or none; and the list of what is there."""

from __future__ import annotations

from typing import Any, Literal

from sqlmodel import Session, col, select

from pxeboot.db.models import Host, HostMac
from pxeboot.errors import AppError, Conflict, Invalid
from pxeboot.services import hosts, lookup
from pxeboot.services.host_csv import NOTHING, HostRow
from pxeboot.services.present import host_views
from pxeboot.services.views import View


class ImportedHost(View):
    """What became of one line."""

    line: int
    host: str
    result: Literal["new", "changed", "same"]
    was: str = ""  # its name before, if another


class ImportReport(View):
    """What became of all of them."""

    hosts: list[ImportedHost]
    new: int = 0
    changed: int = 0
    same: int = 0


def import_hosts(session: Session, rows: list[HostRow], *, actor: str = "") -> ImportReport:
    """Add or change the host of each row; it is found by MAC address, else by name.

    A host that was registered under another name gets the one of the list. Empty cells leave what is there,
    MAC addresses are added to those it has. Invalid with every line that cannot be: the caller's transaction
    must then be rolled back.
    """
    done: list[ImportedHost] = []
    errors: list[dict[str, str]] = []
    for row in rows:
        try:
            with session.begin_nested():
                done.append(_one(session, row, actor))
        except AppError as error:
            errors.append({"field": f"line {row.line}", "msg": error.sentence})
    if errors:
        raise Invalid(
            f"{len(errors)} of {len(rows)} lines cannot be taken, so nothing was changed.", errors=errors
        )
    counts = {what: sum(each.result == what for each in done) for what in ("new", "changed", "same")}
    return ImportReport(hosts=done, **counts)


def export_hosts(session: Session, group: str | None = None) -> list[HostRow]:
    """All hosts, or a group's, by name. NotFound(group)."""
    query = select(Host).order_by(Host.name)
    if group:
        query = query.where(Host.group_id == lookup.group(session, group).id)
    return [
        HostRow(
            name=view.name,
            macs=" ".join(view.macs),
            group=view.group or "",
            state=view.state,
            address=view.reserved_address,
            uuid=view.uuid,
            serial=view.serial,
        )
        for view in host_views(session, session.exec(query).all())
    ]


def _one(session: Session, row: HostRow, actor: str) -> ImportedHost:
    macs = [lookup.checked_mac(text) for text in row.macs.split()] if row.macs != NOTHING else []
    uuid = _checked_uuid(row.uuid)
    known = _known(session, row, macs)
    changes = _changes(row)
    if known is None:
        view = hosts.create_host(
            session,
            name=row.name,
            macs=macs,
            group=changes.pop("group", None),
            state=changes.pop("state", "approved"),
            uuid=uuid,
            serial=changes.pop("serial", ""),
            actor=actor,
        )
        if changes:
            hosts.update_host(session, view.name, actor=actor, **changes)
        return ImportedHost(line=row.line, host=view.name, result="new")
    before = hosts.get_host(session, known.name)
    if set(macs) - set(before.macs):
        changes["macs"] = [*before.macs, *macs]
    given = {"group": before.group, "state": before.state, "serial": before.serial}
    given["reserved_address"] = before.reserved_address
    changes = {name: value for name, value in changes.items() if given.get(name, NOTHING) != value}
    if row.name != before.name:
        changes["name"] = row.name
    if row.uuid and uuid != before.uuid:
        changes["uuid"] = uuid
    after = hosts.update_host(session, before.name, actor=actor, **changes)
    was = before.name if before.name != after.name else ""
    return ImportedHost(
        line=row.line, host=after.name, result="same" if after == before else "changed", was=was
    )


def _known(session: Session, row: HostRow, macs: list[str]) -> Host | None:
    by_name = session.exec(select(Host).where(Host.name == row.name)).first()
    owners = set(session.exec(select(HostMac.host_id).where(col(HostMac.mac).in_(macs))).all())
    if by_name is not None and by_name.id is not None:
        owners.add(by_name.id)
    if len(owners) > 1:
        names = ", ".join(lookup.names_of(session, Host, owners).values())
        raise Conflict(f"The name and the MAC addresses of this line belong to several hosts: {names}.")
    return session.get(Host, owners.pop()) if owners else None


def _changes(row: HostRow) -> dict[str, Any]:
    cells = {"group": row.group, "reserved_address": row.address, "serial": row.serial, "state": row.state}
    changes: dict[str, Any] = {name: text for name, text in cells.items() if text and text != NOTHING}
    changes |= {name: None if name == "group" else "" for name, text in cells.items() if text == NOTHING}
    if changes.get("state") == "":
        raise Invalid("A host has a state: pending, approved or blocked.")
    return changes


def _checked_uuid(text: str) -> str:
    if not text or text == NOTHING:
        return ""
    if not lookup.normal_uuid(text):
        raise Invalid(f"{text!r} is no SMBIOS UUID of one machine.")
    return lookup.normal_uuid(text)
