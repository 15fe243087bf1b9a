"""Who uses which script, file drop and secret: nothing that is used can be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlmodel import Session, select

from pxeboot.db.models import Group, Host, Image
from pxeboot.errors import Invalid
from pxeboot.services import lookup
from pxeboot.services.customise_rules import CustomiseRules, stored

Row = Image | Group | Host
KINDS = ("image", "group", "host")


class User(NamedTuple):
    """An image, group or host that says something."""

    kind: str
    row: Row
    rules: CustomiseRules

    def __str__(self) -> str:
        return f"{self.kind} {self.row.name}"


def row(session: Session, kind: str, name: str) -> Row:
    """The image, group or host of this name. NotFound; Invalid for another kind."""
    if kind == "image":
        return lookup.image(session, name)
    if kind == "group":
        return lookup.group(session, name)
    if kind == "host":
        return lookup.host(session, name)
    raise Invalid(f"{kind!r} says nothing about deployed systems; an image, a group or a host does.")


def users(session: Session) -> Iterator[User]:
    """All that say something, images first."""
    rows: list[Row] = [
        *session.exec(select(Image).order_by(Image.name)).all(),
        *session.exec(select(Group).order_by(Group.name)).all(),
        *session.exec(select(Host).order_by(Host.name)).all(),
    ]
    for found in rows:
        if found.customise:
            yield User(type(found).__name__.lower(), found, stored(found.customise))


def users_of(session: Session, kind: str, name: str) -> list[str]:
    """Who names this script (`scripts`) or file (`files`): "group B204", …"""
    return [
        str(user) for user in users(session) if any(use.name == name for use in getattr(user.rules, kind))
    ]


def users_of_secret(session: Session, name: str) -> list[str]:
    """Who names this secret as it stands. (A name with a variable in it may mean it, too.)"""
    return [str(user) for user in users(session) if name in secrets_of(user.rules)]


def secrets_of(rules: CustomiseRules) -> list[str]:
    """The names of secrets that rules mention, unfilled."""
    join = rules.windows.join
    named = [join.password, join.blob] if join else []
    named += [secret for use in rules.scripts for secret in use.secrets.values()]
    return sorted({name for name in named if name})
