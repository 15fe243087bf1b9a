"""A sender and many receivers in one process and in virtual time: loss is a function, minutes take seconds.

The same seed gives the same run. Used by the tests, and by whoever wants to know what a change of the
protocol costs before the room is booted.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256

from .receiver import ChunkLost, ChunkReceived, Event, Receiver, ReceiverSettings, Rejoin
from .sender import Batch, ChunkUnavailable, Sender, SenderSettings
from .wire import MAGIC

SESSION = MAGIC << 16 | 1
MANIFEST = bytes(range(32))

# Which datagrams of a receiver are lost: (room's random numbers, receiver's number, now) -> lost?
Loss = Callable[[random.Random, int, float], bool]
# What becomes of a datagram on its way to a receiver.
Spoil = Callable[[random.Random, bytes], bytes]


def no_loss(rng: random.Random, receiver: int, now: float) -> bool:
    """A perfect wire."""
    return False


def independent_loss(share: float) -> Loss:
    """Each receiver loses this share of the datagrams, independently."""
    return lambda rng, receiver, now: rng.random() < share


@dataclass
class SimulatedHost:
    """A receiver with its disk: `frames` holds what passed the hash."""

    number: int
    core: Receiver
    joins_at: float = 0.0
    dies_at: float = float("inf")
    frames: dict[int, bytes] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    log: list[tuple[float, Event]] = field(default_factory=list)
    finished_at: float | None = None
    rejects: int = 0


class Room:
    """One sender, its store of `frames`, and hosts that want all of it."""

    def __init__(
        self,
        frames: list[bytes],
        seed: int = 1,
        sender: SenderSettings | None = None,
        loss: Loss = no_loss,
        report_loss: float = 0.0,
        spoil: Spoil | None = None,
        latency: float = 0.0003,
    ) -> None:
        self.frames = frames
        self.hashes = [sha256(frame).digest() for frame in frames]
        self.rng = random.Random(seed)
        self.now = 0.0
        self.hosts: list[SimulatedHost] = []
        self.unreadable: set[int] = set()
        self.settings = sender or SenderSettings(rate=100e6, gather=0.5)
        self.loss, self.report_loss, self.spoil, self.latency = loss, report_loss, spoil, latency
        self.sender: Sender | None = None
        self.datagrams = 0
        self.bytes_sent = 0
        self.start_sender()

    def start_sender(self) -> None:
        """A new process: it knows nothing of what the last one did."""
        self.sender = Sender(SESSION, MANIFEST, len(self.frames), self._frame, self.settings)

    def kill_sender(self) -> None:
        """From now on nothing is sent, and reports find nobody."""
        self.sender = None

    def add_hosts(
        self, count: int, joins_at: float = 0.0, settings: ReceiverSettings | None = None
    ) -> list[SimulatedHost]:
        """Hosts that want every chunk, from `joins_at` on."""
        new = []
        for _ in range(count):
            number = len(self.hosts)
            rng = random.Random(self.rng.random())
            core = Receiver(SESSION, number, len(self.frames), joins_at, settings, MANIFEST, rng)
            for index in range(len(self.frames)):
                core.want(index, joins_at)
            host = SimulatedHost(number, core, joins_at)
            self.hosts.append(host)
            new.append(host)
        return new

    def run(self, until: float, stop_when_done: bool = True) -> None:
        """Go on to the instant `until`, or until every living host has what it can get."""
        while self.now < until:
            living = [h for h in self.hosts if h.joins_at <= self.now < h.dies_at]
            coming = [h for h in self.hosts if h.joins_at > self.now]
            if stop_when_done and not coming and all(h.finished_at is not None for h in living):
                return
            self._turn(living)
            when = [until] + [h.joins_at for h in coming] + [h.core.next_timer() for h in living]
            if self.sender is not None:
                when.append(self.sender.next_timer(self.now))
            # Never back and never still: two timers due at once are two turns of a microsecond.
            self.now = max(self.now + 1e-6, min(when))

    def _turn(self, living: list[SimulatedHost]) -> None:
        for host in living:
            host.core.handle_timer(self.now)
            for datagram in host.core.datagrams_to_send(self.now):
                if self.sender is not None and self.rng.random() >= self.report_loss:
                    self.sender.receive(datagram, host.number, self.now + self.latency)
        if self.sender is not None:
            self.sender.handle_timer(self.now)
            for batch in self.sender.datagrams_to_send(self.now):
                self.datagrams += batch.segments
                self.bytes_sent += batch.segments * batch.size
                datagrams = split(batch)
                for host in living:
                    self._deliver(host, datagrams, batch.size)
        for host in living:
            self._answer(host)

    def _deliver(self, host: SimulatedHost, datagrams: list[bytes], size: int) -> None:
        run: list[bytes] = []
        for datagram in [*datagrams, b""]:
            lost = not datagram or self.loss(self.rng, host.number, self.now)
            if not lost:
                run.append(self.spoil(self.rng, datagram) if self.spoil else datagram)
            elif run:
                host.core.receive(b"".join(run), self.now + self.latency, size)
                run = []

    def _answer(self, host: SimulatedHost) -> None:
        events = deque(host.core.events())
        while events:
            event = events.popleft()
            if isinstance(event, ChunkReceived):
                if sha256(event.frame).digest() == self.hashes[event.index]:
                    host.frames[event.index] = event.frame
                    host.core.got(event.index)
                else:
                    host.rejects += 1
                    host.core.reject(event.index, self.now)
                    events.extend(host.core.events())
            elif isinstance(event, ChunkLost):
                host.lost[event.index] = event.reason
            elif not isinstance(event, Rejoin):
                host.log.append((self.now, event))
        if host.finished_at is None and not host.core.wanted and not host.core.pending:
            host.finished_at = self.now

    def _frame(self, index: int) -> bytes:
        if index in self.unreadable:
            raise ChunkUnavailable("damaged in the store")
        return self.frames[index]


def split(batch: Batch) -> list[bytes]:
    """The datagrams of a batch, one by one, as the kernel would cut them."""
    data = b"".join(batch.buffers)
    return [data[i : i + batch.size] for i in range(0, len(data), batch.size)]
