"""What is needed, and by which way it comes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.agent.demand import Demand
from imaging.agent.fetch import CONNECTIONS
from imaging.agent.listen import http_connections, own_address
from imaging.multicast.thread import ReceiverStatus
from imaging.multicast.wire import SenderState


def test_a_chunk_belongs_to_one_thread_at_a_time() -> None:
    demand = Demand(2)
    assert demand.start_scan(0)
    assert not demand.claim(0)  # a frame that arrives while the chunk is being read is dropped
    assert not demand.start_scan(0)
    demand.end_scan(0, good=False)
    assert demand.wanted == 1
    assert demand.claim(0)
    assert demand.claim_next() is None
    demand.finish(0, good=True)
    assert demand.claim(1)  # not scanned yet, and already here
    assert not demand.start_scan(1)
    demand.finish(1, good=True)
    assert demand.complete


def test_all_wanted_chunks_are_taken_once_from_wherever_the_walk_starts() -> None:
    demand = Demand(50)
    demand.want_all()
    taken = [demand.claim_next() for _ in range(50)]
    assert sorted(index for index in taken if index is not None) == list(range(50))
    first = taken[0]
    assert first is not None
    assert taken == [*range(first, 50), *range(first)]  # disk order, wrapping round
    assert demand.claim_next() is None


class Ear:
    """A follower that remembers."""

    def __init__(self) -> None:
        self.wanted: list[int] = []
        self.done: list[int] = []

    def on_wanted(self, indexes: list[int]) -> None:
        self.wanted += indexes

    def on_done(self, index: int) -> None:
        self.done.append(index)


def test_followers_are_told_what_is_wanted_and_what_is_here() -> None:
    demand, ear, early = Demand(3), Ear(), Ear()
    demand.follow(early)
    demand.follow(ear)
    demand.unfollow(early)
    demand.start_scan(0)
    demand.end_scan(0, good=True)
    demand.start_scan(1)
    demand.end_scan(1, good=False)
    demand.want_all()
    demand.claim(2)
    demand.finish(2, good=False)  # came damaged: asked for again
    assert (ear.wanted, ear.done) == ([1, 2, 2], [0])
    assert (early.wanted, early.done) == ([], [])
    assert (demand.is_wanted(0), demand.is_wanted(2)) == (False, True)
    assert demand.open_indexes() == ([], [1, 2])


def test_what_multicast_cannot_bring_goes_first_over_http() -> None:
    demand = Demand(10)
    demand.want_all()
    assert demand.claim_urgent() is None
    demand.urge(7)
    assert demand.claim_urgent() == 7
    assert demand.claim_urgent() is None
    demand.finish(7, good=True)
    demand.urge(7)  # here already
    assert demand.claim_urgent() is None


def test_nobody_is_woken_for_a_chunk_that_is_right_until_it_is_the_last() -> None:
    demand, woken = Demand(3), list[int]()
    demand.changed.notify_all = lambda: woken.append(demand.done)  # type: ignore[method-assign]
    for index, good in ((0, True), (1, False), (2, True)):
        demand.start_scan(index)
        demand.end_scan(index, good=good)
    assert woken == [1]  # only for the one that is wanted
    demand.claim(1)
    demand.finish(1, good=True)
    assert woken == [1, 3]  # and when all is there


def test_only_some() -> None:
    demand = Demand(5)
    demand.only([1, 3])
    assert (demand.wanted, demand.done) == (2, 3)


@given(
    st.lists(
        st.tuples(st.sampled_from(["scan", "claim", "next", "urgent"]), st.integers(0, 7), st.booleans())
    )
)
def test_whatever_happens_the_counts_are_right(steps: list[tuple[str, int, bool]]) -> None:
    demand = Demand(8)
    here: set[int] = set()
    for what, index, good in steps:
        if what == "scan":
            if demand.start_scan(index):
                demand.end_scan(index, good)
                here |= {index} if good else set()
            continue
        got = index if what == "claim" and demand.claim(index) else None
        if what == "next":
            got = demand.claim_next()
        if what == "urgent":
            demand.urge(index)
            got = demand.claim_urgent()
        if got is not None:
            assert got not in here
            demand.finish(got, good)
            here |= {got} if good else set()
    assert demand.done == len(here)
    assert demand.complete == (len(here) == 8)


HEARD = ReceiverStatus(heard=True, sender=SenderState.SENDING)


@pytest.mark.parametrize(
    ("status", "wanted", "useless", "connections"),
    [
        (None, 5, 0, CONNECTIONS),  # no session
        (ReceiverStatus(), 5, 2, 0),  # just joined: three seconds to be heard
        (ReceiverStatus(silent=True), 5, 0, CONNECTIONS),
        (replace(HEARD, sender=SenderState.GATHERING), 5, 60, 0),  # the others are still coming
        (HEARD, 5, 1, 0),
        (HEARD, 5, 9, CONNECTIONS // 2),  # it sweeps, but not over what we want
        (HEARD, 0, 9, 0),  # nothing wanted, the scan goes on
        (replace(HEARD, stalled=True), 5, 0, CONNECTIONS // 2),
        (replace(HEARD, ended="the sender has stopped"), 5, 0, CONNECTIONS),
        (replace(HEARD, error="multicast receiver stopped"), 5, 0, CONNECTIONS),
    ],
)
def test_when_http_helps(
    status: ReceiverStatus | None, wanted: int, useless: float, connections: int
) -> None:
    assert http_connections(status, wanted, useless) == connections


def test_our_address_towards_the_server() -> None:
    assert own_address("127.0.0.1", 9001) == "127.0.0.1"
