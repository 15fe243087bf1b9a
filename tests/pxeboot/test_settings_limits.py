"""Limits by time of day, as people write them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from pxeboot.settings.limits import holding, parse_cap, parse_limit, parse_rate

PARIS = ZoneInfo("Europe/Paris")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=PARIS)


def test_office_hours() -> None:
    limit = parse_limit("mon-fri 08:00-18:00 100 Mbit/s")
    assert (limit.rate, limit.span, limit.interface) == (100e6, "08:00-18:00", "")
    assert limit.holds(at("2026-11-23T08:00"))  # a Monday
    assert limit.holds(at("2026-11-27T17:59"))
    assert not limit.holds(at("2026-11-27T18:00"))
    assert not limit.holds(at("2026-11-28T12:00"))


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    limit = parse_limit("eth2 fri 22:00-06:00 1.5 Gbit/s")
    assert (limit.rate, limit.interface) == (1.5e9, "eth2")
    assert limit.holds(at("2026-11-27T23:00"))
    assert limit.holds(at("2026-11-28T05:59"))
    assert not limit.holds(at("2026-11-27T05:00"))


def test_days() -> None:
    assert parse_limit("sat-mon 00:00-24:00 1 Mbit/s").days == {5, 6, 0}
    assert parse_limit("mon,wed 08:00-12:00 1 Mbit/s").days == {0, 2}
    assert len(parse_limit("08:00-12:00 500 kbit/s").days) == 7


def test_the_clock_of_the_zone_counts_also_when_it_is_put_back() -> None:
    """On 25 October 2026 03:00 is followed by 02:00 in Paris: the limit still begins at eight."""
    limit = parse_limit("08:00-18:00 100 Mbit/s")
    utc = ZoneInfo("UTC")
    morning = datetime(2026, 10, 25, 6, 30, tzinfo=utc).astimezone(PARIS)
    assert not limit.holds(morning)  # 07:30 in winter time
    assert limit.holds(datetime(2026, 10, 24, 6, 30, tzinfo=utc).astimezone(PARIS))


def test_several_may_hold_at_once() -> None:
    limits = [parse_limit("mon-fri 08:00-18:00 100 Mbit/s"), parse_limit("12:00-13:00 50 Mbit/s")]
    assert holding(limits, at("2026-11-23T12:30")) == limits
    assert holding(limits, at("2026-11-28T12:30")) == limits[1:]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("100 Mbit/s", "no times of day"),
        ("mon-fri 08:00-18:00", "not a rate"),
        ("mon-fri 08:00-18:00 100", "not a rate"),
        ("mon-fri 08:00-25:00 100 Mbit/s", "after 24:00"),
        ("08:00-08:00 100 Mbit/s", "same time"),
        ("eth1 eth2 08:00-09:00 100 Mbit/s", "a word too many"),
        ("a b c 08:00-09:00 100 Mbit/s", "no times of day"),
        ("08:00-09:00 1 kbit/s", "out of range"),
        ("08:00-09:00 -5 Mbit/s", "not a rate"),
    ],
)
def test_what_makes_no_sense_is_told(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_limit(text)


def test_caps() -> None:
    assert parse_cap("eth2 = 500 Mbit/s") == ("eth2", 500e6)
    assert parse_rate("2.5 gbit/s") == 2.5e9
    with pytest.raises(ValueError, match="names no interface"):
        parse_cap("500 Mbit/s")
