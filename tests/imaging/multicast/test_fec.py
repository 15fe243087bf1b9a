"""Parity: all ways to compute it give the same bytes, and whatever is missing comes back."""

import random
from typing import Any

import pytest
import zfec
from hypothesis import given
from hypothesis import strategies as st

from imaging.multicast import fec
from tests.imaging.multicast.test_wire import documented


def codecs() -> list[fec.Codec]:
    try:
        return [fec.Plain(), fec.IsaL()]
    except OSError:
        return [fec.Plain()]


CODECS = codecs()


def symbols(count: int, size: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(size) for _ in range(count)]


def test_isa_l_is_there_where_we_test() -> None:
    assert fec.codec().name == "isa-l", "scripts/setup installs libisal2"


@given(st.integers(1, 232), st.sets(st.integers(0, 23), min_size=1, max_size=6), st.integers(0, 99))
def test_all_give_the_bytes_of_zfec(count: int, rows: set[int], seed: int) -> None:
    sources, wanted = symbols(count, 40, seed), sorted(rows)
    oracle: Any = zfec.Encoder(count, 256).encode(sources, [count + row for row in wanted])
    for codec in CODECS:
        assert codec.encode(sources, wanted) == list(oracle), codec.name


def pairs(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """A product in GF(65536) by the book: bit by bit, w² = w + 32."""

    def bits(x: int, y: int) -> int:
        product = 0
        for bit in range(8):
            product ^= (x << bit) * (y >> bit & 1)
        for bit in range(14, 7, -1):
            product ^= (0x11D << bit - 8) * (product >> bit & 1)
        return product

    low, high = bits(a[0], b[0]), bits(a[1], b[1])
    return low ^ bits(high, 32), bits(a[0], b[1]) ^ bits(a[1], b[0]) ^ high


def power(a: tuple[int, int], exponent: int) -> tuple[int, int]:
    result = (1, 0)
    for bit in format(exponent, "b"):
        result = pairs(result, result)
        if bit == "1":
            result = pairs(result, a)
    return result


def test_far_rows_are_values_of_the_same_polynomial() -> None:
    count, rows = 7, [248, 249, 250, 505, 4088]
    sources = symbols(count, 6, 1)
    points = [(0, 0)]
    points += [power((2, 0), i) for i in range(255)]
    points += [(i % 256, i // 256) for i in range(256, fec.POINTS)]
    expected = []
    for row in rows:
        x, symbol = points[count + row], [(0, 0)] * 3
        for j, source in enumerate(sources):
            factor = (1, 0)
            for m in range(count):
                if m != j:
                    over = (x[0] ^ points[m][0], x[1] ^ points[m][1])
                    under = (points[j][0] ^ points[m][0], 0)
                    factor = pairs(factor, pairs(over, power(under, 65534)))
            for place in range(3):
                low, high = pairs(factor, (source[place], source[place + 3]))
                symbol[place] = symbol[place][0] ^ low, symbol[place][1] ^ high
        expected.append(bytes(low for low, _ in symbol) + bytes(high for _, high in symbol))
    for codec in CODECS:
        assert codec.encode(sources, rows) == expected, codec.name


@given(st.data(), st.integers(1, 232))
def test_any_symbols_give_the_others(data: st.DataObject, count: int) -> None:
    sources = symbols(count, 24, count)
    missing = data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=min(count, 20)))
    # Around the first far row, and anywhere.
    row = st.integers(max(0, 240 - count), 270 - count) | st.integers(0, fec.rows_of(count) - 1)
    rows = data.draw(st.sets(row, min_size=len(missing), max_size=len(missing) + 2))
    for codec in CODECS:
        parity = dict(zip(sorted(rows), codec.encode(sources, sorted(rows)), strict=True))
        holes = [None if j in missing else source for j, source in enumerate(sources)]
        assert codec.decode(holes, parity) == sources, codec.name


@pytest.mark.parametrize("size", [1, 15, 512, 1450, 8940])
def test_any_size_of_symbols(size: int) -> None:
    sources = symbols(5, size, size)
    made = [codec.encode(sources, [0, 250]) for codec in CODECS]
    assert all(m == made[0] for m in made)
    for codec in CODECS:
        holes = [None, *sources[1:3], None, sources[4]]
        assert codec.decode(holes, {0: made[0][0], 250: made[0][1]}) == sources


def test_the_vector_of_the_document() -> None:
    sources = [bytes([j, j + 1, 255 - j, 7]) for j in range(5)]
    for codec in CODECS:
        assert b"".join(codec.encode(sources, [0, 1, 2])) == documented("Parity symbols")
        assert b"".join(codec.encode(sources, [250, 251, 4090])) == documented("Parity symbols of far rows")


@given(st.integers(1, 800))
def test_blocks_are_even_and_leave_room_for_parity(count: int) -> None:
    blocks = fec.blocks_of(count)
    sizes = [fec.sources_of(count, blocks, block) for block in range(blocks)]
    assert sizes == [len(range(block, count, blocks)) for block in range(blocks)]
    assert sum(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert all(fec.rows_of(size) >= 24 for size in sizes)
