"""`/api/v1/schedules`: when operations start."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Response

from api.v1.deps import Admin, Cursor, Limit, ServicesDep, Viewer
from api.v1.schemas import ScheduleCreate, ScheduleUpdate
from pxeboot.errors import Invalid
from pxeboot.services import schedules
from pxeboot.services.views import Page, ScheduleView

router = APIRouter(tags=["schedules"])


@router.get("/schedules", operation_id="listSchedules")
def list_schedules(
    these: ServicesDep, who: Viewer, limit: Limit = 50, cursor: Cursor = None
) -> Page[ScheduleView]:
    """By next run."""
    with these.read() as session:
        return schedules.list_schedules(session, cursor=cursor, limit=limit)


@router.post("/schedules", status_code=201, operation_id="createSchedule")
def create_schedule(these: ServicesDep, who: Admin, body: ScheduleCreate, response: Response) -> ScheduleView:
    """Start an operation once at a time, or again and again by cron."""
    with these.write() as session:
        view = schedules.create_schedule(
            session,
            name=body.name,
            request=body.operation,
            at=in_zone(body.at, body.zone) if body.at else None,
            cron=body.cron or "",
            zone=body.zone,
            actor=who.name,
            now=datetime.now(UTC),
        )
    response.headers["Location"] = f"/api/v1/schedules/{view.id}"
    return view


@router.get("/schedules/{schedule}", operation_id="getSchedule")
def get_schedule(these: ServicesDep, who: Viewer, schedule: int) -> ScheduleView:
    """One schedule."""
    with these.read() as session:
        return schedules.get_schedule(session, schedule)


@router.patch("/schedules/{schedule}", operation_id="updateSchedule")
def update_schedule(these: ServicesDep, who: Admin, schedule: int, body: ScheduleUpdate) -> ScheduleView:
    """Rename it, or switch it on or off."""
    with these.write() as session:
        return schedules.update_schedule(
            session, schedule, actor=who.name, now=datetime.now(UTC), **body.model_dump(exclude_unset=True)
        )


@router.delete("/schedules/{schedule}", status_code=204, operation_id="deleteSchedule")
def delete_schedule(these: ServicesDep, who: Admin, schedule: int) -> None:
    """Delete it; operations it started stay."""
    with these.write() as session:
        schedules.delete_schedule(session, schedule, actor=who.name)


def in_zone(at: datetime, zone: str) -> datetime:
    """A time without an offset is wall-clock time in `zone`. Invalid for an unknown zone."""
    if at.tzinfo is not None:
        return at
    try:
        return at.replace(tzinfo=ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Invalid(f"There is no time zone {zone!r}; use an IANA name like Europe/Paris.") from error
