"""Live figures of hosts and streams: rates from counters, loss, what holds a host up, and when it is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pxeboot.transfer.eta import Progress
from pxeboot.transfer.log import HostPoint
from pxeboot.transfer.why import FULL_BACKLOG, HALF_BACKLOG, LOSS_PERCENT, Reason

WINDOW_SECONDS: Final = 10.0
SPARKS: Final = 40  # values of the small curve, one a second
WAYS: Final = ("multicast", "peers", "http")


@dataclass(frozen=True)
class Machine:
    """A task's machine as the database has it: name, address, and how far it is (`done` of `total`)."""

    operation: str
    host: str
    address: str
    state: str
    stage: str
    done: int
    total: int
    bytes_multicast: int
    bytes_peers: int
    bytes_http: int
    way: str = ""  # by which way it says that chunks come, and why not by a better one
    way_reason: str = ""

    @property
    def taken(self) -> int:
        """Bytes it has taken in by any way."""
        return sum(self.by_way)

    @property
    def by_way(self) -> tuple[int, int, int]:
        """Bytes it has taken in, in the order of `WAYS`."""
        return self.bytes_multicast, self.bytes_peers, self.bytes_http


@dataclass(frozen=True)
class HostFigures:
    """One machine now. Rates in Mbit/s of image data, `eta` in seconds until its stage is over (None:
    cannot be said)."""

    host: str
    way: str  # multicast | peers | http | "" when nothing comes
    way_reason: str  # the agent's sentence: why not by a better one
    rate: float
    loss_percent: float
    backlog_percent: float
    wanted: int  # chunks
    taken: int  # bytes
    state: str  # of a receiver: scanning, receiving, done
    grade: str  # healthy | slow | lost; "": the sender does not say
    stage: str
    eta: float | None
    sparks: tuple[float, ...]  # its rate over the last while, oldest first
    reason: Reason | None  # why it is slow


@dataclass
class HostTrack:
    """What is remembered of a machine between two looks."""

    host: str
    _seen: deque[tuple[float, HostPoint, tuple[int, int, int]]] = field(default_factory=deque)
    _sparks: deque[float] = field(default_factory=lambda: deque(maxlen=SPARKS))
    _progress: Progress = field(default_factory=Progress)
    _stage: str = ""
    way: str = "multicast"  # the last one that it named
    why: dict[str, Any] = field(default_factory=dict)  # facts of the event that noted it
    _machine: Machine | None = None
    _row: Mapping[str, Any] = field(default_factory=dict)

    def saw(self, now: float, machine: Machine, row: Mapping[str, Any] | None) -> HostPoint:
        """Note where a machine is; `row`: what the sender says of it, None when it is in no session."""
        row = row or {}
        received, lost, wanted, backlog = (
            _count(row.get(key)) for key in ("received", "lost", "wanted", "backlog")
        )
        point = HostPoint(received, lost, wanted, backlog, machine.taken)
        if self._seen and point.received < self._seen[-1][1].received:
            self._seen.clear()  # it left the session, or joined anew: its counters begin again
        if machine.stage != self._stage:
            self._progress, self._stage = Progress(), machine.stage
        self._progress.saw(now, machine.done)
        self._seen.append((now, point, machine.by_way))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW_SECONDS:
            self._seen.popleft()
        self._sparks.append(round(self._rate(3.0), 1))
        self._machine, self._row = machine, row
        self.way = machine.way or self.way
        if self.why and machine.way_reason:
            self.why["reason"] = machine.way_reason  # it sees clearer the longer it lasts
        return point

    def figures(self) -> HostFigures:
        """Now. ValueError before anything was seen."""
        if self._machine is None:
            raise ValueError("nothing was seen of this machine yet")
        machine, (_, first, before) = self._machine, self._seen[0]
        last = self._seen[-1]
        received, lost = last[1].received - first.received, last[1].lost - first.lost
        loss = 100 * lost / (received + lost) if lost > 0 and received >= 0 else 0.0
        came = [after - earlier for after, earlier in zip(last[2], before, strict=True)]
        way = machine.way or (WAYS[came.index(max(came))] if any(came) else "")
        rate = self._rate(WINDOW_SECONDS)
        return HostFigures(
            host=self.host,
            way=way,
            way_reason=machine.way_reason if way != "multicast" else "",
            rate=rate,
            loss_percent=loss,
            backlog_percent=last[1].backlog / 10,
            wanted=last[1].wanted,
            taken=machine.taken,
            state=str(self._row.get("state") or ""),
            grade=grade(self._row),
            stage=machine.stage,
            eta=self._progress.seconds_left(machine.total) if machine.total else None,
            sparks=tuple(self._sparks),
            reason=_hindrance(self.host, rate, loss, last[1], self._row),
        )

    def _rate(self, seconds: float) -> float:
        """Mbit/s of image data over the last while."""
        end, last, *_ = self._seen[-1]
        start, point, *_ = next(row for row in self._seen if row[0] >= end - seconds)
        return max(0, last.taken - point.taken) * 8e-6 / (end - start) if end > start else 0.0


def _hindrance(
    host: str, rate: float, loss: float, point: HostPoint, row: Mapping[str, Any]
) -> Reason | None:
    """Why a machine is slow; None when it is not, or nothing is known."""
    facts: dict[str, Any] = {"host": host, "percent": f"{loss:.0f}", "speed": f"{rate / 8:.1f}"}
    if grade(row) == "lost":
        return Reason("now-lost", facts)
    slow = grade(row) == "slow"
    if point.backlog >= FULL_BACKLOG or (slow and point.backlog >= HALF_BACKLOG and loss < LOSS_PERCENT):
        return Reason("now-disk", facts)
    if loss >= LOSS_PERCENT:
        return Reason("now-loss", facts)
    return Reason("now-slow", facts) if slow else None


def grade(row: Mapping[str, Any]) -> str:
    """The class of a receiver: healthy, slow or lost; "" where its sender does not say."""
    if "slow" in row:
        return "slow" if row["slow"] else "healthy"
    return str(row.get("class") or "")


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
