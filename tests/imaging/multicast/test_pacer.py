"""The token bucket, with time moved by hand."""

import pytest

from imaging.multicast.pacer import TokenBucket, burst_of


def sent_between(bucket: TokenBucket, start: float, end: float, step: float, size: int = 1000) -> int:
    """How many bursts of `size` bytes go out when we look every `step` seconds."""
    count, now = 0, start
    while now < end - 1e-9:
        while bucket.ready(now):
            bucket.take(size, now)
            count += 1
        now += step
    return count


def test_a_burst_takes_its_time_on_the_wire() -> None:
    bucket = TokenBucket(8000, slack=0, peak=1, owed=0)
    assert bucket.ready(5.0)
    bucket.take(1000, 5.0)
    assert bucket.next_time() == 6.0
    assert not bucket.ready(5.999)
    assert bucket.ready(6.0)


@pytest.mark.parametrize("step", [0.0001, 0.001, 0.003])
def test_the_rate_is_held_however_coarse_the_clock(step: float) -> None:
    bucket = TokenBucket(8e6)
    bucket.rest(0)
    assert sent_between(bucket, 0, 10, step) == pytest.approx(10_000, abs=30)


def test_a_late_sender_catches_up_without_a_flood() -> None:
    bucket = TokenBucket(8e6, slack=0.005, peak=1.05, owed=0.2)
    bucket.rest(0)
    before = sent_between(bucket, 0, 1, 0.001)
    # Kept from the processor for 100 ms. What was missed is worth 100 bursts ...
    at_once = sent_between(bucket, 1.1, 1.101, 0.001)
    assert at_once <= 7
    # ... and is made up for at 5 % above the rate; after two more seconds all of it is, and no more.
    after_a_second = sent_between(bucket, 1.101, 2.101, 0.001)
    assert after_a_second == pytest.approx(1050, abs=2)
    total = before + at_once + after_a_second + sent_between(bucket, 2.101, 4.101, 0.001)
    assert total == pytest.approx(4101, abs=2)
    assert sent_between(bucket, 4.101, 5.101, 0.001) == pytest.approx(1000, abs=2)


def test_an_idle_sender_is_owed_nothing() -> None:
    bucket = TokenBucket(8e6)
    bucket.rest(0)
    sent_between(bucket, 0, 1, 0.001)
    bucket.rest(60)
    assert sent_between(bucket, 60, 61, 0.001) == pytest.approx(1000, abs=2)


def test_the_rate_can_change_on_the_way() -> None:
    bucket = TokenBucket(8e6)
    bucket.rest(0)
    sent_between(bucket, 0, 1, 0.001)
    bucket.rate = 16e6
    assert sent_between(bucket, 1, 2, 0.001) == pytest.approx(2000, abs=5)


@pytest.mark.parametrize("rate", [0, -1])
def test_no_rate_is_an_error(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(rate)


@pytest.mark.parametrize(
    ("rate", "size", "burst"),
    [
        (2e6, 1472, 16),
        (950e6, 1472, 16),
        (2e9, 1472, 32),
        (9.5e9, 1472, 44),
        (9.5e9, 8962, 7),  # jumbo frames: 64 KiB
        (2e6, 8962, 7),
        (9.5e9, 534, 44),
    ],
)
def test_a_burst_is_short_on_the_wire_and_fits_a_packet(rate: float, size: int, burst: int) -> None:
    assert burst_of(rate, size) == burst
    assert burst * size < 65507
