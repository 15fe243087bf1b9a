"""The arithmetic of the simulations, and small rooms within 15 % of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from imaging.multicast.channels import bursty_loss, independent_loss
from tests.bench.simulation import KNOWN, Scene, ideal, resending, sampled, simulate
from tests.bench.simulation_load import report_load
from tests.bench.simulation_picture import Bar, picture

#: Of the design's parity table, by 4,000 to 10,000 trials: hosts, symbols, extra at 0.1, 1 and 5 %.
TABLE = [
    (30, 64, 0.0142, 0.0426, 0.121),
    (30, 128, 0.0093, 0.0320, 0.100),
    (30, 200, 0.0072, 0.0270, 0.090),
    (30, 720, 0.0040, 0.0185, 0.072),
    (10, 720, 0.003, 0.016, 0.067),
    (100, 720, 0.005, 0.021, 0.076),
    (200, 720, 0.006, 0.022, 0.079),
]


@pytest.mark.parametrize(("hosts", "symbols", "rare", "usual", "heavy"), TABLE)
def test_our_arithmetic_is_that_of_the_table(
    hosts: int, symbols: int, rare: float, usual: float, heavy: float
) -> None:
    rounding = 0.0006 if hosts != 30 else 0.0002
    assert ideal(hosts, 0.001, symbols) == pytest.approx(rare, abs=rounding)
    assert ideal(hosts, 0.01, symbols) == pytest.approx(usual, abs=rounding)
    assert ideal(hosts, 0.05, symbols) == pytest.approx(heavy, abs=0.0008)


def test_what_sending_again_would_cost() -> None:
    assert resending(30, 0.001) == pytest.approx(0.0296, abs=0.0001)
    assert resending(30, 0.01) == pytest.approx(0.263, abs=0.001)
    assert resending(30, 0.05) == pytest.approx(0.862, abs=0.001)


def test_trials_say_what_the_formula_says() -> None:
    assert sampled(10, independent_loss(0.05), 1, 100, 200) == pytest.approx(ideal(10, 0.05, 100), rel=0.05)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("seed", [1, 2])
def test_thirty_hosts_cost_what_the_table_says(share: float, seed: int) -> None:
    room = Scene("", 30, share, ideal(30, share, 200), independent_loss(share), chunks=100)
    outcome = simulate(room, seed)
    assert outcome.extra == pytest.approx(KNOWN[30, share], rel=0.15)
    assert outcome.extra < 1.15 * outcome.least
    assert outcome.resent == 0


@pytest.mark.parametrize("symbols", [200, 232])
def test_three_hundred_hosts_that_lose_much_cost_the_least_possible(symbols: int) -> None:
    least = ideal(300, 0.05, symbols)
    room = Scene("", 300, 0.05, least, independent_loss(0.05), symbols=symbols, chunks=12)
    outcome = simulate(room)
    assert outcome.extra < 1.15 * least
    assert outcome.resent == 0


def test_losses_in_bursts_and_losses_shared_by_all() -> None:
    bursts = bursty_loss(0.01, 8)
    outcome = simulate(Scene("", 30, 0.01, sampled(30, bursts, 1, 200, 100), bursts, chunks=100))
    assert outcome.extra < 1.15 * outcome.least
    shared = simulate(Scene("", 30, 0.02, 0.02 / 0.98, shared=independent_loss(0.02), chunks=100))
    assert shared.extra == pytest.approx(0.02 / 0.98, rel=0.15)


def test_the_same_seed_is_the_same_outcome() -> None:
    room = Scene("", 20, 0.03, ideal(20, 0.03, 200), independent_loss(0.03), chunks=10)
    first, again, other = (simulate(room, seed) for seed in (4, 4, 5))
    assert (first.extra, first.peak, first.seconds) == (again.extra, again.peak, again.seconds)
    assert first.seconds != other.seconds


def test_reports_are_made_as_receivers_make_them() -> None:
    # It checks that the sender took every one of them.
    assert 150 < report_load(50, 100).size < 400


def test_the_picture_tells_all_it_was_told() -> None:
    bars = [Bar("30 hosts", "1.0%", 0.0271, 0.027, 0.0275), Bar("300 hosts", "1.0%", 0.036, 0.0359, None)]
    root = ET.fromstring(picture(bars))
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"30 hosts", "300 hosts", "2.7%", "3.6%", "least possible"} <= set(texts)
