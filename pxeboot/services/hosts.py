"""Hosts: who they are, which state and group they are in, and how they get a name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, delete, or_, select

from pxeboot.db.models import (
    AgentCredential,
    BootToken,
    Event,
    Group,
    Host,
    HostMac,
    HostState,
    Task,
)
from pxeboot.errors import Conflict, Invalid, Unauthorized
from pxeboot.services import boot_rules, dhcp_settings, lookup, tokens
from pxeboot.services.names import free_name, next_name
from pxeboot.services.present import host_view, host_views
from pxeboot.services.task_states import ACTIVE
from pxeboot.services.unit import changed, note
from pxeboot.services.views import HostView, Page
from pxeboot.settings import Settings

CHANGEABLE = frozenset(
    {"name", "group", "image", "state", "macs", "uuid", "serial", "boot", "reserved_address", "dhcp_options"}
)


def list_hosts(
    session: Session,
    *,
    state: str | None = None,
    group: str | None = None,
    q: str = "",
    cursor: str | None = None,
    limit: int = 50,
) -> Page[HostView]:
    """Hosts by name. `group` "" means those in no group; `q` looks in name, MAC, serial, UUID, product,
    address. limit 1..500.

    NotFound(group); Invalid for a cursor that is not ours.
    """
    lookup.checked_limit(limit)
    query = select(Host).order_by(Host.name).limit(limit + 1)
    if state is not None:
        query = query.where(Host.state == checked_state(state))
    if group == "":
        query = query.where(col(Host.group_id).is_(None))
    elif group is not None:
        query = query.where(Host.group_id == lookup.group(session, group).id)
    if q:
        pattern = lookup.like(q)
        texts = (Host.name, Host.serial, Host.uuid, Host.product, Host.manufacturer, Host.address)
        with_mac = select(HostMac.host_id).where(
            col(HostMac.mac).like(lookup.like(q.lower().replace("-", ":")), escape="\\")
        )
        query = query.where(
            or_(*(col(text).like(pattern, escape="\\") for text in texts), col(Host.id).in_(with_mac))
        )
    if cursor:
        query = query.where(Host.name > lookup.read_cursor(cursor, str)[0])
    rows = session.exec(query).all()
    items = host_views(session, rows[:limit])
    return Page(items=items, next_cursor=lookup.make_cursor(items[-1].name) if len(rows) > limit else None)


def get_host(session: Session, key: str | int) -> HostView:
    """One host by name, id, MAC (any usual spelling) or SMBIOS UUID. NotFound(host) with the nearest
    names."""
    return host_view(session, lookup.host(session, key))


def find_by_identity(session: Session, mac: str, uuid: str = "") -> HostView | None:
    """The host that has this MAC, else (network card replaced) the only one with this SMBIOS UUID in either
    reading, else None."""
    row = identify(session, mac, uuid)
    return host_view(session, row) if row else None


def create_host(
    session: Session,
    *,
    name: str,
    macs: Sequence[str],
    group: str | None = None,
    image: str | None = None,
    state: str = "approved",
    uuid: str = "",
    serial: str = "",
    actor: str = "",
) -> HostView:
    """Add a host by hand. Conflict when the name or a MAC is taken (says by whom); Invalid for a bad
    name or MAC."""
    wanted = [lookup.checked_mac(mac) for mac in macs]
    if not wanted and not uuid:
        raise Invalid("A host needs at least one MAC address.", field="macs")
    row = Host(
        name=free_name(session, name),
        state=checked_state(state),
        group_id=lookup.group(session, group).id if group else None,
        image_id=lookup.image(session, image).id if image else None,
        uuid=lookup.normal_uuid(uuid),
        serial=serial.strip(),
    )
    session.add(row)
    session.flush()
    _set_macs(session, row, wanted)
    by = f" by {actor}" if actor else ""
    note(
        session, "api", "host.created", f"Host {row.name} was added{by}.", host_id=row.id, mac=_first(wanted)
    )
    changed(session, "host", row.id, host_id=row.id)
    return host_view(session, row)


def update_host(session: Session, key: str | int, *, actor: str = "", **changes: Any) -> HostView:
    """Change those of `CHANGEABLE` that are given.

    None clears group, image, reserved address, all boot rules and all options; of boot rules and options only
    the keys given are changed, None takes one away.
    """
    row = lookup.host(session, key)
    unknown = set(changes) - CHANGEABLE
    if unknown:
        raise Invalid(f"A host has no field {sorted(unknown)[0]!r} that can be changed.")
    done: list[str] = []
    if "name" in changes and changes["name"] != row.name:
        old, row.name = row.name, free_name(session, str(changes["name"]), row)
        done.append(f"renamed from {old}")
    if "group" in changes:
        row.group_id = lookup.group(session, changes["group"]).id if changes["group"] else None
        done.append(f"group {changes['group'] or 'none'}")
    if "image" in changes:
        row.image_id = lookup.image(session, changes["image"]).id if changes["image"] else None
        done.append(f"image {changes['image'] or 'none'}")
    if "serial" in changes:
        row.serial = str(changes["serial"] or "").strip()
        done.append("serial number")
    if "uuid" in changes:
        row.uuid = lookup.normal_uuid(str(changes["uuid"] or ""))
        done.append("SMBIOS UUID")
    if "state" in changes and checked_state(str(changes["state"])) != row.state:
        row.state = checked_state(str(changes["state"]))
        done.append(row.state.value)
    if "macs" in changes:
        wanted = [lookup.checked_mac(mac) for mac in changes["macs"] or []]
        if not wanted and not row.uuid:
            raise Invalid("A host needs at least one MAC address.", field="macs")
        _set_macs(session, row, wanted)
        done.append("MAC addresses")
    if "boot" in changes:
        done.append(boot_rules.change(session, row, changes["boot"]))
    if "reserved_address" in changes:
        done.append(dhcp_settings.reserve(session, row, changes["reserved_address"]))
    if "dhcp_options" in changes:
        done.append(dhcp_settings.change_options(row, changes["dhcp_options"]))
    done = [what for what in done if what]
    session.add(row)
    session.flush()
    if done:
        by = f" by {actor}" if actor else ""
        note(
            session,
            "api",
            "host.changed",
            f"Host {row.name} was changed{by}: {', '.join(done)}.",
            host_id=row.id,
        )
        changed(session, "host", row.id, host_id=row.id)
    return host_view(session, row)


def approve_hosts(session: Session, names: Sequence[str | int], *, actor: str = "") -> list[HostView]:
    """Let these hosts be given tasks; already approved ones stay so. NotFound before anything is
    changed."""
    rows = [lookup.host(session, name) for name in names]
    for row in rows:
        if row.state == HostState.APPROVED:
            continue
        row.state = HostState.APPROVED
        session.add(row)
        by = f" by {actor}" if actor else ""
        note(session, "api", "host.approved", f"Host {row.name} was approved{by}.", host_id=row.id)
        changed(session, "host", row.id, host_id=row.id)
    session.flush()
    return host_views(session, rows)


def set_group(
    session: Session, names: Sequence[str | int], group: str | None, *, actor: str = ""
) -> list[HostView]:
    """Put hosts into a group, or (None) into none."""
    target = lookup.group(session, group) if group else None
    rows = [lookup.host(session, name) for name in names]
    for row in rows:
        row.group_id = target.id if target else None
        session.add(row)
        by = f" by {actor}" if actor else ""
        where = f"into group {target.name}" if target else "out of its group"
        note(session, "api", "host.grouped", f"Host {row.name} was put {where}{by}.", host_id=row.id)
        changed(session, "host", row.id, host_id=row.id)
    session.flush()
    return host_views(session, rows)


def delete_host(session: Session, key: str | int, *, actor: str = "") -> None:
    """Forget a host, its MACs, tasks and journal. Conflict while it is busy with a task."""
    row = lookup.host(session, key)
    busy = session.exec(select(Task).where(Task.host_id == row.id, col(Task.state).in_(ACTIVE))).first()
    if busy:
        raise Conflict(
            f"{row.name} is busy ({busy.kind.value}, {busy.state.value}); "
            f"cancel operation {busy.operation_id} first.",
            host=row.name,
            operation=busy.operation_id,
        )
    for table, column in (
        (BootToken, BootToken.host_id),
        (AgentCredential, AgentCredential.host_id),
        (Task, Task.host_id),
        (Event, Event.host_id),
        (HostMac, HostMac.host_id),
    ):
        session.execute(delete(table).where(col(column) == row.id))
    name, id = row.name, row.id
    session.delete(row)
    session.flush()
    by = f" by {actor}" if actor else ""
    note(session, "api", "host.deleted", f"Host {name} was deleted{by}.")
    changed(session, "host", id, host_id=id)


def register(
    session: Session,
    credential: str,
    *,
    name: str | None,
    group: str | None,
    image: str | None,
    settings: Settings,
    now: datetime,
) -> HostView:
    """A machine at the PXE console asks to be known (agent plane). Its identity is the credential's,
    never its word.

    Without a name the next one of the group's template (or the setting's) is allotted in this transaction.
    Unauthorized for a credential that may not register; Conflict for a taken name; NotFound(group|image).
    """
    known = tokens.authenticate(session, credential, now=now)
    if not known.mode.startswith("register"):
        raise Unauthorized(
            "This boot was not for registering; choose registration in the boot menu.", "token-foreign"
        )
    row = identify(session, known.mac, str(known.inventory.get("uuid", "")))
    if row is not None and known.host_id == row.id:
        return host_view(session, row)  # the agent did not hear our first answer and asks again
    if row is not None:
        raise Conflict(f"This machine is already registered as {row.name}.", host=row.name)
    target = lookup.group(session, group) if group else None
    chosen = lookup.image(session, image) if image else None
    template = (target.name_template if target else "") or settings.registration.name_template
    row = Host(
        name=free_name(session, name) if name else next_name(session, template),
        state=HostState.APPROVED if settings.registration.auto_approve else HostState.PENDING,
        group_id=target.id if target else None,
        image_id=chosen.id if chosen else None,
        address=known.address,
        seen_at=now,
    )
    session.add(row)
    session.flush()
    _set_macs(session, row, [known.mac])
    note_inventory(session, row, known.inventory)
    tokens.bind(session, credential, host_id=row.id)
    waits = "" if row.state == HostState.APPROVED else "; it waits for approval"
    where = f" in group {target.name}" if target else ""
    note(
        session,
        "agent",
        "host.registered",
        f"{known.mac} was registered at its console as {row.name}{where}{waits}.",
        host_id=row.id,
        mac=known.mac,
        data={"mode": known.mode},
    )
    changed(session, "host", row.id, host_id=row.id)
    return host_view(session, row)


def note_seen(
    session: Session, mac: str, *, address: str = "", firmware: str = "", uuid: str = "", now: datetime
) -> None:
    """Remember that a machine was seen (nothing happens for an unknown one)."""
    row = identify(session, mac, uuid)
    if row is None:
        return
    row.seen_at = now
    row.address = address or row.address
    row.firmware = firmware or row.firmware
    session.add(row)


def identify(session: Session, mac: str, uuid: str = "") -> Host | None:
    """The row of `find_by_identity`."""
    normal = lookup.normal_mac(mac)
    if normal:
        found = session.exec(select(Host).join(HostMac).where(HostMac.mac == normal)).first()
        if found is not None:
            return found
    rows = lookup.by_uuid(session, uuid)
    # Cheap boards of one batch share a UUID: then it identifies nobody.
    return rows[0] if len(rows) == 1 else None


def note_inventory(session: Session, row: Host, inventory: dict[str, Any]) -> None:
    """Keep what an agent found out about the machine it runs on; adopt its other network cards' MACs."""
    row.inventory = inventory
    row.uuid = lookup.normal_uuid(str(inventory.get("uuid") or "")) or row.uuid
    for field in ("serial", "manufacturer", "product"):
        value = inventory.get(field)
        if isinstance(value, str) and value.strip():
            setattr(row, field, value.strip()[:200])
    if inventory.get("firmware") in ("bios", "uefi"):
        row.firmware = str(inventory["firmware"])
    if isinstance(inventory.get("secure_boot"), bool) or inventory.get("secure_boot") is None:
        row.secure_boot = inventory.get("secure_boot")
    session.add(row)
    session.flush()
    nics = inventory.get("nics")
    for nic in nics if isinstance(nics, list) else []:
        mac = lookup.normal_mac(str(nic.get("mac", ""))) if isinstance(nic, dict) else None
        # Docks and USB adapters wander between machines: a MAC stays with the host that had it first.
        if mac and not nic.get("wireless") and session.get(HostMac, mac) is None and not int(mac[:2], 16) & 1:
            session.add(HostMac(mac=mac, host_id=row.id or 0))
    session.flush()


