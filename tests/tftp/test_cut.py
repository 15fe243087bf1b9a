"""Files cut into packets: the right ones, shared, bounded."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftp.cut import Cut, Shelf
from tftp.packet import Data, parse


class Known(bytes):
    """Content with an identity, that counts how often it is read."""

    identity = "the file"
    reads = 0

    def __getitem__(self, key):
        Known.reads += 1
        return super().__getitem__(key)


@given(st.integers(0, 3000), st.sampled_from([8, 9, 512, 1468, 65464]), st.data())
def test_packets_are_those_of_the_file(size, blksize, data):
    content = random.Random(size).randbytes(size)
    cut = Cut(content, blksize)
    assert cut.blocks == size // blksize + 1
    first = data.draw(st.integers(1, cut.blocks))
    end = data.draw(st.integers(first, cut.blocks + 1))
    packets = [parse(p) for train in cut.trains(first, end) for p in train.datagrams()]
    assert packets == [Data(n, content[(n - 1) * blksize : n * blksize]) for n in range(first, end)]
    window = cut.window(first, end) if first < end else None
    assert window is None or bytes(window) == b"".join(p.to_bytes() for p in packets)


@pytest.mark.parametrize("blksize", [512, 1024, 1428, 1468, 8968])
@pytest.mark.parametrize("windowsize", [1, 4, 16])
def test_the_usual_windows_are_one_train(blksize, windowsize):
    cut = Cut(bytes(blksize * 200), blksize)
    if windowsize * blksize < 65_000 // 2:
        assert all(cut.window(n, n + windowsize) for n in range(1, 129, windowsize))


def test_numbers_wrap_to_zero():
    cut = Cut(bytes(8 * 70_000), 8)
    packets = [parse(p) for train in cut.trains(65535, 65539) for p in train.datagrams()]
    assert [p.block for p in packets] == [65535, 0, 1, 2]


def test_readers_of_one_file_share_its_packets():
    Known.reads = 0
    content, shelf = Known(100_000), Shelf(1 << 20)
    for _ in range(5):
        cut = Cut(content, 512, shelf)
        for block in range(1, cut.blocks + 1):
            assert cut.trains(block, block + 1)
    assert Known.reads == 8  # stretches of 64 blocks, each read twice and kept the second time
    assert shelf.size == 100_000 + 4 * cut.blocks


def test_a_shelf_is_bounded_and_keeps_what_is_wanted():
    shelf = Shelf(100)
    for number in range(50):
        for key in ("often", number, number):
            shelf.take(key, lambda: bytes(40))
        assert shelf.size <= 100
    for _ in range(2):
        shelf.take("too large", lambda: bytes(200))
    assert shelf.size == 0


def test_made_up_content_is_nobody_elses():
    shelf = Shelf(1 << 20)
    Cut(b"secret of one host", 512, shelf).trains(1, 2)
    assert shelf.size == 0


def test_content_that_shrinks():
    class Shrunk(bytes):
        def __getitem__(self, key):
            return b""

    with pytest.raises(OSError, match="shorter"):
        Cut(Shrunk(1000), 512).trains(1, 2)


def test_what_is_read_once_is_not_kept():
    shelf = Shelf(1 << 20)
    cut = Cut(Known(100_000), 512, shelf)
    cut.trains(1, cut.blocks + 1)
    assert shelf.size == 0
    for number in range(20_000):  # nor is it remembered for ever
        shelf.take(number, lambda: b"x")
    assert len(shelf._asked) <= 8192
