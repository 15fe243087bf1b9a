"""The record of one stream: samples every few seconds and what happened between them, bounded in size.

When it is full every second sample goes and the interval doubles: a deploy of six hours keeps its shape in
the space of one of ten minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

EVERY_SECONDS: Final = 3.0
MAX_SAMPLES: Final = 240
MAX_POINTS: Final = 20_000  # hosts in all samples together: about 600 KB of JSON
MAX_EVENTS: Final = 1_000


class HostPoint(NamedTuple):
    """Where a host was at a sample: datagrams received and lost so far, chunks it still wanted, permille of
    its buffers in use, and bytes it has taken in by any way."""

    received: int = 0
    lost: int = 0
    wanted: int = 0
    backlog: int = 0
    taken: int = 0


@dataclass(frozen=True)
class Sample:
    """One look at the stream. Rates in Mbit/s on the wire; `at` in seconds of Unix time."""

    at: float
    rate: float  # what it sent
    granted: float  # what the arbiter let it send; 0: no limit
    bound: str  # arbiter.Bound
    carried: float = 0.0  # by its interface, all streams of ours together
    capacity: float = 0.0  # of its interface, as set; 0: unknown
    hosts: Mapping[str, HostPoint] = field(default_factory=dict)
    limit: str = ""  # the times of day of a limit that holds: 08:00-18:00


@dataclass(frozen=True)
class LogEvent:
    """Something that happened: `kind` is joined, left, class, way, limit, restarted, given-up,
    unreadable, or server: the daemon was started again."""

    at: float
    kind: str
    host: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class StreamLog:
    """The record of one session (`way` multicast), or of the downloads of an operation (`way` http)."""

    def __init__(self, way: str = "multicast", interface: str = "") -> None:
        self.way, self.interface = way, interface
        self.every = EVERY_SECONDS
        self.samples: list[Sample] = []
        self.events: list[LogEvent] = []
        self.dropped = 0  # events beyond MAX_EVENTS

    def due(self, at: float) -> bool:
        """Whether it is time for another sample."""
        return not self.samples or at - self.samples[-1].at >= self.every

    def add(self, sample: Sample) -> None:
        """Keep a sample; thins out the old ones when there are too many."""
        self.samples.append(sample)
        while len(self.samples) > MAX_SAMPLES or (
            len(self.samples) > 8 and sum(len(one.hosts) for one in self.samples) > MAX_POINTS
        ):
            self.samples = [*self.samples[:-1:2], self.samples[-1]]
            self.every *= 2

    def note(self, event: LogEvent) -> None:
        """Keep an event; those beyond the bound are counted."""
        if len(self.events) < MAX_EVENTS:
            self.events.append(event)
        else:
            self.dropped += 1

    def to_json(self) -> dict[str, Any]:
        """For the database."""
        return {
            "way": self.way,
            "interface": self.interface,
            "every": self.every,
            "dropped": self.dropped,
            "samples": [
                [
                    round(s.at, 1), round(s.rate, 2), round(s.granted, 2), s.bound, round(s.carried, 2),
                    round(s.capacity, 2), s.limit, {host: list(point) for host, point in s.hosts.items()},
                ]
                for s in self.samples
            ],
            "events": [[round(e.at, 1), e.kind, e.host, dict(e.facts)] for e in self.events],
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StreamLog:
        """As it was; what an earlier release did not write is left empty."""
        made = cls(str(data.get("way", "multicast")), str(data.get("interface", "")))
        made.every = float(data.get("every", EVERY_SECONDS))
        made.dropped = int(data.get("dropped", 0))
        for at, rate, granted, bound, carried, capacity, limit, hosts in data.get("samples", ()):
            points = {host: HostPoint(*point) for host, point in hosts.items()}
            made.samples.append(Sample(at, rate, granted, bound, carried, capacity, points, limit))
        made.events = [LogEvent(*event) for event in data.get("events", ())]
        return made
