"""The token bucket keeps its rate, does not catch up for long, and hears that it should stop."""

from __future__ import annotations

import pytest

from imaging.store.pace import Pace
from tests.imaging.store.samples import FakeTime


def test_so_many_bytes_a_second() -> None:
    time = FakeTime()
    pace = Pace(1000, clock=time.clock, sleep=time.sleep)
    for _ in range(100):
        assert pace.take(100)
    assert time.now == pytest.approx(10, abs=0.6)


def test_a_pause_is_not_caught_up() -> None:
    time = FakeTime()
    pace = Pace(1000, clock=time.clock, sleep=time.sleep)
    pace.take(100)
    time.now = 1000
    for _ in range(100):
        pace.take(100)
    assert time.now == pytest.approx(1010, abs=0.7)


def test_without_a_rate_nobody_waits() -> None:
    time = FakeTime()
    for rate in (None, 0):
        assert all(Pace(rate, clock=time.clock, sleep=time.sleep).take(1 << 30) for _ in range(9))
    assert time.now == 0


def test_stop_is_heard_within_half_a_second_of_a_long_wait() -> None:
    time = FakeTime()
    pace = Pace(1, lambda: time.now > 3, clock=time.clock, sleep=time.sleep)
    assert pace.take(100)
    assert not pace.take(100)
    assert 3 < time.now <= 3.5
