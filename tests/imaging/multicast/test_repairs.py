"""The account of repairs: exactly as many rows as the worst receiver needs, whenever the reports come."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.multicast.fec import blocks_of
from imaging.multicast.repairs import Repairs


def shape(symbols: int, blocks: int) -> tuple[int, int]:
    return symbols, blocks


class Hearer:
    """A receiver that lacks so many symbols of each block, and loses each `share` of the rows too."""

    def __init__(self, lacks: list[int], share: float, rng: random.Random) -> None:
        self.lacks, self.share, self.rng = lacks, share, rng
        self.highest = 0
        self.needed = [0] * len(lacks)  # the row after the last one that it needed

    def hear(self, sequence: int, number: int) -> None:
        self.highest = sequence
        row, block = divmod(number, len(self.lacks))
        if self.lacks[block]:
            self.needed[block] = row + 1
            self.lacks[block] -= self.rng.random() >= self.share


@settings(deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 30), st.floats(0, 0.4), st.sampled_from([40, 232, 300, 724]))
def test_no_row_is_sent_that_nobody_needs(seed: int, hosts: int, share: float, symbols: int) -> None:
    rng = random.Random(seed)
    blocks = blocks_of(symbols)
    repairs = Repairs(1.5)
    repairs.whole_sent(0, symbols, blocks, 100, 0.0)
    hearers = [Hearer([rng.randrange(12) for _ in range(blocks)], share, rng) for _ in range(hosts)]
    for hearer in hearers:
        hearer.highest = 100
    sequence, now = 101, 0.0
    rows: list[list[int]] = [[] for _ in range(blocks)]
    under_way: list[tuple[int, int]] = []
    reports: list[tuple[float, tuple[int, ...], int]] = []
    while any(any(hearer.lacks) for hearer in hearers) or under_way:
        now += 0.001
        # Someone speaks; what it says may be overtaken by what others say, and by what is being sent.
        for hearer in rng.sample(hearers, rng.randint(1, hosts)):
            if any(hearer.lacks):
                reports.append((now, tuple(hearer.lacks), hearer.highest))
        rng.shuffle(reports)
        while reports and rng.random() < 0.9:
            said, lacks, highest = reports.pop()
            if now - said < 0.01:  # others get lost
                repairs.ask(0, lacks, highest, now)
        if len(under_way) < 20 and (work := repairs.take(lambda _: shape(symbols, blocks), sequence, now)):
            for number in work[1]:
                rows[number % blocks].append(number // blocks)
                under_way.append((sequence, number))
                sequence += 1
        for _ in range(rng.randint(0, len(under_way))):
            first = under_way.pop(0)
            for hearer in hearers:
                hearer.hear(*first)
    for block in range(blocks):
        assert rows[block] == list(range(max(hearer.needed[block] for hearer in hearers)))


def test_a_row_goes_out_once_though_the_chunk_goes_out_whole_again() -> None:
    repairs = Repairs(1.5)
    repairs.whole_sent(5, 200, 1, 200, 0.0)
    repairs.ask(5, (3,), 200, 0.1)
    assert repairs.take(lambda _: (200, 1), 201, 0.1) == (5, [0, 1, 2])
    repairs.whole_sent(5, 200, 1, 500, 2.0)
    repairs.ask(5, (2,), 500, 2.1)
    assert repairs.take(lambda _: (200, 1), 501, 2.1) == (5, [3, 4])


def test_what_is_known_of_a_chunk_after_its_hold_is_little() -> None:
    repairs = Repairs(1.5)
    repairs.whole_sent(5, 200, 1, 200, 0.0)
    repairs.ask(5, (3,), 200, 0.1)
    repairs.take(lambda _: (200, 1), 201, 0.1)
    assert repairs.held == 1 << 5
    repairs.release(1.7)
    assert (repairs.held, repairs.next_release) == (0, None)
    # Nothing of it can be on its way any more.
    repairs.ask(5, (2,), 200, 1.8)
    assert repairs.take(lambda _: (200, 1), 900, 1.8) == (5, [3, 4])
