"""The bucket of downloads: a rate, an order, and a change that holds at once."""

from __future__ import annotations

from math import inf

import pytest

from pxeboot.transfer.bucket import PATIENCE_SECONDS, Bucket, piece

KILO = 1000


def drained(bucket: Bucket[str], until: float, now: float = 0.0) -> list[tuple[float, str]]:
    """What passes when it is asked at each of its own times."""
    passed = []
    while now <= until:
        passed += [(round(now, 3), ticket) for ticket in bucket.pass_on(now)]
        if (following := bucket.next_time()) == inf:
            break
        now = max(following, now + 1e-6)
    return passed


def test_the_rate_holds_and_the_order_too() -> None:
    bucket: Bucket[str] = Bucket(8 * KILO * 1000)  # 1 MB/s
    for ticket in "abcdef":
        bucket.ask(100 * KILO, ticket, 0.0)
    passed = drained(bucket, 10)
    assert [ticket for _, ticket in passed] == list("abcdef")
    assert passed[-1][0] == pytest.approx(0.48, abs=0.01)  # 5 × 0.1 s, less the burst
    assert bucket.passed == 600 * KILO


def test_another_rate_holds_for_what_waits_already() -> None:
    bucket: Bucket[str] = Bucket(8 * KILO * 10)  # 10 kB/s: the second would wait 5 s
    for ticket in "ab":
        bucket.ask(50 * KILO, ticket, 0.0)
    assert bucket.pass_on(0.0) == ["a"]
    assert bucket.next_time() == pytest.approx(4.98)
    bucket.change(8 * KILO * 100, 1.0)
    assert bucket.next_time() == pytest.approx(1.398)
    assert bucket.pass_on(1.4) == ["b"]
    bucket.change(inf, 1.4)
    bucket.ask(10**9, "c", 1.4)
    assert bucket.pass_on(1.4) == ["c"]
    with pytest.raises(ValueError, match="above 0"):
        bucket.change(0, 2.0)


def test_nobody_waits_so_long_that_its_client_gives_up() -> None:
    bucket: Bucket[int] = Bucket(8.0)  # a byte a second
    for ticket in range(3):
        bucket.ask(4096, ticket, 0.0)
    assert bucket.pass_on(0.0) == [0]
    assert bucket.pass_on(PATIENCE_SECONDS - 0.1) == []
    assert bucket.pass_on(PATIENCE_SECONDS) == [1, 2]
    # What went early is no debt for ever.
    bucket.change(1e9, PATIENCE_SECONDS)
    bucket.ask(100, 3, PATIENCE_SECONDS)
    assert bucket.next_time() < PATIENCE_SECONDS + 0.01


def test_who_gives_up_is_passed_over() -> None:
    bucket: Bucket[str] = Bucket(8 * KILO)
    for ticket in "abc":
        bucket.ask(KILO, ticket, 0.0)
    assert bucket.pass_on(0.0) == ["a"]
    bucket.give_up("b")
    assert bucket.waiting == 1
    assert bucket.pass_on(1.0) == ["c"]


def test_pieces_are_twenty_milliseconds_worth() -> None:
    assert piece(80e6) == 200_000
    assert piece(1e5) == 4096
    assert piece(inf) == piece(1e12) == 2 << 20
