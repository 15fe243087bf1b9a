"""How fast a host gives to its neighbours: by a clock that the test turns."""

from __future__ import annotations

import pytest

from imaging.peers.pace import PIECE, Pace

DATA = bytes(range(256)) * 4096  # 1 MiB


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pace(clock: Clock, rate: float | None) -> Pace:
    return Pace(rate, clock, clock.sleep)


def test_without_a_rate_all_goes_at_once(clock: Clock) -> None:
    (piece,) = pace(clock, None).pieces(DATA)
    assert (bytes(piece), clock.now) == (DATA, 100.0)


def test_the_rate_is_held_and_no_piece_is_long(clock: Clock) -> None:
    one = pace(clock, 10e6)
    for _ in range(3):
        pieces = list(one.pieces(DATA))
        assert b"".join(pieces) == DATA
        assert max(map(len, pieces)) == PIECE
    assert clock.now - 100 == pytest.approx(3 * len(DATA) * 8 / 10e6, rel=0.05)


def test_two_neighbours_share_it_piece_by_piece(clock: Clock) -> None:
    one = pace(clock, 10e6)
    first, second = one.pieces(DATA), one.pieces(DATA)
    for _ in range(8):
        next(first)
        next(second)
    assert clock.now - 100 == pytest.approx(15 * PIECE * 8 / 10e6, rel=0.1)


def test_a_pause_is_not_made_up_for(clock: Clock) -> None:
    one = pace(clock, 10e6)
    list(one.pieces(DATA))
    clock.now += 60
    begun = clock.now
    list(one.pieces(DATA))
    assert clock.now - begun == pytest.approx(len(DATA) * 8 / 10e6, rel=0.2)


def test_no_rate_is_no_rate(clock: Clock) -> None:
    with pytest.raises(ValueError, match="above 0"):
        pace(clock, 0)
