"""Schedules: clocks that jump, daemons that were off, two that see the same due run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pxeboot.errors import Invalid, NotFound
from pxeboot.services import groups, operations, schedules
from pxeboot.services.views import OperationRequest, ScheduleView
from tests.plane import NOW, Plane

REQUEST = OperationRequest(kind="deploy", group="B204", image="debian")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def make(plane: Plane, **values: Any) -> ScheduleView:
    with plane.write() as session:
        return schedules.create_schedule(
            session, name="nightly", request=values.pop("request", REQUEST), actor="ada", now=NOW, **values
        )


def run(plane: Plane, id: int, now: datetime) -> str | None:
    with plane.write() as session:
        return schedules.run(session, id, settings=plane.settings, now=now)


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # 2027-03-28, 02:00 → 03:00 in Paris: a job inside the skipped hour runs right after it, once.
        ("30 2 * * *", "2027-03-27 12:00", "2027-03-28 01:00"),
        ("30 2 * * *", "2027-03-28 01:00", "2027-03-29 00:30"),
        # 2027-10-31, 03:00 → 02:00: a job inside the repeated hour runs once.
        ("30 2 * * *", "2027-10-30 12:00", "2027-10-31 00:30"),
        ("30 2 * * *", "2027-10-31 00:30", "2027-11-01 01:30"),
        # The same wall clock is another hour of UTC in winter and summer.
        ("0 6 * * 1-5", "2027-01-08 12:00", "2027-01-11 05:00"),
        ("0 6 * * 1-5", "2027-07-09 12:00", "2027-07-12 04:00"),
    ],
)
def test_daylight_saving(cron: str, after: str, expected: str) -> None:
    assert schedules.next_run(cron, "Europe/Paris", utc(after)) == utc(expected)


def test_a_single_run_starts_once(plane: Plane) -> None:
    plane.room(1)
    made = make(plane, at=NOW + timedelta(minutes=1))
    assert run(plane, made.id, NOW) is None  # not yet
    with plane.read() as session:
        assert schedules.due(session, now=NOW + timedelta(minutes=2)) == [made.id]
    started = run(plane, made.id, NOW + timedelta(minutes=2))
    assert started is not None
    assert run(plane, made.id, NOW + timedelta(minutes=2)) is None
    with plane.read() as session:
        after = schedules.get_schedule(session, made.id)
        operation = operations.get(session, started)
    assert (after.next_run_at, after.last_operation_id) == (None, started)
    assert (operation.schedule_id, operation.created_by) == (made.id, "schedule nightly")


def test_a_wall_clock_time_is_read_in_its_zone(plane: Plane) -> None:
    plane.room(1)
    made = make(plane, at=datetime(2027, 7, 1, 6, 30), zone="Europe/Paris")
    assert made.next_run_at == utc("2027-07-01 04:30")


def test_a_missed_run_is_made_up_for_within_a_quarter_of_an_hour(plane: Plane) -> None:
    plane.room(1)
    made = make(plane, cron="0 13 * * *")
    assert run(plane, made.id, utc("2026-11-23 13:14")) is not None


def test_a_run_missed_by_more_is_skipped_with_an_event(plane: Plane) -> None:
    plane.room(1)
    made = make(plane, cron="0 13 * * *")
    assert run(plane, made.id, utc("2026-11-23 13:16")) is None
    with plane.read() as session:
        after = schedules.get_schedule(session, made.id)
        assert operations.list_operations(session).items == []
    assert "missed by 16 min" in after.last_error
    assert after.next_run_at == utc("2026-11-24 13:00")
    assert "schedule.skipped" in plane.heard.kinds


def test_what_goes_wrong_is_kept_and_the_next_run_stays(plane: Plane) -> None:
    plane.room(1)
    made = make(plane, cron="0 13 * * *")
    with plane.write() as session:
        groups.update_group(session, "B204", name="B205")
    assert run(plane, made.id, utc("2026-11-23 13:00")) is None
    with plane.read() as session:
        after = schedules.get_schedule(session, made.id)
    assert "no group 'B204'" in after.last_error
    assert after.next_run_at == utc("2026-11-24 13:00")
    assert "schedule.failed" in plane.heard.kinds


def test_a_disabled_schedule_is_not_due(plane: Plane) -> None:
    plane.room(1)
    made = make(plane, cron="0 13 * * *")
    with plane.write() as session:
        schedules.update_schedule(session, made.id, enabled=False, now=NOW)
    with plane.read() as session:
        assert schedules.due(session, now=NOW + timedelta(days=2)) == []
    assert run(plane, made.id, NOW + timedelta(days=2)) is None


def test_mistakes_are_named(plane: Plane) -> None:
    plane.room(1)
    tomorrow = NOW + timedelta(days=1)
    for values in (
        {},
        {"at": tomorrow, "cron": "0 6 * * *"},
        {"at": NOW - timedelta(minutes=1)},
        {"cron": "61 * * * *"},
        {"cron": "0 6 30 2 *"},
        {"cron": "0 6 * * *", "zone": "Europe/Atlantis"},
    ):
        with pytest.raises(Invalid):
            make(plane, **values)
    with pytest.raises(NotFound):
        make(plane, at=tomorrow, request=OperationRequest(kind="deploy", group="B204", image="nothing"))
