"""How a receiver fares: its loss over the last quarter of a second, and whether it is *slow*.

It is *slow* once it has lost more than a tenth of the stream, or had its buffers nearly full, for five
seconds on end, and until it has kept up for as long. Sender and receiver judge by the same rule.
"""

from dataclasses import dataclass

SLOW_LOSS = 0.10  # share of the stream
SLOW_BACKLOG = 800  # permille of a receiver's buffers
SLOW_AFTER = 5.0  # s; and healthy again after as long
_WINDOW = 0.25  # s over which a loss is measured at least
_ENOUGH = 40  # datagrams a window must have, or its loss means nothing


@dataclass
class Fitness:
    """Fed with a receiver's totals; nothing is known before the second time."""

    slow: bool = False
    loss: float = 0.0  # share of the stream lost in the last window
    measured: float = float("-inf")  # end of that window
    _window: tuple[float, int, int] | None = None  # beginning, received, lost
    _turning: float | None = None  # since when it behaves unlike its class

    def measure(self, received: int, lost: int, backlog: int, now: float) -> bool:
        """Take in totals of datagrams; True if the class has changed."""
        if self._window is None:
            self._window = (now, received, lost)
            return False
        since, received_then, lost_then = self._window
        # `lost` may go back a little: what was only overtaken is taken off again.
        more, gone = received - received_then, max(0, lost - lost_then)
        if more < 0 or more + gone > 1 << 24:  # it began anew
            self._window = (now, received, lost)
            return False
        if now - since < _WINDOW or more + gone < _ENOUGH:
            if now - since <= 2.0:
                return False
            # Next to nothing is being sent: what was lost before says nothing of now.
            self.loss, self._window = 0.0, (now, received, lost)
        else:
            self.loss, self.measured = gone / (more + gone), now
            self._window = (now, received, lost)
        return self._judge(backlog, now)

    def _judge(self, backlog: int, now: float) -> bool:
        bad = self.loss > SLOW_LOSS or backlog > SLOW_BACKLOG
        if bad is self.slow:
            self._turning = None
        elif self._turning is None:
            self._turning = now
        elif now - self._turning >= SLOW_AFTER:
            self.slow, self._turning = bad, None
            return True
        return False
