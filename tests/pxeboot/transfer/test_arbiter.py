"""Who may send how fast: weights, limits, and nothing left unused."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.transfer.arbiter import Demand, Limits, next_wish, share

GIGABIT = Limits(interfaces={"eth1": 950e6, "eth2": 100e6})


def rates(demands: list[Demand], limits: Limits = GIGABIT) -> dict[str, float]:
    return {key: round(grant.rate / 1e6, 3) for key, grant in share(demands, limits).items()}


def test_one_alone_has_the_link() -> None:
    (grant,) = share([Demand("a", "eth1")], GIGABIT).values()
    assert (grant.rate, grant.bound) == (950e6, "interface")


def test_two_share_it_and_interfaces_do_not_meddle() -> None:
    demands = [Demand("a", "eth1", "A"), Demand("b", "eth1", "B"), Demand("c", "eth2", "C")]
    assert rates(demands) == {"a": 475, "b": 475, "c": 100}


def test_what_one_cannot_use_the_others_get() -> None:
    demands = [Demand("a", "eth1", "A", wish=50e6), Demand("b", "eth1", "B"), Demand("c", "eth1", "C")]
    given = share(demands, GIGABIT)
    assert rates(demands) == {"a": 50, "b": 450, "c": 450}
    assert given["a"].bound == "demand"


def test_the_limit_of_an_operation_holds_for_all_its_streams_together() -> None:
    demands = [Demand("a", "eth1", "A"), Demand("a-http", "eth1", "A"), Demand("b", "eth1", "B")]
    limits = Limits(interfaces={"eth1": 950e6}, operations={"A": 100e6})
    given = share(demands, limits)
    assert rates(demands, limits) == {"a": 50, "a-http": 50, "b": 850}
    assert given["a"].bound == "operation"
    assert given["b"].bound == "interface"


def test_a_second_stream_gives_an_operation_no_second_share() -> None:
    demands = [Demand("a", "eth1", "A"), Demand("a-http", "eth1", "A"), Demand("b", "eth1", "B")]
    assert rates(demands) == {"a": 237.5, "a-http": 237.5, "b": 475}


def test_a_second_stream_that_uses_little_takes_nothing_from_its_operation() -> None:
    demands = [Demand("a", "eth1", "A"), Demand("a-http", "eth1", "A", wish=19e6), Demand("b", "eth1", "B")]
    assert rates(demands) == {"a": 456, "a-http": 19, "b": 475}


def test_weights() -> None:
    demands = [Demand("a", "eth1", "A"), Demand("b", "eth1", "B")]
    limits = Limits(interfaces={"eth1": 1000e6}, weights={"A": 4.0})
    assert rates(demands, limits) == {"a": 800, "b": 200}


def test_the_time_of_day_limits_all_interfaces_together() -> None:
    demands = [Demand("a", "eth1", "A"), Demand("b", "eth2", "B")]
    limits = Limits(interfaces=GIGABIT.interfaces, timed=80e6, timed_interfaces={"eth2": 10e6})
    given = share(demands, limits)
    assert rates(demands, limits) == {"a": 70, "b": 10}
    assert {grant.bound for grant in given.values()} == {"time"}


def test_the_ceiling_of_a_session_is_told_as_such() -> None:
    (grant,) = share([Demand("a", "eth1", ceiling=900e6)], GIGABIT).values()
    assert (grant.rate, grant.bound) == (900e6, "session")


def test_without_any_limit_there_is_none() -> None:
    (grant,) = share([Demand("a", "wlan0")], GIGABIT).values()
    assert grant.rate == inf
    assert share([], GIGABIT) == {}


@pytest.mark.parametrize(
    ("used", "granted", "wish"),
    [
        pytest.param(95.0, 100.0, inf, id="it uses what it has: it may want more"),
        pytest.param(40.0, 100.0, 50.0, id="it leaves the rest, but for room to grow"),
        pytest.param(0.0, 100.0, 2.0, id="idle: enough to begin with"),
    ],
)
def test_what_a_stream_wants_is_judged_by_what_it_used(used: float, granted: float, wish: float) -> None:
    assert next_wish(used, granted, 2.0) == wish


def test_a_stream_that_awakes_has_its_share_after_two_looks() -> None:
    """The idle one begins with what it keeps; used up, it is given its part at the next look."""
    sleeper, other = 19e6, inf
    for _ in range(2):
        demands = [Demand("s", "eth1", "S", wish=sleeper), Demand("o", "eth1", "O", wish=other)]
        given = share(demands, GIGABIT)
        sleeper = next_wish(given["s"].rate, given["s"].rate, 19e6)  # it sends all it may
    assert round(share([Demand("s", "eth1", "S", wish=sleeper), demands[1]], GIGABIT)["s"].rate) == 475e6


_DEMANDS = st.lists(
    st.tuples(
        st.sampled_from(["eth1", "eth2"]), st.sampled_from("ABC"), st.floats(1e5, 2e9), st.floats(1e5, 2e9)
    ),
    min_size=1,
    max_size=12,
)


@given(_DEMANDS, st.floats(1e6, 1e9), st.floats(1e6, 1e9), st.sampled_from([0.25, 1.0, 4.0]))
def test_no_limit_is_exceeded_and_nothing_usable_is_left(
    rows: list[tuple[str, str, float, float]], timed: float, own: float, weight: float
) -> None:
    demands = [Demand(str(n), *row) for n, row in enumerate(rows)]
    limits = Limits(GIGABIT.interfaces, {"A": own}, timed, {"eth2": 60e6}, {"B": weight})
    given = share(demands, limits)

    def used(which: list[Demand]) -> float:
        return sum(given[one.key].rate for one in which)

    groups = [
        (timed, demands),
        (own, [one for one in demands if one.operation == "A"]),
        (950e6, [one for one in demands if one.interface == "eth1"]),
        (60e6, [one for one in demands if one.interface == "eth2"]),
    ]
    for capacity, members in groups:
        assert used(members) <= capacity * (1 + 1e-9) + 1
    for one in demands:
        satisfied = given[one.key].rate >= min(one.wish, one.ceiling) - 1
        full = any(
            one in members and used(members) >= capacity * (1 - 1e-9) - 1 for capacity, members in groups
        )
        assert satisfied or full
