"""Who asks for memberships: one querier a network, the one with the lowest address (RFC 2236)."""

from __future__ import annotations

import socket

import pytest

from imaging.multicast.querier import (
    ROUTER_ALERT,
    BecameQuerier,
    HeardAnother,
    Querier,
    checksum,
    general_query,
    read_query,
)

OWN = "10.20.0.10"


def packet(source: str, message: bytes | None = None, options: bytes = ROUTER_ALERT) -> bytes:
    message = general_query() if message is None else message
    head = bytes([0x40 | (20 + len(options)) // 4, 0xC0]) + (20 + len(options) + len(message)).to_bytes(2)
    head += bytes(4) + bytes([1, 2]) + bytes(2) + socket.inet_aton(source) + socket.inet_aton("224.0.0.1")
    return head + options + message


def test_the_message_is_that_of_the_rfc() -> None:
    assert general_query().hex() == "1164ee9b00000000"  # as any IGMPv2 router sends it
    assert checksum(general_query()) == 0
    assert general_query(1.0)[1] == 10


def test_it_asks_at_once_soon_again_and_then_every_two_minutes() -> None:
    querier = Querier(OWN, 0.0)
    assert querier.events() == [BecameQuerier()]
    asked = []
    now = 0.0
    while now < 300:
        asked += [now for _ in querier.datagrams_to_send(now)]
        now = querier.next_timer()
    assert asked == [0.0, 31.25, 156.25, 281.25]


def test_it_is_silent_while_a_lower_address_asks() -> None:
    querier = Querier(OWN, 0.0)
    querier.events()
    assert len(querier.datagrams_to_send(0.0)) == 1
    querier.receive(packet("10.20.0.9"), 10.0)
    querier.receive(packet("10.20.0.9"), 100.0)
    assert querier.events() == [HeardAnother("10.20.0.9")]
    assert not querier.asks
    assert querier.datagrams_to_send(300.0) == []
    assert querier.next_timer() == 100.0 + 255.0  # other querier present interval, §8.5
    querier.handle_timer(354.9)
    assert not querier.asks
    querier.handle_timer(355.0)
    assert querier.asks
    assert len(querier.datagrams_to_send(355.0)) == 1
    assert querier.events() == [BecameQuerier()]


@pytest.mark.parametrize(
    "heard",
    [
        pytest.param(packet("10.20.0.11"), id="a higher address"),
        pytest.param(packet(OWN), id="ourselves"),
        pytest.param(packet("0.0.0.0"), id="a switch that stands in"),
        pytest.param(packet("10.20.0.9", b"\x16" + general_query()[1:]), id="a report"),
        pytest.param(packet("10.20.0.9", general_query()[:-1] + b"\x01"), id="a wrong checksum"),
        pytest.param(packet("10.20.0.9")[:25], id="a torso"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x41" + packet("10.20.0.9")[1:], id="an impossible header"),
    ],
)
def test_it_goes_on_asking_whatever_else_it_hears(heard: bytes) -> None:
    querier = Querier(OWN, 0.0)
    querier.receive(heard, 1.0)
    assert querier.asks


def test_queries_of_version_3_count_too() -> None:
    version3 = general_query()[:2] + bytes(2) + bytes(4) + b"\x02\x7d\x00\x00"
    version3 = version3[:2] + checksum(version3).to_bytes(2) + version3[4:]
    assert read_query(packet("10.20.0.9", version3)) == "10.20.0.9"
    assert read_query(packet("10.20.0.9", options=b"")) == "10.20.0.9"
