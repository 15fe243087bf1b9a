"""Which address a machine may have where reservations come from its own settings."""

from __future__ import annotations

from dhcp import options as opt
from dhcp.leases import SqliteLeases
from dhcp.responder import Responder
from dhcp.subnets import ClientSettings, Reservation
from tests.dhcp.conversation import (
    LINK,
    MAC,
    NOW,
    OTHER,
    SERVER,
    Shelf,
    noted,
    plain,
    request,
    sent,
    subnet,
)


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
