"""How long it still takes."""

from __future__ import annotations

import pytest

from pxeboot.transfer.eta import Progress, latest


def test_from_the_rate_of_the_last_while() -> None:
    progress = Progress()
    assert progress.seconds_left(100) is None
    for second in range(11):
        progress.saw(float(second), second * 5)
    assert progress.rate() == 5
    assert progress.seconds_left(100) == 10
    assert progress.seconds_left(50) == 0


def test_too_early_to_say() -> None:
    progress = Progress()
    progress.saw(0.0, 0)
    progress.saw(1.0, 10)
    assert progress.seconds_left(100) is None


def test_what_stands_still_has_no_end() -> None:
    progress = Progress()
    for second in range(5):
        progress.saw(float(second), second)
    for second in range(5, 25):
        progress.saw(float(second), 4)
    assert progress.seconds_left(100) is None


def test_an_old_speed_is_forgotten() -> None:
    progress = Progress()
    for second in range(100):
        progress.saw(float(second), second * 100)
    for second in range(100, 160):
        progress.saw(float(second), 9900 + (second - 99))
    assert progress.rate() == pytest.approx(1)


def test_another_stage_begins_anew() -> None:
    progress = Progress()
    for second in range(10):
        progress.saw(float(second), second * 100)
    progress.saw(10.0, 0)
    assert progress.seconds_left(100) is None


def test_a_room_is_done_with_its_last() -> None:
    assert latest([3.0, 8.0]) == 8
    assert latest([3.0, None]) is None
    assert latest([]) is None
