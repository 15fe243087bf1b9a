"""The arbiter: how fast each stream of the server may send, under all limits at once.

Weighted max-min fairness by filling up (Bertsekas and Gallager, *Data Networks*, §6.5.2): all streams rise
together in proportion to their weights; whoever meets a limit stays there, and the others share what is
left. So a limit is never exceeded, and nothing is left unused that somebody could use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal

PRIORITIES: Final[dict[str, float]] = {"low": 0.25, "normal": 1.0, "high": 4.0}

#: Which limit a stream met: its own wish, the session's highest rate, its operation's limit, the time of
#: day, or its share of an interface.
Bound = Literal["demand", "session", "operation", "time", "interface"]

# Of what it was given, a stream that uses less than this share leaves the rest to the others …
_IN_USE = 0.9
# … but for a quarter above what it uses, so that it can show that it needs more.
_ROOM = 1.25
#: What an idle stream keeps to begin with, as a share of its interface.
IDLE_SHARE: Final = 0.02


@dataclass(frozen=True)
class Demand:
    """A stream that may want to send: a multicast session, or the downloads (or uploads) of one operation.

    `wish` is what it can use at most, `ceiling` its own highest rate, both in bit/s on the wire.
    """

    key: str
    interface: str
    operation: str = ""
    wish: float = inf
    ceiling: float = inf


@dataclass(frozen=True)
class Limits:
    """What may not be exceeded, in bit/s on the wire; `weights` are of operations (default 1)."""

    interfaces: Mapping[str, float] = field(default_factory=dict)
    operations: Mapping[str, float] = field(default_factory=dict)
    timed: float = inf  # everything together, at this time of day
    timed_interfaces: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Grant:
    """How fast a stream may send (bit/s), and which limit it met."""

    rate: float
    bound: Bound


def share(demands: Sequence[Demand], limits: Limits) -> dict[str, Grant]:
    """A grant for each stream, by key. The sum of the grants under each limit is at most that limit.

    An operation's weight is divided among those of its streams that still rise: one with a few stragglers on
    HTTP beside its session gets as much as one without, and what they do not use the session gets.
    """
    groups = _groups(demands, limits)
    left = {name: capacity for name, (capacity, _) in groups.items()}
    rising = {one.key: one for one in demands}
    rate = dict.fromkeys(rising, 0.0)
    given: dict[str, Grant] = {}
    while rising:
        beside = Counter(_owner(one) for one in rising.values())
        slope = {
            key: limits.weights.get(one.operation, 1.0) / beside[_owner(one)] for key, one in rising.items()
        }
        heavy = {name: sum(slope[key] for key in keys if key in rising) for name, (_, keys) in groups.items()}
        # How far until a stream meets its own end, or a group is full.
        ends = {key: (_own_end(one)[0] - rate[key]) / slope[key] for key, one in rising.items()}
        fills = {name: left[name] / heavy[name] for name in groups if heavy[name] > 0}
        step = min([*ends.values(), *fills.values()])
        if step == inf:
            return given | {key: Grant(inf, "demand") for key in rising}
        for name, total in heavy.items():
            left[name] = max(0.0, left[name] - step * total)
        for key in rising:
            rate[key] += step * slope[key]
        full = {name for name, at in fills.items() if at <= step}
        for key, one in list(rising.items()):
            if ends[key] <= step:
                given[key] = Grant(*_own_end(one))
            elif met := [name for name in full if key in groups[name][1]]:
                # Whoever asks why wants to hear of the limit somebody set before that of the cable.
                given[key] = Grant(rate[key], min(met, key=_rank)[0])
            else:
                continue
            del rising[key]
    return given


def next_wish(used: float, granted: float, idle: float) -> float:
    """What a stream can use, judged by what it used (bit/s) of its last grant; `inf`: all it can get."""
    if used >= _IN_USE * granted:
        return inf
    return max(used * _ROOM, idle)


_Name = tuple[Bound, str]
_ORDER: Final[tuple[Bound, ...]] = ("operation", "time", "interface")


def _rank(name: _Name) -> int:
    return _ORDER.index(name[0])


def _owner(one: Demand) -> tuple[str, str]:
    return one.interface, one.operation or one.key


def _own_end(one: Demand) -> tuple[float, Bound]:
    return (one.ceiling, "session") if one.ceiling <= one.wish else (one.wish, "demand")


def _groups(demands: Iterable[Demand], limits: Limits) -> dict[_Name, tuple[float, set[str]]]:
    """Each limit that holds for several streams: its capacity and its streams."""
    found: dict[_Name, tuple[float, set[str]]] = {}
    for one in demands:
        held: list[tuple[_Name, float]] = [
            (("operation", one.operation), limits.operations.get(one.operation, inf)),
            (("time", ""), limits.timed),
            (("time", one.interface), limits.timed_interfaces.get(one.interface, inf)),
            (("interface", one.interface), limits.interfaces.get(one.interface, inf)),
        ]
        for name, capacity in held:
            if capacity < inf:
                found.setdefault(name, (capacity, set()))[1].add(one.key)
    return found
