"""Classes of receivers and the rate, with reports made by hand."""

import itertools
from collections.abc import Callable

import pytest

from imaging.multicast.controller import RateController
from imaging.multicast.fitness import Fitness
from imaging.multicast.peers import Peer
from imaging.multicast.reports import ReceiverState, Report

CAP = 800e6


def run(
    loss: Callable[[int, float], float],
    hosts: int,
    seconds: float,
    backlog: Callable[[int, float], int] | None = None,
    controller: RateController | None = None,
) -> RateController:
    """Each host loses `loss(host, rate)` of what is sent at that rate; ``controller``: one that has seen
    another time of that many seconds already."""
    controller, start = (RateController(CAP), 0.0) if controller is None else (controller, seconds)
    peers = [Peer("x", 0.0) for _ in range(hosts)]
    totals = [[0.0, 0.0] for _ in range(hosts)]
    now, number = start, 0
    while now < start + seconds:
        now += 0.1
        number += 1
        sent = controller.rate * 0.1 / 12304
        for host, peer in enumerate(peers):
            gone = loss(host, controller.rate)
            totals[host][0] += sent * (1 - gone)
            totals[host][1] += sent * gone
            full = backlog(host, controller.rate) if backlog else 0
            received, lost = (int(n) for n in totals[host])
            report = Report(
                1, host, number, 0, received, lost, 5, full, ReceiverState.RECEIVING, 0, 5, 31, ()
            )
            peer.hear(report, now)
        controller.look(peers, now)
    return controller


def narrow(capacity: float) -> Callable[[int, float], float]:
    return lambda host, rate: max(0.0, 1 - capacity / rate)


def test_without_trouble_the_rate_is_the_configured_one() -> None:
    assert run(lambda host, rate: 0.0, 8, 20).rate == CAP


@pytest.mark.parametrize("share", [0.001, 0.01, 0.02, 0.05, 0.2])
def test_losses_that_do_not_answer_to_the_rate_do_not_keep_it_down(share: float) -> None:
    assert run(lambda host, rate: share, 8, 20).rate == pytest.approx(CAP, rel=0.02)


@pytest.mark.parametrize("capacity", [20e6, 100e6, 500e6, 790e6])
@pytest.mark.parametrize("hosts", [1, 3, 30])
def test_a_narrower_link_gives_the_rate(capacity: float, hosts: int) -> None:
    assert run(narrow(capacity), hosts, 30).rate == pytest.approx(capacity, rel=0.05)


def test_a_moment_of_trouble_is_made_up_for() -> None:
    # Nine tenths lost for half a second, as when a machine does not get its processor.
    steps = itertools.count()
    found = run(lambda host, rate: 0.9 if 50 < next(steps) < 56 else 0.0, 1, 15)
    assert found.congestions in (1, 2)
    assert found.rate == CAP


def test_a_narrow_link_is_not_tried_out_all_the_time() -> None:
    found = run(narrow(100e6), 8, 60)
    assert found.congestions < 20


def test_a_link_that_was_narrow_for_a_while_is_used_again_within_a_minute() -> None:
    found = run(narrow(20e6), 8, 60)
    assert found.rate < 25e6
    assert run(lambda host, rate: 0.0, 8, 60, controller=found).rate == CAP


def test_a_few_in_trouble_do_not_slow_the_others() -> None:
    assert run(lambda host, rate: 0.6 if host < 9 else 0.0, 30, 20).rate == CAP
    assert run(lambda host, rate: 0.6 if host == 0 else 0.0, 2, 20).rate == CAP


def test_a_third_in_trouble_do() -> None:
    behind = narrow(100e6)
    found = run(lambda host, rate: behind(host, rate) if host < 10 else 0.0, 30, 20)
    assert found.rate == pytest.approx(100e6, rel=0.05)


def test_full_disks_slow_the_stream_until_they_are_not() -> None:
    found = run(lambda host, rate: 0.0, 4, 60, lambda host, rate: 900 if rate > 300e6 else 100)
    assert 0.8 * 300e6 < found.rate < 1.05 * 300e6


def test_never_below_the_floor_and_never_above_the_cap() -> None:
    controller = run(narrow(1e6), 3, 30)
    assert controller.rate >= CAP / 64
    controller.limit(5e6)
    assert controller.rate <= 5e6


def test_slow_after_five_seconds_and_healthy_after_five_more() -> None:
    fitness, received, lost, now = Fitness(), 0, 0, 0.0
    changes = []
    for step in range(400):
        now = step / 10
        bad = 5 <= now < 20
        received, lost = received + (80 if bad else 100), lost + (20 if bad else 0)
        if fitness.measure(received, lost, 0, now):
            changes.append((round(now), fitness.slow))
    assert changes == [(10, True), (25, False)]


def test_a_short_trouble_is_no_class() -> None:
    fitness = Fitness()
    for step in range(200):
        assert not fitness.measure(step * 100, 0, 1000 if 5 <= step / 10 < 9 else 0, step / 10)
