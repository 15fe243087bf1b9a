"""What to ask whom: one host's decisions, without a network."""

import random

from imaging.peers.choose import GIVE_UP, PER_PEER, Address, Ask, Chooser, Result
from imaging.peers.news import Holdings, parse

A, B = ("10.0.0.2", 1), ("10.0.0.3", 1)


def tell(chooser: Chooser, address: Address, indexes: list[int], now: float = 0.0, epoch: int = 1) -> None:
    holdings = Holdings(chooser.count, epoch)
    for index in indexes:
        holdings.add(index)
    chooser.heard(address, parse(holdings.since(0, 0), chooser.count), now)


def room(count: int = 100, **have: list[int]) -> Chooser:
    chooser = Chooser(count, random.Random(1))
    names = {"a": A, "b": B}
    chooser.listed(names[name] for name in have)
    for name, indexes in have.items():
        tell(chooser, names[name], indexes)
    chooser.want(range(count))
    return chooser


def asks(chooser: Chooser, now: float = 0.0) -> list[Ask]:
    found = []
    while (ask := chooser.next(now)) is not None:
        found.append(ask)
    return found


def test_what_no_neighbour_has_is_asked_of_the_server_and_the_rest_of_neighbours() -> None:
    chooser = room(10, a=[0, 1, 2, 3, 4])
    server, *others = asks(chooser)
    assert server.peer is None
    assert set(server.indexes) == {5, 6, 7, 8, 9}
    assert [ask.peer for ask in others] == [A] * PER_PEER
    assert {ask.indexes[0] for ask in others} <= {0, 1, 2, 3, 4}
    assert len({ask.indexes for ask in others}) == PER_PEER  # nothing is asked for twice


def test_nothing_wanted_is_nothing_asked() -> None:
    chooser = room(4, a=[0, 1, 2, 3])
    for index in range(4):
        chooser.settled(index)
    assert asks(chooser) == []


def test_the_rarest_comes_first() -> None:
    chooser = room(20, a=list(range(20)), b=[index for index in range(20) if index != 13])
    of_a = [ask for ask in asks(chooser) if ask.peer == A]
    assert 13 in {ask.indexes[0] for ask in of_a}


def test_requests_spread_over_neighbours() -> None:
    chooser = room(a=list(range(100)), b=list(range(100)))
    assert [ask.peer for ask in asks(chooser)][:2] in ([A, B], [B, A])


def test_a_busy_neighbour_is_asked_again_soon_a_silent_one_later_and_later() -> None:
    chooser = room(2, a=[0, 1])
    ask = chooser.next(0.0)
    assert ask is not None
    chooser.ended(ask, Result.BUSY, 0.0)
    assert chooser.next(0.1) is None
    again = chooser.next(0.5)
    assert again is not None
    chooser.ended(again, Result.FAILED, 0.5, "timed out")
    assert all(ask.peer is None for ask in asks(chooser, 1.1))
    assert any(ask.peer == A for ask in asks(chooser, 2.5))


def test_a_neighbour_that_fails_again_and_again_is_given_up_and_reported() -> None:
    chooser = room(a=list(range(100)))
    now = 0.0
    for _ in range(GIVE_UP):
        now += 60
        ask = next(ask for ask in asks(chooser, now) if ask.peer == A)
        chooser.ended(ask, Result.FAILED, now, "timed out")
    assert chooser.reports == [(A, "timed out")]
    assert all(ask.peer is None for ask in asks(chooser, now + 1000))


def test_a_neighbour_that_was_away_and_is_named_again_starts_anew_a_liar_does_not() -> None:
    chooser = room(4, a=[0, 1, 2, 3], b=[0, 1, 2, 3])
    for _ in range(GIVE_UP):
        chooser.failed(chooser.neighbours[A], 0.0, "refused")
    chooser.failed(chooser.neighbours[B], 0.0, "hash", lied=True)
    chooser.listed([])
    chooser.listed([A, B])
    assert {ask.peer for ask in asks(chooser, 100.0)} == {A}


def test_a_liar_is_asked_no_more_and_the_server_is_asked_instead() -> None:
    chooser = room(3, a=[0, 1, 2])
    ask = chooser.next(0.0)
    assert ask is not None
    assert ask.peer == A  # no need of the server
    chooser.ended(ask, Result.LIED, 0.0, "hash")
    chooser.listed([A])  # the server does not know yet
    (instead,) = asks(chooser, 1000.0)
    assert instead.peer is None
    assert set(instead.indexes) == {0, 1, 2}
    assert chooser.reports == [(A, "hash")]


def test_a_chunk_that_a_neighbour_has_lost_is_sought_elsewhere() -> None:
    chooser = room(1, a=[0])
    ask = chooser.next(0.0)
    assert ask is not None
    chooser.ended(ask, Result.MISSING, 0.0)
    (instead,) = asks(chooser)
    assert instead == Ask(None, (0,))


def test_a_neighbour_that_the_server_names_no_more_is_left() -> None:
    chooser = room(a=list(range(100)))
    chooser.listed([B])
    assert all(ask.peer is None for ask in asks(chooser))


def test_a_neighbour_that_was_restarted_is_believed_anew() -> None:
    chooser = room(10, a=[0, 1, 2])
    tell(chooser, A, [7], epoch=2)
    assert {ask.indexes for ask in asks(chooser) if ask.peer == A} == {(7,)}


def test_the_server_is_asked_one_at_a_time_and_left_alone_when_it_has_nothing() -> None:
    chooser = room(100)
    (ask,) = asks(chooser)
    assert len(ask.indexes) == 64
    chooser.ended(ask, Result.BUSY, 0.0)
    assert asks(chooser, 0.1) == []
    chooser.server_connections = 3
    several = asks(chooser, 1.0)
    assert len(several) == 3
    assert len({index for ask in several for index in ask.indexes}) == 100  # no two share a candidate
    for ask in several:
        chooser.ended(ask, Result.OK, 1.0, index=ask.indexes[0])
    chooser.server_connections = 0
    assert asks(chooser, 9.0) == []


def test_news_are_due_after_a_while_and_not_of_those_who_fail() -> None:
    chooser = room(a=[1], b=[2])
    assert chooser.stale(0.2) == []
    chooser.failed(chooser.neighbours[B], 0.6, "refused")
    assert [peer.address for peer in chooser.stale(0.7)] == [A]


def test_a_large_image_is_chosen_from_without_looking_at_every_chunk() -> None:
    # 500 GB. The figure is not a time: 200 requests, each of them a few operations on whole bitmaps.
    chooser = Chooser(500_000, random.Random(3))
    chooser.listed([A])
    tell(chooser, A, list(range(0, 500_000, 1000)))
    chooser.want(range(500_000))
    for _ in range(200):
        ask = chooser.next(0.0)
        assert ask is not None
        chooser.ended(ask, Result.OK, 0.0, index=ask.indexes[0])
        chooser.settled(ask.indexes[0])
