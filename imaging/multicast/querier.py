"""An IGMP querier, version 2 (RFC 2236): asks who wants which group, while nobody with a lower address asks.

Switches that snoop IGMP forget memberships that nobody asks about; a network without a multicast router has
nobody who asks. A core: packets and the time in, packets and events out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

ALL_SYSTEMS: Final = "224.0.0.1"
#: IPv4 option "router alert" (RFC 2113): routers look into the packet. Switches want it in queries.
ROUTER_ALERT: Final = b"\x94\x04\x00\x00"
IGMP: Final = 2  # protocol number
_QUERY: Final = 0x11

# RFC 2236 §8
ROBUSTNESS: Final = 2
QUERY_SECONDS: Final = 125.0
RESPONSE_SECONDS: Final = 10.0
STARTUP_QUERIES: Final = ROBUSTNESS


@dataclass(frozen=True)
class BecameQuerier:
    """From now on we ask."""


@dataclass(frozen=True)
class HeardAnother:
    """Another querier has a lower address: we are silent while it asks."""

    address: str


Event = BecameQuerier | HeardAnother


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of octets."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def general_query(response_seconds: float = RESPONSE_SECONDS) -> bytes:
    """The IGMP message that asks for all groups; hosts answer within `response_seconds` (at most 25.5)."""
    tenths = min(255, max(1, round(response_seconds * 10)))
    message = struct.pack("!BBH4x", _QUERY, tenths, 0)
    return struct.pack("!BBH4x", _QUERY, tenths, checksum(message))


def read_query(packet: bytes) -> str:
    """Who sent this IPv4 packet, if it is an IGMP query with a right checksum; "" otherwise."""
    if len(packet) < 28 or packet[0] >> 4 != 4 or packet[9] != IGMP:
        return ""
    head, length = (packet[0] & 0x0F) * 4, int.from_bytes(packet[2:4])
    message = packet[head : min(length, len(packet))]
    if head < 20 or len(message) < 8 or message[0] != _QUERY or len(message) % 2 or checksum(message):
        return ""
    return str(IPv4Address(packet[12:16]))


class Querier:
    """The state machine of RFC 2236 §7 for one interface: initial, querier, non-querier."""

    def __init__(
        self,
        address: str,
        now: float,
        *,
        query_seconds: float = QUERY_SECONDS,
        response_seconds: float = RESPONSE_SECONDS,
    ) -> None:
        """`address`: ours on the interface. The first query is due at once."""
        self._own = IPv4Address(address)
        self._every, self._response = query_seconds, response_seconds
        self._startup = STARTUP_QUERIES - 1  # queries that follow more quickly
        self._due = now
        self._silent_until: float | None = None  # another asks
        self._events: list[Event] = [BecameQuerier()]

    @property
    def asks(self) -> bool:
        """Whether it is we who ask."""
        return self._silent_until is None

    def receive(self, packet: bytes, now: float) -> None:
        """An IPv4 packet that came in. Whatever is no query is ignored."""
        other = read_query(packet)
        # 0.0.0.0 is a switch that asks for want of a querier (RFC 4541 §2.1.1): it takes part in no election.
        if not other or IPv4Address(other) == IPv4Address(0) or IPv4Address(other) >= self._own:
            return
        if self.asks:
            self._events.append(HeardAnother(other))
        # RFC 2236 §8.5: other querier present interval
        self._silent_until = now + ROBUSTNESS * self._every + self._response / 2

    def handle_timer(self, now: float) -> None:
        """Time has passed: the other querier may have fallen silent."""
        if self._silent_until is not None and now >= self._silent_until:
            self._silent_until, self._due = None, now
            self._events.append(BecameQuerier())

    def datagrams_to_send(self, now: float) -> list[bytes]:
        """IGMP messages to `ALL_SYSTEMS`, with TTL 1 and the router alert option."""
        if not self.asks or now < self._due:
            return []
        # RFC 2236 §8.6: at the start a quarter of the interval
        self._due = now + (self._every / 4 if self._startup else self._every)
        self._startup = max(0, self._startup - 1)
        return [general_query(self._response)]

    def next_timer(self) -> float:
        """When `handle_timer` and `datagrams_to_send` should be asked again."""
        return self._due if self._silent_until is None else self._silent_until

    def events(self) -> list[Event]:
        """What happened since the last call."""
        told, self._events = self._events, []
        return told
