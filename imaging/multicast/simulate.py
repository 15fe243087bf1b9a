"""A sender and thousands of receivers in one process and in virtual time: the same cores, minutes in seconds.

The same seed gives the same run. Used by the tests, by the table in docs/multicast-protocol.md, and by
whoever wants to know what a change of the protocol costs before the room is booted. A room of thousands
is best simulated with symbols of a few bytes: what is counted is datagrams.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from .channels import Link, Loss, Wire, no_loss
from .cutting import ChunkUnavailable
from .events import ChunkLost, ChunkReceived, ReceiverEvent, Rejoin
from .pacer import WIRE_OVERHEAD
from .receiver import Receiver
from .sender import Batch, Sender
from .settings import ReceiverSettings, SenderSettings

SESSION = 0x7B020001
MANIFEST = bytes(range(32))

# What becomes of a datagram on its way to a receiver.
Spoil = Callable[[random.Random, bytes], bytes]


@dataclass
class SimulatedHost:
    """A receiver with its disk: `frames` holds what passed the check."""

    number: int
    core: Receiver
    wire: Wire
    joins_at: float = 0.0
    dies_at: float = float("inf")
    frozen: tuple[float, float] = (float("inf"), float("inf"))  # from, until: it neither hears nor says
    disk: float = float("inf")  # bytes a second
    link: Link | None = None  # its own, behind the common one
    frames: dict[int, bytes] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    log: list[tuple[float, ReceiverEvent]] = field(default_factory=list)
    finished_at: float | None = None
    rejects: int = 0
    due: float = float("inf")  # its next turn
    disk_free: float = 0.0

    def deaf(self, now: float) -> bool:
        """Whether it is not there: not yet, no more, or frozen."""
        return not self.joins_at <= now < self.dies_at or self.frozen[0] <= now < self.frozen[1]


class Room:
    """One sender, its store of `frames`, and hosts that want all of it or a part."""

    def __init__(
        self,
        frames: list[bytes],
        seed: int = 1,
        sender: SenderSettings | None = None,
        loss: Loss = no_loss,
        shared_loss: Loss = no_loss,
        report_loss: float = 0.0,
        spoil: Spoil | None = None,
        latency: float = 0.0003,
        link: Link | None = None,
    ) -> None:
        self.frames = frames
        self.rng = random.Random(seed)
        self.now = 0.0
        self.hosts: list[SimulatedHost] = []
        self.unreadable: set[int] = set()
        self.settings = sender or SenderSettings(rate=100e6, gather=0.5)
        self.loss, self.report_loss, self.spoil, self.latency = loss, report_loss, spoil, latency
        self.link = link
        self.sender: Sender | None = None
        self.datagrams = self.bytes_sent = 0
        self.reports = self.report_bytes = 0
        self._trunk = Wire(shared_loss, random.Random(self.rng.random()))
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._sender_due = float("inf")
        self.start_sender()

    # -- what the scenario says ------------------------------------------------------------------------------

    def start_sender(self) -> None:
        """A new process: it knows nothing of what the last one did."""
        self.sender = Sender(SESSION, MANIFEST, len(self.frames), self._frame, self.settings)
        self._sender_due = float("inf")
        self._wake_sender(self.now)

    def kill_sender(self) -> None:
        """From now on nothing is sent, and reports find nobody."""
        self.sender = None

    def add_hosts(
        self,
        count: int,
        joins_at: float = 0.0,
        settings: ReceiverSettings | None = None,
        loss: Loss | None = None,
        wants: range | list[int] | None = None,
    ) -> list[SimulatedHost]:
        """Hosts that want every chunk (or `wants`), from `joins_at` on."""
        new = []
        if settings is None:
            settings = ReceiverSettings(symbol_size=self.settings.symbol_size, key=self.settings.key)
        for _ in range(count):
            number = len(self.hosts)
            rng = random.Random(self.rng.random())
            core = Receiver(SESSION, number, len(self.frames), joins_at, settings, MANIFEST, rng)
            for index in range(len(self.frames)) if wants is None else wants:
                core.want(index, joins_at)
            wire = Wire(loss or self.loss, random.Random(self.rng.random()))
            host = SimulatedHost(number, core, wire, joins_at)
            self.hosts.append(host)
            new.append(host)
            self._wake(host, joins_at)
        return new

    def run(self, until: float, stop_when_done: bool = True) -> None:
        """Until everybody who lives has everything, or the clock says `until`."""
        while self._agenda and self._agenda[0][0] <= until:
            if stop_when_done and not any(h.finished_at is None and self.now < h.dies_at for h in self.hosts):
                return
            # A look at every host after every event would make large rooms slow: do a second's at a time.
            for _ in range(len(self.hosts)):
                if not self._agenda or self._agenda[0][0] > until:
                    break
                self.now, _, action = heapq.heappop(self._agenda)
                action()
        if not stop_when_done or not self._agenda:
            self.now = until

    # -- turns -----------------------------------------------------------------------------------------------

    def _at(self, when: float, action: Callable[[], None]) -> None:
        # Never back and never still: two timers due at once are two turns of a microsecond.
        heapq.heappush(self._agenda, (max(when, self.now + 1e-6), next(self._order), action))

    def _wake(self, host: SimulatedHost, when: float) -> None:
        if when < host.due:
            host.due = when
            self._at(when, partial(self._turn, host, when))

    def _turn(self, host: SimulatedHost, due: float) -> None:
        if due != host.due:
            return
        host.due = float("inf")
        if self.now >= host.dies_at:
            return
        if host.deaf(self.now):
            self._wake(host, max(host.joins_at, host.frozen[1]))
            return
        core = host.core
        core.handle_timer(self.now)
        for datagram in core.datagrams_to_send(self.now):
            self.reports += 1
            self.report_bytes += len(datagram) + WIRE_OVERHEAD
            if self.rng.random() >= self.report_loss:
                self._at(self.now + self.latency, partial(self._report, datagram, host.number))
        self._answer(host)
        self._wake(host, core.next_timer())

    def _report(self, datagram: bytes, number: int) -> None:
        if self.sender is not None:
            self.sender.receive(datagram, number, self.now)
            self._wake_sender(self.sender.next_timer(self.now))

    def _wake_sender(self, when: float) -> None:
        if when < self._sender_due:
            self._sender_due = when
            self._at(when, partial(self._send, when))

    def _send(self, due: float) -> None:
        sender = self.sender
        if due != self._sender_due or sender is None:
            return
        self._sender_due = float("inf")
        sender.handle_timer(self.now)
        for batch in sender.datagrams_to_send(self.now):
            self.datagrams += batch.segments
            self.bytes_sent += batch.segments * batch.size
            arrival = self.now
            through = self._trunk.through(batch.segments)
            datagrams = split(batch)
            if self.link is not None:
                # What is dropped at the queue is dropped for all, and at its tail.
                fit, arrival = self.link.send(batch.segments, batch.size + WIRE_OVERHEAD, self.now)
                through = [(first, min(end, fit)) for first, end in through if first < fit]
            parts = [datagrams[first:end] for first, end in through]
            if parts:
                self._at(arrival + self.latency, partial(self._deliver, parts, batch.size))
        self._wake_sender(sender.next_timer(self.now))

    def _deliver(self, parts: list[list[bytes]], size: int) -> None:
        for host in self.hosts:
            if host.deaf(self.now):
                continue
            for datagrams in parts:
                count = len(datagrams)
                if host.link is not None:
                    count, _ = host.link.send(count, size + WIRE_OVERHEAD, self.now)
                for first, end in host.wire.through(count):
                    run = datagrams[first:end]
                    if self.spoil is not None:
                        run = [self.spoil(self.rng, datagram) for datagram in run]
                        for datagram in run:
                            host.core.receive(datagram, self.now)
                    else:
                        host.core.receive(b"".join(run), self.now, size)
            self._answer(host)
            self._wake(host, host.core.next_timer())

    def _answer(self, host: SimulatedHost) -> None:
        events = deque(host.core.events())
        while events:
            event = events.popleft()
            if isinstance(event, ChunkReceived):
                if host.disk == float("inf"):
                    self._written(host, event)
                    events.extend(host.core.events())
                else:
                    host.disk_free = max(self.now, host.disk_free) + len(event.frame) / host.disk
                    self._at(host.disk_free, partial(self._written, host, event))
            elif isinstance(event, ChunkLost):
                host.lost[event.index] = event.reason
            elif not isinstance(event, Rejoin):
                host.log.append((self.now, event))
        self._look(host)

    def _written(self, host: SimulatedHost, event: ChunkReceived) -> None:
        if event.frame == self.frames[event.index]:
            host.frames[event.index] = self.frames[event.index]
            host.core.got(event.index)
        else:
            host.rejects += 1
            host.core.reject(event.index, self.now)
        self._look(host)

    def _look(self, host: SimulatedHost) -> None:
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
