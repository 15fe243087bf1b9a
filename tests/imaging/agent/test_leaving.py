"""When a session is left for the other ways, and when it is tried again."""

from __future__ import annotations

import random

from imaging.agent.leaving import FIRST_SECONDS, TRIAL_SECONDS, TRIES, Leaving
from imaging.multicast.thread import ReceiverStatus

WELL = ReceiverStatus(heard=True)
LOSSY = ReceiverStatus(heard=True, loss=0.4)  # but not for long enough
SLOW = ReceiverStatus(heard=True, loss=0.4, slow=True)
SLOW_DISK = ReceiverStatus(heard=True, slow=True)


def leaving(seed: int = 1) -> Leaving:
    return Leaving(random.Random(seed))


def until_back(one: Leaving, now: float) -> float:
    """When it is back, looked at ten times a second."""
    while one.out(None, now):
        now += 0.1
        assert now < 10_000
    return now


def test_who_hears_the_stream_stays() -> None:
    one = leaving()
    assert not any(one.out(status, now) for now in range(60) for status in (WELL, LOSSY, None))
    assert not one.on_trial(60)


def test_who_loses_too_much_of_it_for_long_leaves_and_so_does_who_finishes_no_chunk() -> None:
    assert leaving().out(SLOW, 0)
    assert leaving().out(ReceiverStatus(heard=True, stalled=True), 0)


def test_who_hears_nothing_stays_a_member_for_only_so_it_learns_that_the_stream_is_back() -> None:
    one = leaving()
    for status in (
        ReceiverStatus(silent=True, loss=0.9, slow=True),
        ReceiverStatus(silent=True, stalled=True),
    ):
        assert not one.out(status, 0)


def test_who_is_too_slow_itself_stays_and_takes_what_it_can() -> None:
    one = leaving()
    assert not any(one.out(SLOW_DISK, now) for now in range(60))


def test_it_comes_back_with_jitter_and_the_other_ways_go_on_while_it_tries() -> None:
    backs = set()
    for seed in range(8):
        one = leaving(seed)
        assert one.out(SLOW, 100)
        assert not one.on_trial(100)
        back = until_back(one, 100)
        assert FIRST_SECONDS <= back - 100 <= 2 * FIRST_SECONDS + 0.2
        assert one.on_trial(back)
        assert not one.on_trial(back + TRIAL_SECONDS)
        backs.add(round(back, 1))
    assert len(backs) > 4


def test_a_second_time_it_does_not_wait_for_long_and_then_stays_away_for_longer() -> None:
    one = leaving()
    one.out(SLOW, 0)
    back = until_back(one, 0)
    assert not one.out(WELL, back)
    assert not one.out(LOSSY, back + 1)
    assert not one.out(LOSSY, back + 2)
    assert not one.out(WELL, back + 2.5)  # a burst of losses is not yet much
    assert not one.out(LOSSY, back + 3)
    assert one.out(LOSSY, back + 5)
    assert until_back(one, back + 5) - (back + 5) >= 2 * FIRST_SECONDS


def test_it_does_not_try_for_ever() -> None:
    one = leaving()
    now = 0.0
    for _ in range(TRIES):
        assert one.out(SLOW, now)
        now = until_back(one, now)
    assert one.out(SLOW, now)
    assert one.out(WELL, now + 100_000)
