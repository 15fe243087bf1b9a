"""What the sender knows of its receivers: who wants what, and how each fares.

The wants of a *slow* one are served when nobody else wants anything, and its losses neither cost the others
parity nor slow the stream. One that is silent for three seconds is *lost*: it is forgotten, and counts again
with its next report.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from statistics import median

from .fitness import Fitness
from .reports import ReceiverState, Report
from .wire import ahead


@dataclass
class Peer:
    """What a receiver said last, and how it fares."""

    address: Hashable
    heard: float
    state: ReceiverState = ReceiverState.RECEIVING
    wants: int = 0  # bit set of chunks
    wanted: int = 0
    received: int = 0
    lost: int = 0
    backlog: int = 0
    number: int = 0
    fitness: Fitness = field(default_factory=Fitness)

    def hear(self, report: Report, now: float) -> bool:
        """Take in a report; True if its class has changed."""
        self.heard, self.state, self.number = now, report.state, report.number
        self.received, self.lost, self.backlog = report.received, report.lost, report.backlog
        self.wanted = report.wanted
        return self.fitness.measure(report.received, report.lost, report.backlog, now)

    @property
    def slow(self) -> bool:
        """Its class."""
        return self.fitness.slow

    @property
    def loss(self) -> float:
        """Share of the stream it lost lately."""
        return self.fitness.loss

    @property
    def waiting(self) -> bool:
        """Whether it wants anything."""
        return self.wanted > 0 and self.state is not ReceiverState.DONE


class Peers(dict[int, Peer]):
    """The receivers by their id, and the union of what they want."""

    def __init__(self) -> None:
        super().__init__()
        self._healthy = self._slow = 0  # unions
        self._stale = False
        self._next_union = float("-inf")

    def hear(self, report: Report, now: float) -> bool:
        """Take in a report of a receiver that is known; True if its class has changed."""
        peer = self[report.receiver]
        changed = peer.hear(report, now)
        span = ((1 << report.count) - 1) << report.first
        fresh = report.wants << report.first
        wants = peer.wants & ~span | fresh
        if wants != peer.wants or changed:
            peer.wants = wants
            self._stale = True
            if peer.slow:
                self._slow |= fresh
            else:
                self._healthy |= fresh
        return changed

    def overtaken(self, report: Report) -> bool:
        """Whether a newer report of this receiver has already come."""
        return -1024 < ahead(report.number, self[report.receiver].number) < 0

    def forget(self, receiver: int) -> Peer:
        """It counts no more. Raises KeyError."""
        self._stale = True
        return self.pop(receiver)

    def silent(self, now: float, patience: float) -> list[int]:
        """Those that have not reported for `patience` seconds."""
        return [receiver for receiver, peer in self.items() if now - peer.heard >= patience]

    def demand(self, now: float) -> tuple[int, int]:
        """Bit sets of what the healthy want, and of what only the slow want.

        New wants count at once; wants that are gone may, in a large room, count some tenths of a second more:
        the union of thousands of sets is not for every report.
        """
        if self._stale and now >= self._next_union:
            self._stale = False
            self._next_union = now + (len(self) * 5e-5 if len(self) > 64 else 0.0)
            self._healthy = _union(peer for peer in self.values() if not peer.slow)
            self._slow = _union(peer for peer in self.values() if peer.slow)
        return self._healthy, self._slow & ~self._healthy

    def usual_loss(self) -> float:
        """The median over those that want something; 0 of none."""
        losses = [peer.loss for peer in self.values() if peer.waiting]
        return median(losses) if losses else 0.0


def _union(peers: Iterable[Peer]) -> int:
    union = 0
    for peer in peers:
        union |= peer.wants
    return union
