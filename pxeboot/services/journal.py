"""Reading and keeping the journal (writing to it is `pxeboot.events.Journal`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, col, delete, func, or_, select

from pxeboot.db.models import Event, HostMac
from pxeboot.errors import NotFound
from pxeboot.events import Record
from pxeboot.services import lookup
from pxeboot.services.present import event_views
from pxeboot.services.views import EventView, Page


@dataclass(frozen=True)
class Whose:
    """The lines of one machine: those that name its host, and those of its MAC addresses, because what its
    firmware did before it was registered is known by MAC only."""

    host_id: int | None
    macs: frozenset[str]

    def has(self, host_id: int | None, mac: str) -> bool:
        """Whether a line belongs to it."""
        return (host_id is not None and host_id == self.host_id) or mac in self.macs


def whose(session: Session, key: str) -> Whose:
    """The machine with this name, id, MAC or UUID; also a MAC that nobody registered. NotFound(host)."""
    mac = lookup.normal_mac(key)
    try:
        row = lookup.host(session, key)
    except NotFound:
        if mac is None:
            raise
        return Whose(None, frozenset({mac}))
    macs = session.exec(select(HostMac.mac).where(HostMac.host_id == row.id)).all()
    return Whose(row.id, frozenset(macs))


def list_events(
    session: Session,
    *,
    host: str | None = None,
    mac: str | None = None,
    operation_id: str | None = None,
    plane: str | None = None,
    kind: str | None = None,
    after_id: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[EventView]:
    """Newest first; with `after_id` (for SSE's Last-Event-ID) oldest first from there on."""
    lookup.checked_limit(limit)
    query = select(Event)
    if host is not None:
        machine = whose(session, host)
        named = [col(Event.host_id) == machine.host_id] if machine.host_id is not None else []
        query = query.where(or_(*named, col(Event.mac).in_(machine.macs)))
    if mac is not None:
        query = query.where(Event.mac == (lookup.normal_mac(mac) or mac))
    if operation_id is not None:
        query = query.where(Event.operation_id == operation_id)
    if plane is not None:
        query = query.where(Event.plane == plane)
    if kind is not None:
        query = query.where(Event.kind == kind)
    if after_id is not None:
        rows = session.exec(query.where(col(Event.id) > after_id).order_by(col(Event.id)).limit(limit)).all()
        return Page(items=event_views(session, rows))
    if cursor:
        query = query.where(col(Event.id) < lookup.read_cursor(cursor, int)[0])
    rows = session.exec(query.order_by(col(Event.id).desc()).limit(limit + 1)).all()
    items = event_views(session, rows[:limit])
    return Page(items=items, next_cursor=lookup.make_cursor(items[-1].id) if len(rows) > limit else None)


def store(session: Session, records: Sequence[Record]) -> list[int]:
    """Write a batch of records; their row ids. A record that knows only a MAC is given the host it
    belongs to."""
    unknown = {record.mac for record in records if record.mac and record.host_id is None}
    owners: dict[str, int] = {}
    if unknown:
        rows = session.exec(select(HostMac.mac, HostMac.host_id).where(col(HostMac.mac).in_(unknown))).all()
        owners.update(rows)
    first = (session.exec(select(func.max(Event.id))).one() or 0) + 1
    values: list[dict[str, Any]] = [
        {
            "id": first + index,
            "at": record.at,
            "plane": record.plane,
            "kind": record.kind,
            "host_id": record.host_id or owners.get(record.mac),
            "mac": record.mac,
            "operation_id": record.operation_id,
            "task_id": record.task_id,
            "sentence": record.sentence,
            "data": record.data,
        }
        for index, record in enumerate(records)
    ]
    session.execute(insert(Event), values)
    return [value["id"] for value in values]


def prune(session: Session, *, keep_per_host: int, keep_days: int, now: datetime) -> int:
    """Forget what is too old or too much: per host, and as a whole for machines nobody registered."""
    before = session.exec(select(func.count()).select_from(Event)).one()
    session.execute(delete(Event).where(col(Event.at) < now - timedelta(days=keep_days)))
    crowded = session.exec(
        select(Event.host_id).group_by(col(Event.host_id)).having(func.count() > keep_per_host)
    ).all()
    for host_id in crowded:
        # Strangers share one allowance of ten hosts: a flood of made-up MACs must not fill the disk.
        keep = keep_per_host if host_id is not None else keep_per_host * 10
        edge = session.exec(
            select(Event.id)
            .where(col(Event.host_id) == host_id if host_id is not None else col(Event.host_id).is_(None))
            .order_by(col(Event.id).desc())
            .offset(keep)
            .limit(1)
        ).first()
        if edge is not None:
            session.execute(
                delete(Event).where(
                    col(Event.host_id) == host_id if host_id is not None else col(Event.host_id).is_(None),
                    col(Event.id) <= edge,
                )
            )
    return before - session.exec(select(func.count()).select_from(Event)).one()
