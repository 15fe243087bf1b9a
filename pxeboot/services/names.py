"""How hosts get a name: one that is free, or the next one of a template."""

from __future__ import annotations

from sqlmodel import Session, col, select

from pxeboot.db.models import Host
from pxeboot.errors import Conflict
from pxeboot.services import lookup


def next_name(session: Session, template: str) -> str:
    """The first free name of a template: `B204-##` → `B204-01`; digits grow past the template's width.
    Invalid without #."""
    lookup.checked_template(template)
    before, after = template.split("#", 1)[0], template.rsplit("#", 1)[1]
    width = template.count("#")
    taken = set(
        session.exec(
            select(Host.name).where(
                col(Host.name).like(before.replace("_", r"\_") + "%" + after.replace("_", r"\_"), escape="\\")
            )
        ).all()
    )
    taken_lower = {name.lower() for name in taken}
    number = 1
    while (name := f"{before}{number:0{width}d}{after}").lower() in taken_lower:
        number += 1
    return lookup.checked_name(name, "host")


def free_name(session: Session, name: str, own: Host | None = None) -> str:
    """`name`, if no other host than `own` has it. Invalid for a bad one, Conflict for a taken one."""
    wanted = lookup.checked_name(name, "host")
    # Host names are compared without case (RFC 4343), so are ours.
    taken = session.exec(
        select(Host).where(col(Host.name).ilike(wanted.replace("_", r"\_"), escape="\\"))
    ).first()
    if taken is not None and (own is None or taken.id != own.id):
        raise Conflict(f"The name {taken.name} is taken; choose another one.", name=taken.name)
    return wanted
