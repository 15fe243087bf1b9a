"""Why a transfer took as long as it did: sentences from its record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Any, Final

from pxeboot.transfer.log import HostPoint, LogEvent, Sample, StreamLog
from pxeboot.transfer.sentences import SENTENCES

LOSS_PERCENT: Final = 2.0  # of a host's datagrams: worth telling
FULL_BACKLOG: Final = 800  # permille of a host's buffers: its disk holds it up
HALF_BACKLOG: Final = 500  # so much also tells of the disk, once the sender says that it is slow
LATE_SECONDS: Final = 60.0
HELD: Final = 0.85  # a limit holds a stream that uses so much of its grant
MAX_HOSTS: Final = 8  # named for each reason
TRIFLE: Final = 0.02  # of all that was transferred: manifests beside a session


def _english(text: str) -> str:
    return text


@dataclass(frozen=True)
class Reason:
    """One sentence: that of `code` in `SENTENCES`, over `facts`. `slow`: it cost time."""

    code: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = True

    @property
    def template(self) -> str:
        """The sentence with `%(name)s` for each fact."""
        return SENTENCES[self.code]

    def say(self, gettext: Callable[[str], str] = _english) -> str:
        """The sentence in the language of `gettext`."""
        return gettext(self.template) % dict(self.facts)


def explain(logs: Sequence[StreamLog], zone: tzinfo) -> list[Reason]:
    """Everything the records of an operation say, in reading order; times on the wall clock of `zone`."""
    told = [log for log in logs if log.samples or log.events]
    told = [log for log in told if not _is_trifle(log, told)]
    found: list[Reason] = []
    for log in told:
        clock = _Clock(log, zone)
        found += _summary(log, clock)
        found += _limits(log, clock)
        found += _sender(log, clock)
        found += _hosts(log, told, clock)
    if told and not any(reason.slow for reason in found):
        found.append(Reason("nothing", slow=False))
    return found


def _is_trifle(log: StreamLog, logs: Sequence[StreamLog]) -> bool:
    """Whether it brought no machine any of the image, and next to nothing else."""
    if log.way == "multicast" or log.events or any(sample.hosts for sample in log.samples):
        return False
    return _volume(log) < TRIFLE * sum(map(_volume, logs))


def _volume(log: StreamLog) -> float:
    return log.every * sum(sample.rate for sample in log.samples)


class _Clock:
    """Times of day: with seconds when all took less than ten minutes."""

    def __init__(self, log: StreamLog, zone: tzinfo) -> None:
        moments = [*(s.at for s in log.samples), *(e.at for e in log.events)]
        self._form = "%H:%M:%S" if moments and max(moments) - min(moments) < 600 else "%H:%M"
        self._zone = zone

    def __call__(self, at: float) -> str:
        return datetime.fromtimestamp(at, self._zone).strftime(self._form)

    def span(self, stretch: Sequence[Sample]) -> dict[str, str]:
        return {"start": self(stretch[0].at), "end": self(stretch[-1].at)}


def _summary(log: StreamLog, clock: _Clock) -> Iterator[Reason]:
    sending = [sample for sample in log.samples if sample.rate > 0.05]
    # Whoever joined a session and never heard it took no part.
    hosts = {
        host
        for sample in log.samples
        for host, point in sample.hosts.items()
        if point.received or log.way != "multicast"
    }
    if sending and (hosts or log.way == "multicast"):  # else: files beside the image
        facts = {**clock.span(sending), "mbit": _number(_mean(s.rate for s in sending)), "hosts": len(hosts)}
        yield Reason(f"by-{log.way}", facts, slow=False)


def _limits(log: StreamLog, clock: _Clock) -> Iterator[Reason]:
    """Which limits held, and for how long."""
    for bound, stretch in _stretches(log.samples):
        mbit, capacity = _mean(s.granted for s in stretch), _mean(s.capacity for s in stretch)
        facts: dict[str, Any] = {
            **clock.span(stretch),
            "mbit": _number(mbit),
            "interface": log.interface,
            "capacity": _number(capacity),
        }
        if bound == "time":
            yield Reason("limit-time", facts | {"hours": stretch[0].limit})
        elif bound == "interface" and mbit >= 0.9 * capacity:
            carried = _mean(s.carried for s in stretch)
            yield Reason(
                "link-full", facts | {"percent": round(100 * carried / max(capacity, 1))}, slow=False
            )
        elif bound == "interface":
            yield Reason("link-shared", facts)
        elif bound == "receivers":
            yield Reason("receivers", facts | {"rate": _number(_mean(s.rate for s in stretch))})
        else:
            yield Reason(f"limit-{bound}", facts)


def _stretches(samples: Sequence[Sample]) -> Iterator[tuple[str, list[Sample]]]:
    """Runs of samples that one limit held, those of a tenth of the whole or more; a shorter time without it
    does not end one."""
    runs: list[tuple[str, list[Sample]]] = []
    for sample in samples:
        held = _held_by(sample)
        if runs and runs[-1][0] == held:
            runs[-1][1].append(sample)
        else:
            runs.append((held, [sample]))
    joined: list[tuple[str, list[Sample]]] = []
    pause = 0
    for held, run in runs:
        if joined and joined[-1][0] == held and pause < max(2, len(samples) / 10):
            joined[-1][1].extend(run)
        elif held and len(run) >= max(2, len(samples) / 10):
            joined.append((held, list(run)))
        else:
            pause += len(run)
            continue
        pause = 0
    yield from joined


def _held_by(sample: Sample) -> str:
    if sample.granted <= 0 or sample.rate <= 0:
        return ""
    if sample.rate >= HELD * sample.granted:
        return sample.bound if sample.bound != "demand" else ""
    wanting = any(point.wanted for point in sample.hosts.values())
    return "receivers" if wanting and sample.rate < 0.7 * sample.granted else ""


def _sender(log: StreamLog, clock: _Clock) -> Iterator[Reason]:
    for event in log.events:
        when = {"at": clock(event.at), **event.facts}
        if event.kind in ("restarted", "given-up"):
            yield Reason(event.kind, when)
        elif event.kind == "server":
            yield Reason("server-restarted", when)
        elif event.kind == "limit":
            yield Reason("limit-set" if event.facts.get("mbit") else "limit-lifted", when, slow=False)
    unreadable = sum(event.kind == "unreadable" for event in log.events)
    if unreadable:
        yield Reason("unreadable", {"count": unreadable})


def _hosts(log: StreamLog, logs: Sequence[StreamLog], clock: _Clock) -> Iterator[Reason]:
    lines: dict[str, list[tuple[float, HostPoint]]] = {}
    for sample in log.samples:
        for host, point in sample.hosts.items():
            lines.setdefault(host, []).append((sample.at, point))
    lossy, slow = [], []
    apart = {event.host for event in log.events if _is_apart(event)}
    for host, line in lines.items():
        if (loss := _lossy(line)) is not None:
            lossy.append((loss[0], host, loss))
        # Buffers of one that loses much are full of unfinished chunks: that says nothing of its disk.
        enough = HALF_BACKLOG if host in apart and loss is None else FULL_BACKLOG
        if (speed := _full(line, enough)) is not None:
            slow.append((speed, host))
    for _, host, (percent, start, end) in sorted(lossy, reverse=True)[:MAX_HOSTS]:
        facts = {"host": host, "percent": _number(percent), "start": clock(start), "end": clock(end)}
        yield Reason(_after_loss(host, start, end, log, logs), facts)
    for place, (speed, host) in enumerate(sorted(slow)[:MAX_HOSTS]):
        code = "slow-disk" if place else "slowest-disk"
        yield Reason(code, {"host": host, "speed": _number(speed / 1e6)})
    for rows in (lossy, slow):
        if len(rows) > MAX_HOSTS:
            yield Reason("more", {"count": len(rows) - MAX_HOSTS})
    told = {host for _, host, _ in lossy} | {host for _, host in slow}
    yield from _ways(log.events, told, clock)
    yield from _comings(log.events, lines, told, clock)


def _is_apart(event: LogEvent) -> bool:
    return event.kind == "class" and event.facts.get("class") in ("slow", "lost")


def _lossy(line: Sequence[tuple[float, HostPoint]]) -> tuple[float, float, float] | None:
    """(percent, from, to) of the time in which a host lost much; None when it did not."""
    bad = []
    for (start, before), (end, after) in pairwise(line):
        received, lost = after.received - before.received, after.lost - before.lost
        if received >= 0 and lost > 0 and 100 * lost / (received + lost) >= LOSS_PERCENT:
            bad.append((start, end, received, lost))
    lost = sum(row[3] for row in bad)
    if lost < 100:  # a handful of datagrams is no reason
        return None
    return 100 * lost / (lost + sum(row[2] for row in bad)), bad[0][0], bad[-1][1]


def _full(line: Sequence[tuple[float, HostPoint]], enough: int) -> float | None:
    """Bytes a second that a host took in while `enough` permille of its buffers were in use; None when they
    seldom were."""
    full = [
        (end - start, after.taken - before.taken)
        for (start, before), (end, after) in pairwise(line)
        if after.backlog >= enough
    ]
    seconds = sum(row[0] for row in full)
    if len(full) < 2 or len(full) < len(line) / 3 or seconds <= 0:
        return None
    return max(0, sum(row[1] for row in full)) / seconds


def _after_loss(host: str, start: float, end: float, log: StreamLog, logs: Sequence[StreamLog]) -> str:
    """The code for a host that lost much: did it stay, or by which way did it go on?"""
    ways = [event.facts.get("way") for event in log.events if _is_away(event, host) and event.at >= start]
    if ways:
        return "lossy-peers" if ways[-1] == "peers" else "lossy-left"
    return "lossy-left" if _went_to_http(host, end, log, logs) else "lossy"


def _is_away(event: LogEvent, host: str = "") -> bool:
    return (
        event.kind == "way"
        and (not host or event.host == host)
        and event.facts.get("way") in ("peers", "http")
    )


def _ways(events: Iterable[LogEvent], told: set[str], clock: _Clock) -> Iterator[Reason]:
    """Who did without multicast, since when, and why; not those of whom the cause was told."""
    first: dict[str, LogEvent] = {}
    for event in events:
        if _is_away(event) and event.host not in told:
            first.setdefault(event.host, event)
    for host, event in list(first.items())[:MAX_HOSTS]:
        facts = {"host": host, "at": clock(event.at), "reason": event.facts.get("reason") or "?"}
        yield Reason(f"way-{event.facts['way']}", facts)
    if len(first) > MAX_HOSTS:
        yield Reason("more", {"count": len(first) - MAX_HOSTS})


def _went_to_http(host: str, after: float, log: StreamLog, logs: Sequence[StreamLog]) -> bool:
    # A host that is still in the session at its end has not left it.
    if log.samples and host in log.samples[-1].hosts and log.samples[-1].hosts[host].wanted:
        return False
    return any(
        sample.at >= after - 2 * other.every and host in sample.hosts
        for other in logs
        if other.way == "http"
        for sample in other.samples
    )


def _comings(
    events: Iterable[LogEvent], lines: Mapping[str, Any], told: set[str], clock: _Clock
) -> Iterator[Reason]:
    """Who came late, fell silent, or was set apart (once each; not those of whom the cause was told)."""
    told = set(told)
    first: float | None = None
    named = 0
    joined: set[str] = set()
    for event in events:
        if event.kind == "joined":
            first = event.at if first is None else first
            if event.host not in joined and event.at - first >= LATE_SECONDS and named < MAX_HOSTS:
                named += 1
                facts = {"host": event.host, "at": clock(event.at), "minutes": round((event.at - first) / 60)}
                yield Reason("late", facts)
            joined.add(event.host)
        elif event.kind == "left" and event.facts.get("reason") == "silent" and _wanted_more(event, lines):
            facts = {"host": event.host, "at": clock(event.at)}
            yield Reason("silent", facts)
        elif _is_apart(event) and event.host not in told:
            told.add(event.host)
            yield Reason(f"class-{event.facts['class']}", {"host": event.host, "at": clock(event.at)})


def _wanted_more(event: LogEvent, lines: Mapping[str, Sequence[tuple[float, HostPoint]]]) -> bool:
    before = [point for at, point in lines.get(event.host, ()) if at <= event.at]
    return bool(before and before[-1].wanted)


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / len(every) if every else 0.0


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
