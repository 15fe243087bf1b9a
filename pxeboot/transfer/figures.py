"""Live figures of hosts and streams: rates from counters, loss, what holds a host up, and when it is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pxeboot.transfer.eta import Progress
from pxeboot.transfer.log import HostPoint
from pxeboot.transfer.why import FULL_BACKLOG, LOSS_PERCENT, Reason

WINDOW_SECONDS: Final = 10.0
SPARKS: Final = 40  # values of the small curve, one a second


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
    bytes_http: int

    @property
    def taken(self) -> int:
        """Bytes it has taken in by any way."""
        return self.bytes_multicast + self.bytes_http


@dataclass(frozen=True)
class HostFigures:
    """One machine now. Rates in Mbit/s of image data, `eta` in seconds until its stage is over (None:
    cannot be said)."""

    host: str
    way: str  # multicast | http | "" when nothing comes
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
    _seen: deque[tuple[float, HostPoint, int, int]] = field(default_factory=deque)
    _sparks: deque[float] = field(default_factory=lambda: deque(maxlen=SPARKS))
    _progress: Progress = field(default_factory=Progress)
    _stage: str = ""
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
        self._seen.append((now, point, machine.bytes_multicast, machine.bytes_http))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW_SECONDS:
            self._seen.popleft()
        self._sparks.append(round(self._rate(3.0), 1))
        self._machine, self._row = machine, row
        return point

    def figures(self) -> HostFigures:
        """Now. ValueError before anything was seen."""
        if self._machine is None:
            raise ValueError("nothing was seen of this machine yet")
        machine, (_, first, multicast, http) = self._machine, self._seen[0]
        last = self._seen[-1]
        received, lost = last[1].received - first.received, last[1].lost - first.lost
        loss = 100 * lost / (received + lost) if lost > 0 and received >= 0 else 0.0
        by = {"multicast": last[2] - multicast, "http": last[3] - http}
        way = max(by, key=lambda name: by[name]) if any(value > 0 for value in by.values()) else ""
        rate = self._rate(WINDOW_SECONDS)
        return HostFigures(
            host=self.host,
            way=way,
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
            reason=_hindrance(self.host, way, rate, loss, last[1], self._row),
        )

    def _rate(self, seconds: float) -> float:
        """Mbit/s of image data over the last while."""
        end, last, *_ = self._seen[-1]
        start, point, *_ = next(row for row in self._seen if row[0] >= end - seconds)
        return max(0, last.taken - point.taken) * 8e-6 / (end - start) if end > start else 0.0


def _hindrance(
    host: str, way: str, rate: float, loss: float, point: HostPoint, row: Mapping[str, Any]
) -> Reason | None:
    """Why a machine is slow; None when it is not, or nothing is known."""
    facts: dict[str, Any] = {"host": host, "percent": f"{loss:.0f}", "speed": f"{rate / 8:.1f}"}
    if grade(row) == "lost":
        return Reason("now-lost", facts)
    if point.backlog >= FULL_BACKLOG:
        return Reason("now-disk", facts)
    if loss >= LOSS_PERCENT:
        return Reason("now-loss", facts)
    if grade(row) == "slow":
        return Reason("now-slow", facts)
    if way == "http" and row:
        return Reason("now-http", facts)
    return None


def grade(row: Mapping[str, Any]) -> str:
    """The class of a receiver: healthy, slow or lost; "" where its sender does not say."""
    if "slow" in row:
        return "slow" if row["slow"] else "healthy"
    return str(row.get("class") or "")


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0
