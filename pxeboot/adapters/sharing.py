"""What each stream may do now: the arbiter, asked with the limits of settings and operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import inf

from pxeboot.adapters.links import timed_limits
from pxeboot.adapters.streams import Stream
from pxeboot.settings import Settings
from pxeboot.settings.limits import TimedLimit
from pxeboot.transfer.arbiter import IDLE_SHARE, Demand, Grant, Limits, share


def grants(
    streams: Sequence[Stream],
    capacities: Mapping[str, float],
    rules: Mapping[str, tuple[float | None, float]],
    settings: Settings,
    at: datetime,
) -> dict[str, Grant]:
    """By key of a stream. `capacities`: bit/s of interfaces; `rules`: Mbit/s and weights of operations.

    What comes in is shared out by itself, under the same limits: a link carries as much in each direction.
    """
    timed = timed_limits(settings, at)
    limits = Limits(
        interfaces=capacities,
        operations={id: rule[0] * 1e6 for id, rule in rules.items() if rule[0]},
        timed=min((one.rate for one in timed if not one.interface), default=inf),
        timed_interfaces=_lowest(timed),
        weights={id: rule[1] for id, rule in rules.items()},
    )
    most = settings.multicast.rate_mbit
    session_most = most * 1e6 if most else inf  # unset: the interface is the limit
    given: dict[str, Grant] = {}
    for incoming in (False, True):
        demands = [
            Demand(
                stream.key,
                stream.interface,
                stream.operation,
                max(stream.wish, IDLE_SHARE * capacities[stream.interface]),
                session_most if stream.gate is None else inf,
            )
            for stream in streams
            if stream.incoming is incoming
        ]
        given |= share(demands, limits)
    return given


def _lowest(timed: Sequence[TimedLimit]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in timed:
        if one.interface:
            found[one.interface] = min(one.rate, found.get(one.interface, inf))
    return found
