"""Sets of chunks: both shapes, and the way over the wire."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.multicast.ranges import (
    BITMAP,
    RUNS,
    ChunkSet,
    RangesError,
    bit_ranges,
    decode_span,
    encode_span,
    next_bit,
)

sizes = st.integers(1, 3000)


def test_a_set_counts_its_members_once() -> None:
    chunks = ChunkSet(10, [3, 4, 3])
    assert (len(chunks), list(chunks), 3 in chunks, 5 in chunks, 10 in chunks, -1 in chunks) == (
        2, [3, 4], True, False, False, False,
    )  # fmt: skip
    assert chunks.discard(3)
    assert not chunks.discard(3)
    assert list(chunks.ranges()) == [(4, 1)]


def test_a_set_refuses_what_is_outside() -> None:
    chunks = ChunkSet(10)
    for index in (-1, 10):
        with pytest.raises(IndexError):
            chunks.add(index)


def test_everything_of_a_huge_image_is_a_few_bytes() -> None:
    chunks = ChunkSet(100_000, range(100_000))
    count, encoding, data = encode_span(chunks, 0, 1400)
    assert (count, encoding, len(data)) == (100_000, RUNS, 4)


def test_every_other_chunk_is_a_bitmap_that_goes_as_far_as_there_is_room() -> None:
    chunks = ChunkSet(100_000, range(0, 100_000, 2))
    count, encoding, data = encode_span(chunks, 0, 1400)
    assert (count, encoding, len(data)) == (11_200, BITMAP, 1400)


@given(st.data())
def test_a_set_arrives_span_by_span_as_it_was(data: st.DataObject) -> None:
    size = data.draw(sizes)
    members = data.draw(st.sets(st.integers(0, size - 1)))
    budget = data.draw(st.integers(12, 100))
    chunks = ChunkSet(size, members)
    arrived, position = 0, 0
    while position < size:
        count, encoding, encoded = encode_span(chunks, position, budget)
        assert count > 0
        assert len(encoded) <= budget
        arrived |= decode_span(count, encoding, encoded) << position
        position += count
    assert position == size
    assert {i for first, run in bit_ranges(arrived) for i in range(first, first + run)} == members


@pytest.mark.parametrize(
    ("count", "encoding", "data", "says"),
    [
        (8, BITMAP, b"\xff\x01", "longer"),
        (8, RUNS, b"\x00\x08", "beyond"),
        (8, RUNS, b"\x00", "unfinished"),
        (8, RUNS, b"\xff\xff\xff\xff\xff\xff", "unfinished"),
        (8, 0, b"", "unknown"),
    ],
)
def test_a_span_that_cannot_be_is_refused(count: int, encoding: int, data: bytes, says: str) -> None:
    with pytest.raises(RangesError, match=says):
        decode_span(count, encoding, data)


@given(st.integers(0, 1 << 20), st.integers(0, 2), st.binary(max_size=60))
def test_garbage_is_refused_or_fits_its_span(count: int, encoding: int, data: bytes) -> None:
    try:
        bits = decode_span(count, encoding, data)
    except RangesError:
        return
    assert bits.bit_length() <= count


@given(st.sets(st.integers(0, 500)), st.integers(0, 500))
def test_next_bit_is_the_next_member(members: set[int], start: int) -> None:
    bits = sum(1 << i for i in members)
    assert next_bit(bits, start) == min((i for i in members if i >= start), default=-1)
