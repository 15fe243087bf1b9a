"""Groups: sets of hosts, with the template that names their newcomers and the image a reset gives them."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, select, update

from pxeboot.db.models import Group, Host, Operation, OperationState
from pxeboot.errors import Conflict, Invalid
from pxeboot.services import boot_rules, dhcp_settings, lookup
from pxeboot.services.present import group_views
from pxeboot.services.unit import changed, note
from pxeboot.services.views import GroupView, Page


def list_groups(
    session: Session, *, q: str = "", cursor: str | None = None, limit: int = 50
) -> Page[GroupView]:
    """Groups by name."""
    lookup.checked_limit(limit)
    query = select(Group).order_by(Group.name).limit(limit + 1)
    if q:
        query = query.where(col(Group.name).like(lookup.like(q), escape="\\"))
    if cursor:
        query = query.where(Group.name > lookup.read_cursor(cursor, str)[0])
    rows = session.exec(query).all()
    items = group_views(session, rows[:limit])
    return Page(items=items, next_cursor=lookup.make_cursor(items[-1].name) if len(rows) > limit else None)


def get_group(session: Session, key: str | int) -> GroupView:
    """One group by name or id. NotFound(group) with the nearest names."""
    return group_views(session, [lookup.group(session, key)])[0]


def create_group(
    session: Session,
    *,
    name: str,
    description: str = "",
    name_template: str = "",
    image: str | None = None,
    actor: str = "",
) -> GroupView:
    """Conflict when the name is taken; Invalid for a template without #; NotFound(image)."""
    row = Group(
        name=_free_name(session, name),
        description=description,
        name_template=lookup.checked_template(name_template) if name_template else "",
        image_id=lookup.image(session, image).id if image else None,
    )
    session.add(row)
    session.flush()
    note(session, "api", "group.created", f"Group {row.name} was made" + (f" by {actor}." if actor else "."))
    changed(session, "group", row.id)
    return group_views(session, [row])[0]


def update_group(session: Session, key: str | int, *, actor: str = "", **changes: Any) -> GroupView:
    """Change `name`, `description`, `name_template`, `image`, `boot`, `dhcp_options` (only those given).

    Of boot rules and options only the keys given are changed; None takes one away, or (for all of them)
    everything.
    """
    row = lookup.group(session, key)
    unknown = set(changes) - {"name", "description", "name_template", "image", "boot", "dhcp_options"}
    if unknown:
        raise Invalid(f"A group has no field {sorted(unknown)[0]!r} that can be changed.")
    if "name" in changes and changes["name"] != row.name:
        row.name = _free_name(session, str(changes["name"]), row)
    if "description" in changes:
        row.description = str(changes["description"] or "")
    if "name_template" in changes:
        template = str(changes["name_template"] or "")
        row.name_template = lookup.checked_template(template) if template else ""
    if "image" in changes:
        row.image_id = lookup.image(session, changes["image"]).id if changes["image"] else None
    done: list[str] = []
    if "boot" in changes:
        done.append(boot_rules.change(session, row, changes["boot"]))
    if "dhcp_options" in changes:
        done.append(dhcp_settings.change_options(row, changes["dhcp_options"]))
    session.add(row)
    session.flush()
    by, what = f" by {actor}" if actor else "", ", ".join(filter(None, done))
    note(
        session,
        "api",
        "group.changed",
        f"Group {row.name} was changed{by}" + (f": {what}." if what else "."),
    )
    changed(session, "group", row.id)
    return group_views(session, [row])[0]


def delete_group(session: Session, key: str | int, *, actor: str = "") -> None:
    """Remove a group; its hosts stay, in no group. Conflict while an operation on it runs."""
    row = lookup.group(session, key)
    running = session.exec(
        select(Operation).where(Operation.group_id == row.id, Operation.state == OperationState.RUNNING)
    ).first()
    if running:
        raise Conflict(
            f"Operation {running.id} on group {row.name} still runs; cancel it or wait for its end.",
            operation=running.id,
        )
    session.execute(update(Host).where(col(Host.group_id) == row.id).values(group_id=None))
    session.execute(update(Operation).where(col(Operation.group_id) == row.id).values(group_id=None))
    name, id = row.name, row.id
    session.delete(row)
    session.flush()
    note(session, "api", "group.deleted", f"Group {name} was deleted" + (f" by {actor}." if actor else "."))
    changed(session, "group", id)


def _free_name(session: Session, name: str, own: Group | None = None) -> str:
    wanted = lookup.checked_name(name, "group")
    taken = session.exec(select(Group).where(Group.name == wanted)).first()
    if taken is not None and (own is None or taken.id != own.id):
        raise Conflict(f"There is a group {wanted} already; choose another name.", name=wanted)
    return wanted
