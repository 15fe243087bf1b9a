"""In which subnet a client is, and as which server we answer: relays, and wires with several subnets."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from dhcp import options as opt
from dhcp.leases import SqliteLeases
from dhcp.packet import MessageType
from dhcp.subnets import Reservation
from tests.dhcp.conversation import (
    LINK,
    MAC,
    NOW,
    OTHER,
    SERVER,
    Make,
    dora,
    plain,
    pxe,
    reboot,
    request,
    sent,
    silent,
    subnet,
)

# --- two addresses, two subnets


def test_a_relay_that_knows_us_by_two_addresses_does_no_harm(make: Make, leases: SqliteLeases) -> None:
    responder = make(server=None)
    second = replace(LINK, address="10.20.0.2", destination="10.20.0.2")
    first = replace(LINK, destination=SERVER)
    offer = sent(responder.handle(plain(), first, NOW)).packet
    other = sent(responder.handle(plain(), second, NOW)).packet
    assert offer.yiaddr == other.yiaddr
    asked = request(plain(), offer)
    for arrived in (second, first):
        ack = sent(responder.handle(asked, arrived, NOW + 1)).packet
        assert (ack.message_type, ack.server_identifier) == (MessageType.ACK, SERVER)


def second_subnet(**changes: Any) -> Any:
    given = {"network": IPv4Network("10.21.0.0/24"), "ranges": (("10.21.0.10", "10.21.0.20"),), "routers": ()}
    return subnet(**{**given, **changes})


def test_a_full_subnet_goes_on_in_the_next_one_on_the_same_wire(make: Make) -> None:
    responder = make(ranges=(("10.20.0.10", "10.20.0.10"),), more=(second_subnet(),))
    assert dora(responder, plain()).yiaddr == "10.20.0.10"
    ack = dora(responder, plain(OTHER))
    assert (ack.yiaddr, ack.server_identifier) == ("10.21.0.10", SERVER)
    # Once there, it stays there: after a restart, on renewal, and when it asks anew.
    assert sent(responder.handle(reboot(OTHER, "10.21.0.10"), LINK, NOW + 5)).packet.message_type == 5
    renew = replace(plain(OTHER, MessageType.REQUEST), ciaddr="10.21.0.10")
    assert sent(responder.handle(renew, LINK, NOW + 6)).packet.message_type == MessageType.ACK
    assert dora(responder, plain(OTHER), NOW + 7).yiaddr == "10.21.0.10"
    # And the first one, which has an address of a wire that is not here, is told so.
    wrong = responder.handle(reboot(MAC, "192.168.1.1"), LINK, NOW + 8)
    assert sent(wrong).packet.message_type == MessageType.NAK


def test_a_reservation_decides_between_subnets_on_one_wire(make: Make) -> None:
    reserved = second_subnet(reservations={MAC: Reservation("10.21.0.200")})
    responder = make(more=(reserved,))
    assert dora(responder, plain()).yiaddr == "10.21.0.200"
    moved = responder.handle(reboot(MAC, "10.20.0.10"), LINK, NOW + 5)
    assert sent(moved).packet.message_type == MessageType.NAK


def test_the_wish_decides_when_nothing_else_does(make: Make) -> None:
    wish = plain()
    wish.options[opt.REQUESTED_ADDRESS] = opt.addresses(["10.21.0.15"])
    assert dora(make(more=(second_subnet(),)), wish).yiaddr == "10.21.0.15"
    # An interface's own subnet comes first, whatever the order in the configuration.
    assert dora(make(more=(second_subnet(),)), plain(OTHER)).yiaddr == "10.20.0.10"


# --- relays


def far() -> Any:
    return subnet(network=IPv4Network("10.30.0.0/24"), interface=None, ranges=(("10.30.0.9", "10.30.0.99"),))


def test_a_relay_gets_the_answer_with_its_information_last(make: Make) -> None:
    relay = b"\x01\x03e:1\x02\x02\xca\xfe"
    discover = plain(giaddr="10.30.0.254")
    discover.options[opt.RELAY_AGENT_INFORMATION] = relay
    offer = sent(make(more=(far(),)).handle(discover, LINK, NOW))
    assert (offer.to, offer.port, offer.l2) == ("10.30.0.254", 67, None)
    assert (offer.packet.giaddr, offer.packet.yiaddr) == ("10.30.0.254", "10.30.0.9")
    assert list(offer.packet.options)[-1] == opt.RELAY_AGENT_INFORMATION
    assert offer.packet.options[opt.RELAY_AGENT_INFORMATION] == relay


def test_a_relay_is_told_to_broadcast_a_nak(make: Make) -> None:
    wrong = replace(reboot(MAC, "192.168.1.1"), giaddr="10.30.0.254")
    nak = sent(make(more=(far(),)).handle(wrong, LINK, NOW))
    assert (nak.to, nak.port, nak.packet.flags) == ("10.30.0.254", 67, 0x8000)


@pytest.mark.parametrize(
    ("option", "value"),
    [(opt.RELAY_AGENT_INFORMATION, b"\x05\x04\x0a\x1e\0\0"), (opt.SUBNET_SELECTION, b"\x0a\x1e\0\0")],
)
def test_a_relay_may_say_which_subnet_is_meant(make: Make, option: int, value: bytes) -> None:
    discover = plain(giaddr="10.20.0.254")
    discover.options[option] = value
    offer = sent(make(more=(far(),)).handle(discover, LINK, NOW)).packet
    assert offer.yiaddr == "10.30.0.9"
    assert offer.options[option] == value


def test_a_relay_may_stand_in_as_the_server(make: Make) -> None:
    discover = pxe(giaddr="10.30.0.254")
    discover.options[opt.RELAY_AGENT_INFORMATION] = b"\x0b\x04\x0a\x1e\x00\xfe"  # RFC 5107
    responder = make(more=(far(),))
    ack = dora(responder, discover)
    assert ack.server_identifier == "10.30.0.254"
    assert (ack.siaddr, ack.sname) == (SERVER, SERVER.encode())  # files it has none


def test_a_relays_word_outranks_118_which_outranks_giaddr(make: Make) -> None:
    third = subnet(network=IPv4Network("10.40.0.0/24"), interface=None, ranges=(("10.40.0.9", "10.40.0.9"),))
    discover = plain(giaddr="10.20.0.254")
    discover.options[opt.SUBNET_SELECTION] = b"\x0a\x1e\0\0"
    discover.options[opt.RELAY_AGENT_INFORMATION] = b"\x05\x04\x0a\x28\0\0"
    responder = make(more=(far(), third))
    assert dora(responder, discover).yiaddr == "10.40.0.9"
    unknown = plain(giaddr="10.20.0.254")
    unknown.options[opt.RELAY_AGENT_INFORMATION] = b"\x05\x04\x0a\x63\0\0"
    assert silent(responder.handle(unknown, LINK, NOW))


def test_without_a_relay_nobody_chooses_his_subnet(make: Make) -> None:
    discover = plain()
    discover.options[opt.SUBNET_SELECTION] = b"\x0a\x1e\0\0"
    offer = sent(make(more=(far(),)).handle(discover, LINK, NOW)).packet
    assert offer.yiaddr == "10.20.0.10"
    assert opt.SUBNET_SELECTION not in offer.options


def test_init_reboot_behind_the_wrong_relay_is_refused(make: Make) -> None:
    responder = make(more=(far(),))
    address = dora(responder, plain()).yiaddr
    nak = sent(responder.handle(replace(reboot(MAC, address), giaddr="10.30.0.254"), LINK, NOW + 5))
    assert (nak.packet.message_type, nak.to) == (MessageType.NAK, "10.30.0.254")


@pytest.mark.parametrize("giaddr", ["255.255.255.255", "224.0.0.1", "239.1.2.3", "10.30.0.255", "127.0.0.1"])
def test_a_relay_cannot_be_a_crowd(make: Make, giaddr: str) -> None:
    discover = plain(giaddr=giaddr)
    discover.options[opt.RELAY_AGENT_INFORMATION] = b"\x05\x04\x0a\x1e\0\0"
    assert silent(make(more=(far(),)).handle(discover, LINK, NOW))


def test_a_relay_on_this_machine_is_answered_and_our_own_answer_ignored(make: Make) -> None:
    offer = sent(make().handle(plain(giaddr=SERVER, hops=1, secs=7), LINK, NOW))
    assert (offer.to, offer.port) == (SERVER, 67)
    assert (offer.packet.hops, offer.packet.secs) == (0, 0)  # RFC 2131 table 3
    assert silent(make().handle(offer.packet, LINK, NOW))


def test_what_the_relay_said_of_a_machine_stays_on_record(make: Make, leases: SqliteLeases) -> None:
    """Circuit and remote id: in which socket the machine is. Renewals go past the relay, without them."""
    responder = make()
    information = b"\x01\x04ge12\x02\x02sw"
    relayed = plain(giaddr="10.20.0.254")
    relayed.options[opt.RELAY_AGENT_INFORMATION] = information
    ack = dora(responder, relayed)
    held = leases.owner_of(ack.yiaddr)
    assert held is not None
    assert held.agent == information.hex()
    renewal = plain(kind=MessageType.REQUEST, ciaddr=ack.yiaddr)
    sent(responder.handle(renewal, replace(LINK, destination=SERVER), NOW + 100))
    held = leases.owner_of(ack.yiaddr)
    assert held is not None
    assert (held.starts, held.agent) == (NOW + 100, information.hex())
