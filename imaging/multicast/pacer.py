"""A token bucket that says when the next burst may go, and never bursts more than it was told.

Kept as a theoretical arrival time (the GCRA of ATM Forum TM 4.0, which is a token bucket without a counter to
refill): `take` moves it on by the bytes' time on the wire; a caller that woke up late may catch up by at most
`slack` seconds.
"""

# Preamble 8 + Ethernet 14 + FCS 4 + gap 12 + IPv4 20 + UDP 8: what a datagram costs a wire beyond its
# payload.
WIRE_OVERHEAD = 66
BURST_SEGMENTS = 16


class TokenBucket:
    """Paces `rate` bits per second; times are seconds of any monotonic clock."""

    __slots__ = ("_due", "_rate", "_slack")

    def __init__(self, rate: float, slack: float = 0.004) -> None:
        if rate <= 0:
            raise ValueError("the rate must be above 0 bit/s")
        self._rate = rate
        self._slack = slack
        self._due = float("-inf")

    @property
    def rate(self) -> float:
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if rate <= 0:
            raise ValueError("the rate must be above 0 bit/s")
        self._rate = rate

    def ready(self, now: float) -> bool:
        """Whether a burst may go now."""
        return now >= self._due

    def take(self, size: int, now: float) -> None:
        """Charge `size` bytes (overheads included) that go out now."""
        # The slack bounds what an idle or late sender may make up for: no flood after a pause.
        self._due = max(self._due, now - self._slack) + size * 8 / self._rate

    def next_time(self) -> float:
        """The instant from which `ready` is true; -inf before the first `take`."""
        return self._due
