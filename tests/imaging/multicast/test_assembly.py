"""Chunks put together: whatever is missing comes back by as many parity symbols, of whatever rows."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.multicast import fec
from imaging.multicast.assembly import Assembly, Partial
from imaging.multicast.wire import symbols_of

SIZE = 8


def parity(frame: bytes, block: int, rows: list[int]) -> dict[int, bytes]:
    """Parity of a block by numbers, as a sender makes it."""
    symbols = [frame[i : i + SIZE].ljust(SIZE, b"\0") for i in range(0, len(frame), SIZE)]
    blocks = fec.blocks_of(len(symbols))
    made = fec.codec().encode(symbols[block::blocks], rows)
    return {row * blocks + block: symbol for row, symbol in zip(rows, made, strict=True)}


@settings(deadline=None)
@given(st.integers(1, 730), st.integers(0, 1 << 30), st.floats(0, 0.34), st.floats(0, 0.5))
def test_every_block_is_had_once_as_many_rows_came_as_symbols_were_lost(
    symbols: int, seed: int, lost: float, parity_lost: float
) -> None:
    rng = random.Random(seed)
    frame = rng.randbytes(symbols * SIZE - rng.randrange(SIZE))
    partial = Partial(len(frame), symbols)
    for place in range(symbols):
        if rng.random() >= lost:
            partial.add(place, [frame[place * SIZE : (place + 1) * SIZE].ljust(SIZE, b"\0")])
    # Row after row, some of which get lost, until nothing is missing: as few as that takes.
    for block, lacks in enumerate(partial.deficits()):
        rows = list(range(4 * lacks + 8))
        coming = parity(frame, block, rows) if lacks else {}
        took = 0
        for number, symbol in coming.items():
            if took < lacks and rng.random() >= parity_lost:
                assert not partial.complete
                assert partial.add_parity(number, symbol) == 1
                took += 1
        rest = parity(frame, block, list(range(1000, 1000 + lacks - took))) if took < lacks else {}
        for number, symbol in rest.items():
            assert partial.add_parity(number, symbol) == 1
    assert partial.complete
    assert partial.frame(fec.codec()) == frame


def test_parity_that_helps_nothing_is_not_kept() -> None:
    rng = random.Random(1)
    frame = rng.randbytes(300 * SIZE)
    partial = Partial(len(frame), 300)
    symbols = [frame[i : i + SIZE] for i in range(0, len(frame), SIZE)]
    partial.add(2, symbols[2:])
    assert partial.deficits() == (1, 1)
    first = parity(frame, 0, [0, 1])
    assert partial.add_parity(0, first[0]) == 1
    assert partial.add_parity(0, first[0]) == 0
    # Block 0 has enough, and waits for block 1.
    assert partial.add_parity(2, first[2]) == 0
    assert partial.deficits() == (0, 1)
    assert not partial.complete


@pytest.mark.parametrize("number", [2 * fec.rows_of(150) + 1, 65535])
def test_a_row_that_does_not_exist_helps_nothing(number: int) -> None:
    partial = Partial(300 * SIZE, 300)
    assert partial.add_parity(number, bytes(SIZE)) == 0


def test_the_worst_off_goes_when_there_is_no_room() -> None:
    assembly = Assembly(SIZE, 100 * SIZE)
    for chunk, here in ((1, 30), (2, 5)):
        partial = assembly.open(chunk, 40 * SIZE).partial
        assert partial is not None
        assert len(partial.parts) == symbols_of(40 * SIZE, SIZE)
        partial.add(0, [bytes(SIZE)] * here)
    opened = assembly.open(3, 40 * SIZE)
    assert opened.evicted == [2]
    assert sorted(assembly.partials) == [1, 3]
    assert assembly.open(4, 101 * SIZE).partial is None
