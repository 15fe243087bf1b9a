"""A new address is looked up before it is offered: `Probe` out, `probed` in (RFC 2131 §2.2)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

from dhcp import options as opt
from dhcp.actions import Action, Probe
from dhcp.leases import SqliteLeases
from dhcp.packet import MessageType
from dhcp.responder import Responder
from dhcp.subnets import ClientSettings, Reservation
from tests.dhcp.conversation import (
    LINK,
    MAC,
    NOW,
    OTHER,
    Shelf,
    message,
    noted,
    plain,
    pxe,
    request,
    sent,
    silent,
    subnet,
)


def probing(leases: SqliteLeases, **changes: Any) -> Responder:
    return Responder([subnet(**{"conflict_probe": True, **changes})], leases, Shelf())


def probe(actions: list[Action]) -> Probe:
    assert silent(actions)
    (found,) = [action for action in actions if isinstance(action, Probe)]
    return found


def test_a_new_address_is_looked_up_before_it_is_offered(leases: SqliteLeases) -> None:
    responder = probing(leases)
    asked = probe(responder.handle(plain(), LINK, NOW))
    assert (asked.address, asked.interface, asked.mac) == ("10.20.0.10", "eth0", MAC)
    offer = sent(responder.probed(asked, False, NOW + 0.3)).packet
    assert (offer.message_type, offer.yiaddr) == (MessageType.OFFER, "10.20.0.10")
    sent(responder.handle(request(plain(), offer), LINK, NOW + 0.4))
    # Its own address is not looked up again: it may well answer itself.
    assert sent(responder.handle(pxe(), LINK, NOW + 60)).packet.yiaddr == "10.20.0.10"


def test_an_address_in_use_goes_out_of_use_and_the_next_is_looked_up(leases: SqliteLeases) -> None:
    responder = probing(leases)
    first = probe(responder.handle(plain(), LINK, NOW))
    actions = responder.probed(first, True, NOW + 0.1)
    assert noted(actions).kind == "dhcp.conflict"
    second = probe(actions)
    assert second.address == "10.20.0.11"
    assert sent(responder.probed(second, False, NOW + 0.4)).packet.yiaddr == "10.20.0.11"
    assert probe(responder.handle(plain(OTHER), LINK, NOW + 1)).address == "10.20.0.12"
    held = leases.owner_of("10.20.0.10")
    assert held is not None
    assert (held.state, held.expires) == ("declined", NOW + 0.1 + 600)


def test_asking_again_meanwhile_starts_no_second_probe_and_the_newest_is_answered(
    leases: SqliteLeases,
) -> None:
    responder = probing(leases)
    asked = probe(responder.handle(plain(), LINK, NOW))
    again = responder.handle(plain(xid=0x99), LINK, NOW + 0.2)
    assert silent(again)
    assert noted(again).kind == "dhcp.ignored"
    assert sent(responder.probed(asked, False, NOW + 0.3)).packet.xid == 0x99
    # A probe that never came back does not lock the machine out.
    lost = probe(responder.handle(plain(OTHER), LINK, NOW))
    assert probe(responder.handle(plain(OTHER), LINK, NOW + 4)).address == lost.address


def test_a_probe_for_a_configuration_that_is_gone_ends_quietly(leases: SqliteLeases) -> None:
    asked = probe(probing(leases).handle(plain(), LINK, NOW))
    assert silent(Responder([], leases, Shelf()).probed(asked, False, NOW + 0.3))
    assert sent(probing(leases).probed(asked, False, NOW + 0.3)).packet.yiaddr == asked.address


def test_a_machine_that_took_another_way_meanwhile_keeps_what_it_got(leases: SqliteLeases) -> None:
    responder = probing(leases)
    asked = probe(responder.handle(plain(), LINK, NOW))
    again = replace(plain(kind=MessageType.REQUEST))
    again.options[opt.REQUESTED_ADDRESS] = opt.addresses([asked.address])
    assert sent(responder.handle(again, LINK, NOW + 0.1)).packet.message_type == MessageType.ACK
    assert sent(responder.probed(asked, True, NOW + 0.3)).packet.yiaddr == asked.address


def test_a_probe_in_the_second_subnet_of_a_wire_counts_there(leases: SqliteLeases) -> None:
    full = subnet(ranges=(), conflict_probe=True)
    second = subnet(
        network=IPv4Network("10.21.0.0/24"), ranges=(("10.21.0.10", "10.21.0.20"),), conflict_probe=True
    )
    responder = Responder([full, second], leases, Shelf())
    asked = probe(responder.handle(plain(), LINK, NOW))
    assert asked.address == "10.21.0.10"
    next_one = probe(responder.probed(asked, True, NOW + 0.2))
    assert next_one.address == "10.21.0.11"
    assert sent(responder.probed(next_one, False, NOW + 0.4)).packet.yiaddr == "10.21.0.11"


def test_one_discover_costs_only_so_many_addresses_where_somebody_answers_for_all(
    leases: SqliteLeases,
) -> None:
    """A router with proxy ARP (or a prankster) says that every address is its."""
    responder = probing(leases, ranges=(("10.20.0.10", "10.20.0.250"),))
    actions = responder.handle(plain(), LINK, NOW)
    for _ in range(250):
        if not any(isinstance(action, Probe) for action in actions):
            break
        actions = responder.probed(probe(actions), True, NOW + 0.1)
    assert len(leases.select(state="declined")) == 32
    assert noted(actions).kind == "dhcp.conflict"
    assert probe(responder.handle(plain(xid=0x99), LINK, NOW + 4)).address == "10.20.0.42"


def test_declines_cannot_shut_a_pool(leases: SqliteLeases) -> None:
    """A stranger with made-up addresses refuses all we have; it is looked up again whether they are free."""
    responder = probing(leases, ranges=(("10.20.0.10", "10.20.0.12"),))
    for number in range(3):
        mac = f"52:54:00:00:00:{number:02}"
        asked = probe(responder.handle(plain(mac), LINK, NOW + number))
        sent(responder.probed(asked, False, NOW + number))
        refused = {opt.REQUESTED_ADDRESS: opt.addresses([asked.address])}
        responder.handle(message(MessageType.DECLINE, mac, refused), LINK, NOW + number)
    assert noted(responder.handle(plain(), LINK, NOW + 10)).kind == "dhcp.exhausted"
    asked = probe(responder.handle(plain(), LINK, NOW + 30.5))  # out of use as long as an offer is kept
    assert asked.address == "10.20.0.10"
    # One that is in use indeed is left alone again, for as long.
    assert [action.kind for action in responder.probed(asked, True, NOW + 30.6)] == [
        "dhcp.conflict",
        "dhcp.exhausted",
    ]
    offer = sent(responder.probed(probe(responder.handle(plain(), LINK, NOW + 33)), False, NOW + 33)).packet
    assert offer.yiaddr == "10.20.0.11"
    assert sent(responder.handle(request(plain(), offer), LINK, NOW + 34)).packet.yiaddr == "10.20.0.11"
    leases.commit()  # the database agrees


def test_without_a_look_a_refused_address_stays_out_of_use(leases: SqliteLeases) -> None:
    responder = probing(leases, ranges=(("10.20.0.10", "10.20.0.10"),), conflict_probe=False)
    sent(responder.handle(plain(), LINK, NOW))
    refused = {opt.REQUESTED_ADDRESS: opt.addresses(["10.20.0.10"])}
    responder.handle(message(MessageType.DECLINE, MAC, refused), LINK, NOW)
    assert noted(responder.handle(plain(), LINK, NOW + 100)).kind == "dhcp.exhausted"


def test_an_address_that_was_only_promised_is_looked_up(leases: SqliteLeases) -> None:
    """The pool comes upon a host's reservation and keeps it for that host: nobody has looked there yet."""

    class Reserved:
        def settings_of(self, mac: str, uuid: bytes | None) -> ClientSettings | None:
            return ClientSettings(reservation=Reservation("10.20.0.10")) if mac == OTHER else None

        def reserved_to(self, address: str) -> str | None:
            return OTHER if address == "10.20.0.10" else None

    responder = Responder([subnet(conflict_probe=True)], leases, Shelf(), Reserved())
    assert probe(responder.handle(plain(), LINK, NOW)).address == "10.20.0.11"
    assert probe(responder.handle(plain(OTHER), LINK, NOW + 9)).address == "10.20.0.10"


def test_a_new_configuration_does_not_make_an_unfinished_look_a_clear_one(leases: SqliteLeases) -> None:
    asked = probe(probing(leases).handle(plain(), LINK, NOW))
    assert probe(probing(leases).handle(plain(xid=0x99), LINK, NOW + 0.1)).address == asked.address
