"""Delivery (RFC 2131 §4.1): every row of the table in `dhcp.actions.deliver`."""

from dataclasses import replace
from typing import Any

import pytest

from dhcp.actions import Arrival, deliver
from dhcp.packet import BROADCAST, MessageType
from tests.dhcp.conversation import LINK, MAC, message

AT_4011 = Arrival(interface="eth0", address="10.20.0.1", source="10.20.0.30", source_port=4011, port=4011)


AT_1067 = Arrival(interface="eth0", address="10.20.0.1", source="10.9.0.1", source_port=1067)
RELAY_PORT = {53: b"\3", 82: b"\x01\x01x\x13\x00"}


@pytest.mark.parametrize(
    ("fields", "kind", "arrived_on", "expected"),
    [
        ({"giaddr": "10.9.0.1", "ciaddr": "10.9.0.5", "flags": 0x8000}, 5, LINK, ("10.9.0.1", 67, None)),
        ({"giaddr": "10.9.0.1", "options": RELAY_PORT}, 5, AT_1067, ("10.9.0.1", 1067, None)),
        ({"ciaddr": "10.20.0.30"}, 6, LINK, (BROADCAST, 68, None)),
        ({"ciaddr": "10.20.0.30", "flags": 0x8000}, 5, LINK, ("10.20.0.30", 68, None)),
        ({"flags": 0x8000}, 5, LINK, (BROADCAST, 68, None)),
        ({}, 5, LINK, ("10.20.0.30", 68, MAC)),
        ({"chaddr": bytes(range(16))}, 5, LINK, (BROADCAST, 68, None)),
        ({"htype": 32}, 5, LINK, (BROADCAST, 68, None)),
        ({"ciaddr": "10.20.0.30"}, 5, AT_4011, ("10.20.0.30", 4011, None)),
    ],
    ids=["relay", "relay-port", "nak", "ciaddr", "broadcast-bit", "unicast", "guid", "infiniband", "4011"],
)
def test_delivery(
    fields: dict[str, Any], kind: int, arrived_on: Arrival, expected: tuple[str, int, str | None]
) -> None:
    asked = replace(message(MessageType.REQUEST), **fields)
    reply = message(MessageType(kind), yiaddr="10.20.0.30", op=2)
    send = deliver(asked, reply, arrived_on)
    assert (send.to, send.port, send.l2) == expected
    assert send.broadcast == (expected[0] == BROADCAST)
    assert send.own == (arrived_on.address if arrived_on.port == 4011 else None)


def test_ciaddr_in_a_discover_is_rubbish() -> None:
    discover = message(MessageType.DISCOVER, ciaddr="1.2.3.4")
    assert deliver(discover, message(MessageType.OFFER, yiaddr="10.20.0.30"), LINK).to == "10.20.0.30"


def test_the_size_follows_option_57() -> None:
    discover = message(MessageType.DISCOVER, options={57: (1000).to_bytes(2, "big"), 12: b"x"})
    reply = message(MessageType.OFFER, options={119: b"s" * 240, 121: b"r" * 240})
    assert 576 - 28 < len(deliver(discover, reply, LINK).data()) <= 1000 - 28
