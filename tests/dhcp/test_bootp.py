"""BOOTP: answered when the subnet says so, for reserved machines only (RFC 951, RFC 1534)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dhcp import options as opt
from dhcp.leases import SqliteLeases
from dhcp.packet import BROADCAST, Packet, PacketError
from dhcp.responder import Responder
from dhcp.subnets import Reservation
from tests.dhcp.conversation import LINK, MAC, NOW, SERVER, Shelf, noted, plain, request, sent, silent, subnet

Make = Callable[..., Responder]
RESERVED = {MAC: Reservation("10.20.0.200", "b204-01")}


@pytest.fixture
def make(leases: SqliteLeases) -> Make:
    def responder(**changes: Any) -> Responder:
        given = {"bootp": "answer", "reservations": RESERVED, **changes}
        return Responder([subnet(**given)], leases, Shelf())

    return responder


def bootp(cookie: bytes = bytes(4), **fields: Any) -> Packet:
    """A request as old ROMs send it: 300 bytes, the vendor area empty."""
    sample = Packet(xid=0x77, chaddr=bytes.fromhex(MAC.replace(":", "")), **fields).to_bytes()
    return Packet.parse(sample[:236] + cookie + bytes(60))


def test_a_request_without_the_magic_cookie_is_bootp_if_it_has_its_size() -> None:
    assert (bootp().options, bootp().message_type) == ({}, 0)
    with pytest.raises(PacketError):
        Packet.parse(bytes((1, 1, 6, 0)) + bytes(250))
    with pytest.raises(PacketError):
        Packet.parse(bytes((2, 1, 6, 0)) + bytes(300))


@pytest.mark.parametrize("cookie", [bytes(4), b"\x63\x82\x53\x63", b"CMU\0"])
def test_a_reserved_machine_is_told_everything_in_one_reply(
    make: Make, leases: SqliteLeases, cookie: bytes
) -> None:
    send = sent(make().handle(bootp(cookie, flags=0x8000), LINK, NOW))
    reply = send.packet
    assert (send.to, send.port) == (BROADCAST, 68)
    assert (reply.yiaddr, reply.siaddr, reply.file) == ("10.20.0.200", SERVER, b"undionly.kpxe")
    assert not {51, 53, 54} & set(reply.options)  # RFC 1534 §2: no DHCP options
    assert reply.options[opt.SUBNET_MASK] == b"\xff\xff\xff\0"
    assert reply.options[opt.ROUTER] == opt.addresses([SERVER])
    assert reply.options[opt.HOST_NAME] == b"b204-01"
    assert len(send.data()) == 300
    held = leases.owner_of("10.20.0.200")
    assert held is not None
    assert held.mac == MAC


def test_many_options_are_cut_to_the_vendor_area(make: Make) -> None:
    reply = make(dns=tuple(f"10.20.0.{n}" for n in range(2, 12)), domain="a.long.domain.example.org")
    assert len(sent(reply.handle(bootp(), LINK, NOW)).data()) == 300


def test_a_file_that_the_site_sets_wins_for_a_plain_rom(make: Make) -> None:
    by_hand = {opt.BOOT_FILE_NAME: b"eb.zli", opt.TFTP_SERVER_NAME: b"10.20.0.9"}
    reply = sent(make(options=by_hand).handle(bootp(), LINK, NOW)).packet
    assert (reply.siaddr, reply.file) == ("10.20.0.9", b"eb.zli")
    named = {**by_hand, opt.TFTP_SERVER_NAME: b"tftp.example.org"}
    assert sent(make(options=named).handle(bootp(), LINK, NOW)).packet.siaddr == SERVER


@pytest.mark.parametrize(
    ("changes", "fields", "why"),
    [
        ({"bootp": "ignore"}, {}, "setting bootp"),
        ({"reservations": {}}, {}, "no reservation"),
        ({"mode": "proxy"}, {}, "mode proxy"),
        ({}, {"sname": b"other"}, "'other'"),
    ],
)
def test_everybody_else_hears_nothing(
    make: Make, changes: dict[str, Any], fields: dict[str, Any], why: str
) -> None:
    actions = make(**changes).handle(bootp(**fields), LINK, NOW)
    assert silent(actions)
    assert why in noted(actions).sentence


def test_an_address_that_is_still_anothers_is_not_given(make: Make) -> None:
    other = "52:54:00:aa:bb:02"
    before = make(reservations={other: Reservation("10.20.0.200")})
    offer = sent(before.handle(plain(other), LINK, NOW)).packet
    sent(before.handle(request(plain(other), offer), LINK, NOW))
    actions = make().handle(bootp(), LINK, NOW + 1)
    assert silent(actions)
    assert "held by" in noted(actions).sentence


def test_a_message_type_of_zero_is_no_bootp(make: Make) -> None:
    packet = plain()
    packet.options[opt.MESSAGE_TYPE] = b"\0"
    assert silent(make().handle(packet, LINK, NOW))
