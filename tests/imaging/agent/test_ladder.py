"""Which way chunks come."""

import pytest

from imaging.agent.ladder import way_of


@pytest.mark.parametrize(
    ("connections", "ready", "alone", "moving", "way"),
    [
        (0, True, False, True, ("multicast", 0)),  # multicast does it alone
        (4, True, False, True, ("peers", 0)),
        (2, True, False, True, ("peers", 0)),  # beside a stream of which too much is lost
        (4, True, True, True, ("http", 0)),  # alone in its swarm: the server gives, and notes what
        (4, True, False, False, ("http", 2)),  # neighbours give nothing: both
        (1, True, False, False, ("http", 1)),
        (4, False, True, True, ("http", 4)),  # no part in any swarm
    ],
)
def test_the_ladder(connections: int, ready: bool, alone: bool, moving: bool, way: tuple[str, int]) -> None:
    assert way_of(connections, ready=ready, alone=alone, moving=moving) == way
