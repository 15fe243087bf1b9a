"""Schedules: when operations start, once or by cron expression in an IANA zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import ValidationError
from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from pxeboot.db.models import Operation, Schedule
from pxeboot.errors import AppError, Invalid, NotFound
from pxeboot.services import lookup, operations
from pxeboot.services.present import schedule_view
from pxeboot.services.unit import changed, note
from pxeboot.services.views import OperationRequest, Page, ScheduleView
from pxeboot.settings import Settings

LATE = timedelta(minutes=15)  # a run missed by more (the daemon was off) is skipped: the lesson has begun


def next_run(cron: str, zone: str, after: datetime) -> datetime | None:
    """The next time (UTC) a cron expression fires in a zone, strictly after `after`. Invalid for a bad
    expression or zone.

    Daylight saving is cronsim's, which is Debian cron's: a wall-clock job inside the skipped hour runs
    once right after it,
    one inside the repeated hour runs once.
    """
    place = _zone(zone)
    try:
        found = next(CronSim(cron, after.astimezone(place)), None)
    except CronSimError as error:
        raise Invalid(
            f"{cron!r} is not a cron expression ({error}); "
            "write minute hour day month weekday, like 30 6 * * 1-5.",
            field="cron",
        ) from error
    return found.astimezone(UTC) if found else None


def list_schedules(session: Session, *, cursor: str | None = None, limit: int = 50) -> Page[ScheduleView]:
    """By next run, those that never run again last."""
    lookup.checked_limit(limit)
    start = lookup.read_cursor(cursor, int)[0] if cursor else 0
    order = (col(Schedule.next_run_at).is_(None), col(Schedule.next_run_at), col(Schedule.id))
    rows = session.exec(select(Schedule).order_by(*order).offset(start).limit(limit + 1)).all()
    following = lookup.make_cursor(start + limit) if len(rows) > limit else None
    return Page(items=[schedule_view(row) for row in rows[:limit]], next_cursor=following)


def get_schedule(session: Session, schedule_id: int) -> ScheduleView:
    """NotFound(schedule)."""
    return schedule_view(_row(session, schedule_id))


def create_schedule(
    session: Session,
    *,
    name: str,
    request: OperationRequest,
    at: datetime | None = None,
    cron: str = "",
    zone: str = "UTC",
    actor: str,
    now: datetime,
) -> ScheduleView:
    """Exactly one of `at` (aware, or a wall clock's time in `zone`) and `cron`. The request is checked
    now (its group, hosts and image
    must exist).

    Invalid for a time in the past, a bad cron expression or zone.
    """
    operations.check(session, request)
    row = Schedule(
        name=name.strip()[:120] or f"{request.kind} {request.group or ', '.join(request.hosts[:3])}",
        kind=request.kind,
        request=request.model_dump(mode="json"),
        created_by=actor,
    )
    _set_times(row, at=at, cron=cron, zone=zone, now=now)
    session.add(row)
    session.flush()
    when = row.next_run_at.isoformat(timespec="minutes") if row.next_run_at else "never"
    note(
        session, "schedule", "schedule.created", f"Schedule {row.name} was made by {actor}; next run {when}."
    )
    changed(session, "schedule", row.id)
    return schedule_view(row)


def update_schedule(
    session: Session, schedule_id: int, *, actor: str = "", now: datetime, **changes: Any
) -> ScheduleView:
    """Change `name`, `enabled`, `at`, `cron`, `zone`, `request` (only those given)."""
    row = _row(session, schedule_id)
    unknown = set(changes) - {"name", "enabled", "at", "cron", "zone", "request"}
    if unknown:
        raise Invalid(f"A schedule has no field {sorted(unknown)[0]!r} that can be changed.")
    if "request" in changes:
        request = changes["request"]
        if not isinstance(request, OperationRequest):
            request = OperationRequest.model_validate(request)
        operations.check(session, request)
        row.request, row.kind = request.model_dump(mode="json"), request.kind
    if "name" in changes:
        row.name = str(changes["name"]).strip()[:120] or row.name
    if "enabled" in changes:
        row.enabled = bool(changes["enabled"])
    if {"at", "cron", "zone", "enabled"} & set(changes):
        at = changes.get("at", None if changes.get("cron") else row.at)
        cron = changes.get("cron", "" if changes.get("at") else row.cron)
        if at is not None and at <= now and not {"at", "cron"} & set(changes):
            row.next_run_at = None  # a single run that is over stays over, whatever else is changed
        else:
            _set_times(row, at=at, cron=cron or "", zone=changes.get("zone", row.zone), now=now)
    session.add(row)
    session.flush()
    note(
        session,
        "schedule",
        "schedule.changed",
        f"Schedule {row.name} was changed" + (f" by {actor}." if actor else "."),
    )
    changed(session, "schedule", row.id)
    return schedule_view(row)


def delete_schedule(session: Session, schedule_id: int, *, actor: str = "") -> None:
    """Remove it; operations it started stay."""
    row = _row(session, schedule_id)
    session.execute(update(Operation).where(col(Operation.schedule_id) == row.id).values(schedule_id=None))
    name = row.name
    session.delete(row)
    session.flush()
    note(
        session,
        "schedule",
        "schedule.deleted",
        f"Schedule {name} was deleted" + (f" by {actor}." if actor else "."),
    )
    changed(session, "schedule", schedule_id)


def due(session: Session, *, now: datetime) -> list[int]:
    """Ids of enabled schedules whose time has come."""
    rows = session.exec(
        select(Schedule.id)
        .where(col(Schedule.enabled), col(Schedule.next_run_at) <= now)
        .order_by(col(Schedule.next_run_at))
    ).all()
    return [id for id in rows if id is not None]


def run(
    session: Session,
    schedule_id: int,
    *,
    settings: Settings,
    now: datetime,
    allow: Callable[[OperationRequest], None] | None = None,
) -> str | None:
    """Start the operation of a due schedule, for exactly one caller; its id, None when there is nothing
    (left) to do.

    A run more than 15 minutes late is skipped with an event. What goes wrong is kept in `last_error` and
    the journal.
    """
    row = session.get(Schedule, schedule_id)
    if row is None or not row.enabled or row.next_run_at is None or row.next_run_at > now:
        return None
    planned = row.next_run_at
    following = next_run(row.cron, row.zone, now) if row.cron else None
    claimed = session.execute(
        update(Schedule)
        .where(col(Schedule.id) == schedule_id, col(Schedule.next_run_at) == planned)
        .values(next_run_at=following, last_run_at=now)
    )
    assert isinstance(claimed, CursorResult)
    if claimed.rowcount != 1:
        return None
    session.refresh(row)
    changed(session, "schedule", schedule_id)
    if now - planned > LATE:
        minutes = int((now - planned).total_seconds() // 60)
        row.last_error = (
            f"The run of {planned.isoformat(timespec='minutes')} was missed by {minutes} min and skipped."
        )
        session.add(row)
        note(
            session,
            "schedule",
            "schedule.skipped",
            f"{row.name}: {row.last_error}",
            data={"schedule": schedule_id},
        )
        return None
    try:
        with session.begin_nested():
            view = operations.start(
                session,
                OperationRequest.model_validate(row.request),
                actor=f"schedule {row.name}",
                settings=settings,
                schedule_id=schedule_id,
                now=now,
                allow=allow,
            )
    except (AppError, ValidationError) as error:
        row.last_error = error.sentence if isinstance(error, AppError) else str(error)
        session.add(row)
        note(
            session,
            "schedule",
            "schedule.failed",
            f"{row.name} could not start: {row.last_error}",
            data={"schedule": schedule_id},
        )
        return None
    row.last_operation_id, row.last_error = view.id, ""
    session.add(row)
    note(
        session,
        "schedule",
        "schedule.started",
        f"{row.name} started: {view.title}.",
        operation_id=view.id,
        data={"schedule": schedule_id},
    )
    return view.id


def _row(session: Session, schedule_id: int) -> Schedule:
    found = session.get(Schedule, schedule_id)
    if found is None:
        raise NotFound("schedule", schedule_id)
    return found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid(f"{name!r} is not a time zone; write it like Europe/Paris.", field="zone") from error


def _set_times(row: Schedule, *, at: datetime | None, cron: str, zone: str, now: datetime) -> None:
    if (at is None) == (not cron):
        raise Invalid(
            "A schedule runs either once (at) or by a cron expression (cron); give exactly one.", field="at"
        )
    place = _zone(zone)
    row.zone, row.cron = zone, cron
    if at is None:
        row.at, row.next_run_at = None, next_run(cron, zone, now)
        if row.next_run_at is None:
            raise Invalid(f"{cron!r} never comes true.", field="cron")
        return
    moment = (at if at.tzinfo else at.replace(tzinfo=place)).astimezone(UTC)
    if moment <= now:
        raise Invalid(
            f"{moment.isoformat(timespec='minutes')} is over already; choose a later time.", field="at"
        )
    row.at = row.next_run_at = moment
