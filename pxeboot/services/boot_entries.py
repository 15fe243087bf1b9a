"""Entries that administrators add to the boot menus: in order, checked, and never without a way to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, or_, select

from pxeboot.boot.rules import ENTRY_KINDS, MenuEntry, RuleError, check_entry, check_key, check_name
from pxeboot.db.models import BootEntry, Group, Host
from pxeboot.errors import Conflict, Invalid
from pxeboot.services import entry_passwords, lookup
from pxeboot.services.boot_rules import refused
from pxeboot.services.present import entry_views
from pxeboot.services.unit import changed, note
from pxeboot.services.views import BootEntryView, Page

STEP = 10  # between positions, so that an entry fits between two others
FIELDS = (
    "name", "title", "kind", "params", "group", "firmware",
    "position", "enabled", "hidden", "key", "password",
)  # fmt: skip
CLEARABLE = frozenset({"params", "group", "firmware", "key", "password"})


def list_entries(
    session: Session, *, group: str | None = None, cursor: str | None = None, limit: int = 50
) -> Page[BootEntryView]:
    """Entries in the order of the menus; with `group` those its machines have (everybody's included)."""
    lookup.checked_limit(limit)
    query = select(BootEntry).order_by(col(BootEntry.position), BootEntry.name).limit(limit + 1)
    if group is not None:
        own = lookup.group(session, group).id
        query = query.where(or_(col(BootEntry.group_id).is_(None), col(BootEntry.group_id) == own))
    if cursor:
        position, name = lookup.read_cursor(cursor, int, str)
        query = query.where(
            or_(
                col(BootEntry.position) > position,
                (col(BootEntry.position) == position) & (col(BootEntry.name) > name),
            )
        )
    rows = session.exec(query).all()
    items = entry_views(session, rows[:limit])
    more = len(rows) > limit
    return Page(
        items=items, next_cursor=lookup.make_cursor(items[-1].position, items[-1].name) if more else None
    )


def get_entry(session: Session, key: str | int) -> BootEntryView:
    """One entry by name or id. NotFound(boot entry)."""
    return entry_views(session, [lookup.entry(session, key)])[0]


def create_entry(session: Session, *, actor: str = "", **values: Any) -> BootEntryView:
    """Add an entry; it goes last unless `position` is given. Members as in `FIELDS`.

    Invalid with the field for what cannot be meant; Conflict for a taken name or key; NotFound(group).
    """
    row = BootEntry(name="", title="", kind="")
    if values.get("position") is None:
        last = session.exec(select(BootEntry.position).order_by(col(BootEntry.position).desc())).first()
        values["position"] = (last or 0) + STEP
    _apply(session, row, values)
    session.add(row)
    session.flush()
    _tell(session, "boot-entry.created", f"Boot entry {row.name} was added", actor, row)
    return entry_views(session, [row])[0]


def update_entry(session: Session, entry: str | int, /, *, actor: str = "", **changes: Any) -> BootEntryView:
    """Change the members given; `params` replaces all of them, `password` None takes it away.

    A renamed entry stays the default of the hosts and groups it was the default of. Errors as `create_entry`.
    """
    row = lookup.entry(session, entry)
    before = row.name
    _apply(session, row, changes)
    if row.name != before:
        for user in _users(session, before):
            user.boot = {**user.boot, "default": f"entry:{row.name}"}
            session.add(user)
            changed(session, "group" if isinstance(user, Group) else "host", user.id)
    session.add(row)
    session.flush()
    what = ", ".join(name for name in FIELDS if name in changes)
    _tell(session, "boot-entry.changed", f"Boot entry {row.name} was changed ({what})", actor, row)
    return entry_views(session, [row])[0]


def delete_entry(session: Session, key: str | int, *, actor: str = "") -> None:
    """Remove an entry. Conflict while it is the default of a host or group: names them."""
    row = lookup.entry(session, key)
    users = [user.name for user in _users(session, row.name)]
    if users:
        names = ", ".join(users[:5]) + (" …" if len(users) > 5 else "")
        raise Conflict(
            f"{row.name} is what {names} boots by default; give it another default first.", users=users[:100]
        )
    session.delete(row)
    session.flush()
    _tell(session, "boot-entry.deleted", f"Boot entry {row.name} was removed", actor, row)


def move_entry(session: Session, key: str | int, up: bool, *, actor: str = "") -> None:
    """Change places with the entry before or after it in the menus."""
    row = lookup.entry(session, key)
    rows = list(session.exec(select(BootEntry).order_by(col(BootEntry.position), BootEntry.name)).all())
    index = rows.index(row)
    other = index - 1 if up else index + 1
    if not 0 <= other < len(rows):
        return
    rows[index], rows[other] = rows[other], rows[index]
    for number, each in enumerate(rows, start=1):
        each.position = number * STEP
        session.add(each)
    session.flush()
    _tell(session, "boot-entry.changed", f"Boot entry {row.name} was moved", actor, row)


def seen_by(session: Session, group_id: int | None) -> Sequence[BootEntry]:
    """The enabled entries of everybody and of this group (None: of nobody's), in the order of the menus."""
    query = select(BootEntry).where(BootEntry.enabled).order_by(col(BootEntry.position), BootEntry.name)
    everybody = col(BootEntry.group_id).is_(None)
    mine = everybody if group_id is None else or_(everybody, col(BootEntry.group_id) == group_id)
    return session.exec(query.where(mine)).all()


def menu_entries(session: Session, group_id: int | None) -> tuple[MenuEntry, ...]:
    """What `decide` needs of them; it leaves out those that the firmware cannot start."""
    return tuple(
        MenuEntry(
            name=row.name,
            title=row.title,
            kind=row.kind,
            params={key: str(value) for key, value in row.params.items()},
            firmware=row.firmware,
            hidden=row.hidden,
            key=row.key,
            protected=bool(row.password_hash),
            grub_password=entry_passwords.for_grub(row.password_hash),
        )
        for row in seen_by(session, group_id)
    )


def _apply(session: Session, row: BootEntry, values: Mapping[str, Any]) -> None:
    unknown = set(values) - set(FIELDS)
    if unknown:
        raise Invalid(f"A boot entry has no field {sorted(unknown)[0]!r} that can be changed.")
    # What cannot be cleared stays as it is when None is given.
    values = {name: value for name, value in values.items() if value is not None or name in CLEARABLE}
    for name in ("kind", "firmware", "key"):
        if name in values:
            setattr(row, name, str(values[name] or ""))
    for name in ("enabled", "hidden"):
        if name in values:
            setattr(row, name, bool(values[name]))
    if "name" in values:
        row.name = _free_name(session, str(values["name"]).strip(), row)
    if "title" in values:
        row.title = _checked_title(str(values["title"]))
    if "position" in values:
        row.position = _checked_position(values["position"])
    if "group" in values:
        row.group_id = lookup.group(session, values["group"]).id if values["group"] else None
    if "params" in values:
        row.params = {key: text for key, text in (values["params"] or {}).items() if text not in ("", None)}
    if "password" in values:
        given = values["password"]  # None takes it away; an empty one is a mistake
        row.password_hash = "" if given is None else entry_passwords.sealed(given)
    try:
        check_key(row.key)
        check_entry(row.kind, row.params, row.firmware, protected=bool(row.password_hash))
    except RuleError as error:
        raise refused(error) from error
    row.firmware = row.firmware or ENTRY_KINDS[row.kind].firmware
    if row.hidden and not row.key:
        raise Invalid("A hidden entry is reached by its key alone: give it one.", field="key")
    _check_key_is_free(session, row)


def _check_key_is_free(session: Session, row: BootEntry) -> None:
    """No machine's menu may have two entries of one key."""
    if not row.key or not row.enabled:
        return
    with session.no_autoflush:
        others = session.exec(select(BootEntry).where(BootEntry.key == row.key, BootEntry.enabled)).all()
    for other in others:
        same_machines = row.group_id is None or other.group_id in (None, row.group_id)
        same_firmware = not row.firmware or other.firmware in ("", row.firmware)
        if other.id != row.id and same_machines and same_firmware:
            raise Conflict(
                f"The key {row.key} is {other.name}'s already; choose another one.",
                field="key",
                entry=other.name,
            )


def _free_name(session: Session, name: str, row: BootEntry) -> str:
    try:
        check_name(name)
    except RuleError as error:
        raise refused(error) from error
    with session.no_autoflush:
        taken = session.exec(select(BootEntry).where(BootEntry.name == name)).first()
    if taken is not None and taken.id != row.id:
        raise Conflict(f"There is a boot entry {name} already; choose another name.", field="name", name=name)
    return name


def _checked_title(text: str) -> str:
    title = text.strip()
    if not 1 <= len(title) <= 60 or not title.isprintable():
        raise Invalid("The title of a boot entry is one line of 1 to 60 characters.", field="title")
    return title


def _checked_position(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100_000:
        return value
    raise Invalid(f"position = {value!r} is no place in the menu; choose 0 to 100000.", field="position")


def _users(session: Session, name: str) -> list[Host | Group]:
    """The groups and hosts whose default is this entry."""
    rule = f"entry:{name}"
    groups = select(Group).where(col(Group.boot)["default"].as_string() == rule).order_by(Group.name)
    hosts = select(Host).where(col(Host.boot)["default"].as_string() == rule).order_by(Host.name)
    return [*session.exec(groups).all(), *session.exec(hosts).all()]


def _tell(session: Session, kind: str, sentence: str, actor: str, row: BootEntry) -> None:
    note(session, "api", kind, sentence + (f" by {actor}." if actor else "."), data={"entry": row.name})
    changed(session, "boot_entry", row.id)