def checked_state(text: str) -> HostState:
    """pending, approved or blocked. Invalid otherwise."""
    try:
        return HostState(text)
    except ValueError:
        raise Invalid(
            f"{text!r} is no state of a host; choose pending, approved or blocked.", field="state"
        ) from None


def group_members(session: Session, group: Group) -> Sequence[Host]:
    """Hosts of a group, by name."""
    return session.exec(select(Host).where(Host.group_id == group.id).order_by(Host.name)).all()


def _set_macs(session: Session, row: Host, macs: Sequence[str]) -> None:
    for mac in macs:
        other = session.get(HostMac, mac)
        if other is not None and other.host_id != row.id:
            owner = session.get(Host, other.host_id)
            raise Conflict(
                f"{mac} belongs to host {owner.name if owner else '?'} already.",
                mac=mac,
                host=owner.name if owner else "",
            )
    for old in session.exec(select(HostMac).where(HostMac.host_id == row.id)).all():
        if old.mac not in macs:
            session.delete(old)
    session.flush()
    for mac in dict.fromkeys(macs):
        if session.get(HostMac, mac) is None:
            session.add(HostMac(mac=mac, host_id=row.id or 0))
    session.flush()


def _first(macs: Sequence[str]) -> str:
    return macs[0] if macs else ""
