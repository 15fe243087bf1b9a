"""What a host tells its neighbours of the chunks it holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.peers.news import Holdings, News, NewsError, parse


def held(news: News) -> set[int]:
    assert news.bitmap is not None
    return {index for index in range(8 * len(news.bitmap)) if news.bitmap[index >> 3] >> (index & 7) & 1}


def test_a_neighbour_that_follows_hears_only_what_is_new() -> None:
    holdings = Holdings(1000, epoch=7)
    for index in (3, 999, 3):
        holdings.add(index)
    first = parse(holdings.since(0, 0), 1000)
    assert (first.epoch, first.position, first.indexes) == (7, 2, (3, 999))
    holdings.add(5)
    assert parse(holdings.since(7, first.position), 1000).indexes == (5,)
    assert parse(holdings.since(7, 3), 1000).indexes == ()


def test_a_neighbour_that_knew_another_life_of_this_host_hears_all() -> None:
    holdings = Holdings(1000, epoch=8)
    holdings.add(5)
    for epoch, position in ((7, 1), (8, 99), (8, -1)):
        assert parse(holdings.since(epoch, max(position, 0)), 1000).epoch == 8
    assert parse(holdings.since(7, 1), 1000).indexes == (5,)


def test_a_long_log_is_told_as_a_bitmap() -> None:
    holdings = Holdings(100, epoch=1)
    for index in range(0, 100, 2):
        holdings.add(index)
    news = parse(holdings.since(1, 0), 100)
    assert news.position == 50
    assert held(news) == set(range(0, 100, 2))


def test_what_the_disk_has_lost_is_held_no_more() -> None:
    holdings = Holdings(10, epoch=1)
    holdings.add(4)
    holdings.remove(4)
    assert 4 not in holdings
    holdings.add(4)
    assert 4 in holdings
    assert 10 not in holdings
    assert -1 not in holdings


@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        Holdings(64, 1).since(0, 0)[:-1],
        bytes(12) + b"\x03",  # a kind nobody knows
        bytes(12) + b"\x01" + bytes(7),  # a bitmap of another image
        bytes(12) + b"\x02" + (64).to_bytes(4, "big"),  # a chunk beyond the image
        bytes(12) + b"\x02" + b"\0" * 3,
    ],
)
def test_nonsense_is_refused(spoilt: bytes) -> None:
    with pytest.raises(NewsError):
        parse(spoilt, 64)


def test_a_bitmap_with_bits_beyond_the_image_is_refused() -> None:
    with pytest.raises(NewsError):
        parse(bytes(12) + b"\x01" + b"\xff\xff", 15)


@given(st.binary(max_size=200), st.integers(0, 70))
def test_no_bytes_whatever_do_harm(data: bytes, count: int) -> None:
    try:
        news = parse(data, count)
    except NewsError:
        return
    assert all(index < count for index in news.indexes)
