"""Two things a DISCOVER waits for: what is set for the machine, and whether its new address is free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

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
    SERVER,
    Shelf,
    noted,
    plain,
    pxe,
    request,
    sent,
    silent,
    subnet,
)

OTHER = "52:54:00:aa:bb:02"


class Hosts:
    """HostSettings as a site would have them."""

    def __init__(self, **by_mac: ClientSettings) -> None:
        self.by_mac = {mac.replace("_", ":"): settings for mac, settings in by_mac.items()}

    def settings_of(self, mac: str, uuid: bytes | None) -> ClientSettings | None:
        return self.by_mac.get(mac)

    def reserved_to(self, address: str) -> str | None:
        for mac, settings in self.by_mac.items():
            if settings.reservation is not None and settings.reservation.address == address:
                return mac
        return None


@pytest.fixture
def leases(tmp_path: Path) -> Iterator[SqliteLeases]:
    store = SqliteLeases(tmp_path / "leases.sqlite")
    yield store
    store.close()


def probing(leases: SqliteLeases, **changes: Any) -> Responder:
    return Responder([subnet(conflict_probe=True, **changes)], leases, Shelf())


def probe(actions: list[Action]) -> Probe:
    assert silent(actions)
    (found,) = [action for action in actions if isinstance(action, Probe)]
    return found


# --- probing


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


# --- what is set for one machine


def test_a_hosts_own_reservation_wins_where_it_lies_inside(leases: SqliteLeases) -> None:
    own = {"10.20.0.30": "10.20.0.30", "10.99.0.1": "10.20.0.200", SERVER: "10.20.0.200"}
    for address, given in own.items():
        hosts = Hosts(**{MAC.replace(":", "_"): ClientSettings(reservation=Reservation(address, "b204-01"))})
        responder = Responder(
            [subnet(reservations={MAC: Reservation("10.20.0.200")})], leases, Shelf(), hosts
        )
        assert sent(responder.handle(plain(), LINK, NOW)).packet.yiaddr == given


def test_an_address_that_a_host_reserves_is_not_given_to_others(leases: SqliteLeases) -> None:
    hosts = Hosts(**{MAC.replace(":", "_"): ClientSettings(reservation=Reservation("10.20.0.10"))})
    responder = Responder([subnet()], leases, Shelf(), hosts)
    wish = plain(OTHER)
    wish.options[opt.REQUESTED_ADDRESS] = opt.addresses(["10.20.0.10"])
    assert sent(responder.handle(wish, LINK, NOW)).packet.yiaddr == "10.20.0.11"
    assert sent(responder.handle(plain(), LINK, NOW + 1)).packet.yiaddr == "10.20.0.10"


def test_a_pool_full_of_reservations_gives_what_is_left(leases: SqliteLeases) -> None:
    """Also when the machines they belong to have leases elsewhere, and more than once."""
    owners = {f"52:54:00:cc:00:{last:02x}": f"10.20.0.{last}" for last in range(10, 50)}
    before = Responder([subnet(ranges=(("10.20.0.100", "10.20.0.200"),))], leases, Shelf())
    for mac in owners:
        offer = sent(before.handle(plain(mac), LINK, NOW)).packet
        sent(before.handle(request(plain(mac), offer), LINK, NOW))
    hosts = Hosts()
    hosts.by_mac = {mac: ClientSettings(reservation=Reservation(address)) for mac, address in owners.items()}
    responder = Responder([subnet()], leases, Shelf(), hosts)
    assert sent(responder.handle(plain(), LINK, NOW + 1)).packet.yiaddr == "10.20.0.50"
    refused = responder.handle(plain(OTHER), LINK, NOW + 2)
    assert noted(refused).kind == "dhcp.exhausted"
    for mac, address in owners.items():
        assert sent(responder.handle(plain(mac), LINK, NOW + 3)).packet.yiaddr == address


def test_a_hosts_options_outrank_the_subnets(leases: SqliteLeases) -> None:
    hosts = Hosts(**{MAC.replace(":", "_"): ClientSettings(options={opt.DOMAIN_NAME: b"lab.example"})})
    responder = Responder([subnet()], leases, Shelf(), hosts)
    assert sent(responder.handle(plain(), LINK, NOW)).packet.options[15] == b"lab.example"
    assert sent(responder.handle(plain(OTHER), LINK, NOW)).packet.options[15] == b"example.org"
