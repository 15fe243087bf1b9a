"""A token bucket that says when the next burst may go: the rate is held on average, and never much exceeded.

Kept as theoretical arrival times (GCRA of ITU-T I.371, a token bucket without a counter to refill), two of
them. The average one lets a sender that was kept from its processor make up for it; the peak one spreads that
out, because a flood after each pause is what overflows the small buffers of switches.
"""

# Preamble 8 + Ethernet 14 + FCS 4 + gap 12 + IPv4 20 + UDP 8: what a datagram costs a wire beyond its
# payload.
WIRE_OVERHEAD = 66
# A burst goes out as one packet that the card or the kernel cuts up: 16 of 1450 bytes are 0.2 ms at 1 Gbit/s,
# what the small buffers of switches bear. A faster stream has longer ones, of as much time; more than 44
# would not fit the 64 KiB of such a packet.
LEAST_BURST, MOST_BURST = 16, 44
_BURST_TIME = 0.0002  # s


def burst_of(rate: float, size: int) -> int:
    """How many datagrams of `size` bytes a burst has at `rate` bits per second."""
    most = min(MOST_BURST, 65000 // size)
    return max(min(LEAST_BURST, most), min(most, int(rate * _BURST_TIME / (8 * (size + WIRE_OVERHEAD)))))


class TokenBucket:
    """Paces `rate` bits per second; times are seconds of any monotonic clock.

    After a pause up to `owed` seconds' worth is made up for, at `peak` times the rate, except for `slack`
    seconds' worth that may go at once (no timer is exact: on a busy machine a sleeper wakes up ten to fifty
    milliseconds late, and with less slack than that the rate is never reached). `slack` may change at any
    time. With the rate at 95 % of a link, a peak of 1.05 still fits it.
    """

    __slots__ = ("_average_due", "_owed", "_peak", "_peak_due", "_rate", "behind", "slack")

    def __init__(self, rate: float, *, slack: float = 0.05, peak: float = 1.05, owed: float = 0.2) -> None:
        self.slack, self._peak, self._owed = slack, peak, owed
        self.behind = 0.0  # the most, in seconds, that it was behind its schedule since this was set to 0
        self._average_due = self._peak_due = float("-inf")
        self.rate = rate

    @property
    def rate(self) -> float:
        """Bits per second; may change at any time. Raises ValueError unless above 0."""
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if rate <= 0:
            raise ValueError("the rate must be above 0 bit/s")
        self._rate = rate

    def ready(self, now: float) -> bool:
        """Whether a burst may go now."""
        return now >= self.next_time()

    def take(self, size: int, now: float) -> None:
        """Charge `size` bytes (overheads included) that go out now."""
        seconds = size * 8 / self._rate
        if self._average_due > now - 10:  # not before the first, nor after a pause that nobody told us of
            self.behind = max(self.behind, now - self._average_due)
        self._average_due = max(self._average_due, now - self._owed) + seconds
        self._peak_due = max(self._peak_due, now - self.slack) + seconds / self._peak

    def rest(self, now: float) -> None:
        """There is nothing to send now: this pause is not to be made up for."""
        self._average_due = max(self._average_due, now)

    def next_time(self) -> float:
        """The instant from which `ready` is true; -inf before the first `take`."""
        return max(self._average_due, self._peak_due)
