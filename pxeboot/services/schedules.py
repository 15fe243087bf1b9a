"""Schedules: when operations start, once or by cron expression in an IANA zone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlmodel import Session

from pxeboot.services.views import OperationRequest, Page, ScheduleView


def next_run(cron: str, zone: str, after: datetime) -> datetime | None:
    """The next time (UTC) a cron expression fires in a zone, strictly after `after`. Invalid for a bad
    expression or zone.

    Daylight saving is cronsim's, which is Debian cron's: a wall-clock job inside the skipped hour runs
    once right after it,
    one inside the repeated hour runs once.
    """
    raise NotImplementedError


def list_schedules(session: Session, *, cursor: str | None = None, limit: int = 50) -> Page[ScheduleView]:
    """By next run, those that never run again last."""
    raise NotImplementedError


def get_schedule(session: Session, schedule_id: int) -> ScheduleView:
    """NotFound(schedule)."""
    raise NotImplementedError


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
    """Exactly one of `at` (aware) and `cron`. The request is checked now (its group, hosts and image
    must exist).

    Invalid for a time in the past, a bad cron expression or zone.
    """
    raise NotImplementedError


def update_schedule(
    session: Session, schedule_id: int, *, actor: str = "", now: datetime, **changes: Any
) -> ScheduleView:
    """Change `name`, `enabled`, `at`, `cron`, `zone`, `request` (only those given)."""
    raise NotImplementedError


def delete_schedule(session: Session, schedule_id: int, *, actor: str = "") -> None:
    """Remove it; operations it started stay."""
    raise NotImplementedError
