"""Our interfaces as the arbiter sees them: which one an address of ours is on, and how much it may carry."""

from __future__ import annotations

import time
from datetime import datetime
from math import inf
from zoneinfo import ZoneInfo

from imaging.multicast.udp import interface_of, link_mbit
from pxeboot.settings import Settings
from pxeboot.settings.limits import TimedLimit, holding, parse_cap, parse_limit

ASSUMED_MBIT = 1000  # where the kernel does not know a link's speed
_ASK_SECONDS = 30.0  # a cable may be moved to another port


class Links:
    """Names and speeds of interfaces, asked of the kernel and kept for half a minute."""

    def __init__(self) -> None:
        self._names: dict[str, tuple[float, str]] = {}
        self._speeds: dict[str, tuple[float, int]] = {}

    def name(self, address: str) -> str:
        """The interface that has this address; the address itself where none has."""
        asked, name = self._names.get(address, (-inf, ""))
        if time.monotonic() - asked > _ASK_SECONDS:
            name = interface_of(address) or address
            self._names[address] = time.monotonic(), name
            self._speeds[name] = time.monotonic(), link_mbit(address) or ASSUMED_MBIT
        return name

    def speed(self, name: str) -> float:
        """Its speed in bit/s, as it was when `name` was last asked for."""
        return self._speeds.get(name, (0.0, ASSUMED_MBIT))[1] * 1e6


def capacities(settings: Settings, links: Links, names: set[str]) -> dict[str, float]:
    """What each interface may carry, in bit/s."""
    caps = dict(parse_cap(text) for text in settings.bandwidth.caps)
    part = settings.bandwidth.share_percent / 100
    return {name: caps.get(name, links.speed(name) * part) for name in names}


def timed_limits(settings: Settings, at: datetime) -> list[TimedLimit]:
    """The limits by time of day that hold at a moment."""
    zone = ZoneInfo(settings.bandwidth.zone or settings.server.zone)
    return holding([parse_limit(text) for text in settings.bandwidth.limits], at.astimezone(zone))
