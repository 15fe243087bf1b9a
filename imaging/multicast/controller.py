"""How fast to send: the configured rate, or less where the room as a whole cannot follow.

It looks at the receivers that want something, four times a second, and follows their majority, not the
worst: a third of them (at least two, if there are two) must be in trouble before the rate goes down. Losses
up to two percent are parity's business. When more gets lost, the rate goes to what came through, and creeps
up again, the faster the longer nothing is wrong: what was only a moment's trouble (a machine kept from its
processor) is made up for within seconds. Where it goes wrong near the same rate again and again, there is a
narrow link, and it creeps for longer. Losses that do not answer to the rate (a bad cable at each seat, not
a full queue) are taken as given, and the rate returns.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from .fitness import SLOW_BACKLOG
from .peers import Peer

INTERVAL = 0.25  # s between two looks
SETTLE = 0.75  # s until a change shows in the reports
CONGESTED, CALM = 0.02, 0.015  # loss above what is taken as given
_CALM_BACKLOG = 500
_DISK = 0.85  # for full buffers
_MOST_GIVEN = 0.3
# At a look without trouble the rate goes up by _CREEP, at each further one by a quarter more, up to _LEAP.
# Each time in a row that it went wrong within _NEAR of the last time, _PATIENCE looks more are crept first.
_CREEP, _QUICKER, _LEAP = 0.005, 1.25, 0.06
_NEAR, _PATIENCE, _MOST_PATIENCE = 0.1, 8, 32


@dataclass(frozen=True)
class _Trial:
    """The rate was lowered from `rate`, at which `loss` was seen."""

    rate: float
    loss: float


class RateController:
    """`cap` and `rate` in bits per second; the rate never goes below `floor`."""

    def __init__(self, cap: float, floor: float | None = None) -> None:
        self.rate = self.cap = cap
        self.floor = min(cap, max(cap / 64, 2e6) if floor is None else floor)
        self.given = 0.0  # loss that the rate does nothing about
        self.congestions = 0  # how often the rate went down
        self._wrong = 0.0  # what the rate was lowered to the last time
        self._creep = 0  # looks without trouble for which it creeps
        self._calm = 0  # looks without trouble so far
        self._next = self._settled = float("-inf")
        self._trials: list[_Trial] = []

    def limit(self, cap: float) -> None:
        """Another cap."""
        self.cap = cap
        self.floor = min(self.floor, cap)
        self.rate = min(self.rate, cap) if self.congestions else cap

    def look(self, peers: Iterable[Peer], now: float) -> None:
        """To be called often while data is being sent."""
        if now < self._next:
            return
        self._next = now + INTERVAL
        active = [peer for peer in peers if peer.waiting and now - peer.fitness.measured < 2.0]
        if not active or now < self._settled:
            return
        losing = [peer.loss for peer in active if peer.loss - self.given > CONGESTED]
        full = sum(peer.backlog > SLOW_BACKLOG for peer in active)
        many = 1 if len(active) == 1 else max(2, -(-len(active) // 3))
        if len(losing) >= many:
            self._lower(median(losing), now)
        elif full >= many:
            self._change(self.rate * _DISK, now)
        else:
            self._trials.clear()
            self.given = min(self.given, median(peer.loss for peer in active) + CONGESTED / 2)
            calm = sum(peer.loss - self.given < CALM and peer.backlog < _CALM_BACKLOG for peer in active)
            if calm * 10 >= len(active) * 9 or calm > len(active) - many:
                self._raise()

    def _lower(self, loss: float, now: float) -> None:
        if self._trials and loss > 0.7 * self._trials[-1].loss:
            if len(self._trials) >= 2 and loss <= _MOST_GIVEN:
                # Twice less was sent, and as much got lost: it is not we who fill a queue.
                self.given = loss
                self.rate = min(self.cap, self._trials[0].rate)
                self._trials.clear()
                self._settled = now + SETTLE
                return
        else:
            self._trials.clear()
        self._trials.append(_Trial(self.rate, loss))
        through = (1 - loss) / (1 - self.given)
        self._change(self.rate * min(0.95, max(0.25, 0.98 * through)), now)

    def _change(self, rate: float, now: float) -> None:
        self.rate = max(self.floor, rate)
        again = abs(self.rate - self._wrong) < _NEAR * self._wrong
        self._creep = min(self._creep + _PATIENCE, _MOST_PATIENCE) if again else 0
        self._wrong, self._calm = self.rate, 0
        self.congestions += 1
        self._settled = now + SETTLE

    def _raise(self) -> None:
        quicker = _QUICKER ** max(0, self._calm - self._creep)
        self._calm += self.rate < self.cap
        self.rate = min(self.cap, self.rate * (1 + min(_LEAP, _CREEP * quicker)))
