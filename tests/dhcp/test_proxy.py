"""Beside another DHCP server: who is offered what without an address, and what port 4011 says (PXE 2.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from dhcp import options as opt
from dhcp.actions import Arrival, Send
from dhcp.bootfile import BootFile
from dhcp.leases import SqliteLeases
from dhcp.packet import BROADCAST, MessageType, Packet
from dhcp.pxe import PxeClient
from dhcp.responder import Responder
from tests.dhcp.conversation import (
    AT_4011,
    LINK,
    MAC,
    NOW,
    SERVER,
    UUID,
    Shelf,
    boot_request,
    http_boot,
    ipxe,
    message,
    noted,
    plain,
    pxe,
    request,
    sent,
    silent,
    subnet,
    uefi,
)

Make = Callable[..., Responder]
FOREIGN = "10.20.0.254"


@pytest.fixture
def make(leases: SqliteLeases) -> Make:
    def responder(*more: Any, choice: Any = None, **changes: Any) -> Responder:
        return Responder([subnet(**{"mode": "proxy", **changes}), *more], leases, choice or Shelf())

    return responder


def offer_to(responder: Responder, discover: Packet, arrived: Arrival = LINK) -> Packet:
    """The proxy offer, with what is true of every one of them."""
    send = sent(responder.handle(discover, arrived, NOW))
    reply = send.packet
    assert (send.to, send.port, send.l2) == (BROADCAST, 68, None)
    assert (reply.message_type, reply.yiaddr, reply.ciaddr) == (MessageType.OFFER, "0.0.0.0", "0.0.0.0")
    assert reply.flags & 0x8000
    assert reply.xid == discover.xid
    assert (reply.siaddr, reply.server_identifier) == (SERVER, SERVER)
    assert opt.LEASE_TIME not in reply.options
    assert opt.SUBNET_MASK not in reply.options
    return reply


# --- port 67


@pytest.mark.parametrize("flags", [0, 0x8000])
def test_a_bios_rom_gets_its_file_in_the_offer(make: Make, leases: SqliteLeases, flags: int) -> None:
    offer = offer_to(make(), pxe(flags=flags))
    assert (offer.file, offer.sname) == (b"undionly.kpxe", SERVER.encode())
    assert offer.options[60] == b"PXEClient"
    assert offer.options[43] == b"\x06\x01\x08\xff"
    assert offer.options[97] == b"\0" + UUID
    assert leases.all() == []


@pytest.mark.parametrize("arch", [6, 7, 9, 11])
def test_uefi_is_told_nothing_but_whom_to_ask(make: Make, arch: int) -> None:
    offer = offer_to(make(), uefi(arch=arch))
    assert (offer.file, offer.sname) == (b"", b"")
    assert set(offer.options) == {53, 54, 60, 97}
    assert offer.options[60] == b"PXEClient"
    assert offer.options[97] == b"\0" + UUID


def test_style_direct_puts_all_into_the_offer(make: Make) -> None:
    offer = offer_to(make(proxy_style="direct"), uefi())
    assert (offer.file, offer.options[67]) == (b"shimx64.efi", b"shimx64.efi")
    assert offer.options[43] == b"\x06\x01\x08\xff"


@pytest.mark.parametrize("arch", [0, 7, 11])
@pytest.mark.parametrize("style", ["binl", "direct"])
def test_ipxe_takes_its_script_from_the_offer_on_any_firmware(make: Make, arch: int, style: str) -> None:
    offer = offer_to(make(proxy_style=style), ipxe(arch=arch))
    assert offer.file == f"http://{SERVER}/boot/ipxe?mac={MAC}".encode()
    assert offer.options[60] == b"PXEClient"
    assert 175 not in offer.options  # "no proxy" is for the server that gives the address


def test_http_boot_gets_a_url_and_never_a_pxe_offer(make: Make) -> None:
    offer = offer_to(make(), http_boot())
    url = f"http://{SERVER}/boot/files/shimx64.efi".encode()
    assert (offer.options[60], offer.options[67], offer.file) == (b"HTTPClient", url, url)
    assert 43 not in offer.options


def test_a_raspberry_pi_wants_its_name_in_option_43(make: Make) -> None:
    class Shelves(Shelf):
        def choose(self, client: PxeClient, now: float, server: str) -> BootFile | None:
            return BootFile("", "bootcode.bin", "a Pi")

    offer = offer_to(make(choice=Shelves()), pxe("b8:27:eb:00:00:01"))
    assert b"Raspberry Pi Boot" in opt.suboptions(offer.options[43])[9]


def test_a_relayed_discover_is_answered_through_its_relay(make: Make) -> None:
    relay = b"\x01\x03e:1\x0b\x04\x0a\x14\x00\xfd"  # it stands in as the server (82.11), but has no files
    discover = pxe(giaddr="10.20.0.253", flags=0)
    discover.options[opt.RELAY_AGENT_INFORMATION] = relay
    send = sent(make().handle(discover, LINK, NOW))
    assert (send.to, send.port, send.packet.giaddr) == ("10.20.0.253", 67, "10.20.0.253")
    assert send.packet.flags & 0x8000
    assert (send.packet.siaddr, send.packet.server_identifier) == (SERVER, SERVER)
    assert list(send.packet.options)[-1] == opt.RELAY_AGENT_INFORMATION
    assert send.packet.options[opt.RELAY_AGENT_INFORMATION] == relay


class Nothing:
    def choose(self, client: PxeClient, now: float, server: str) -> BootFile | None:
        return None


@pytest.mark.parametrize("discover", [pxe(), uefi(), ipxe(), http_boot()])
def test_a_machine_there_is_nothing_for_hears_nothing(make: Make, discover: Packet) -> None:
    actions = make(choice=Nothing()).handle(discover, LINK, NOW)
    assert silent(actions)
    assert "nothing to boot" in noted(actions).sentence
    assert silent(make(choice=Nothing()).handle(boot_request(discover), AT_4011, NOW))


class Refusing:
    def choose(self, client: PxeClient, now: float, server: str) -> BootFile | None:
        return BootFile("", f"{client.mac}/netboot-not-allowed", "it is blocked")


def test_a_blocked_machine_sees_why(make: Make) -> None:
    assert offer_to(make(choice=Refusing()), pxe()).file == f"{MAC}/netboot-not-allowed".encode()


@pytest.mark.parametrize("kind", [1, 3, 4, 7, 8])
def test_plain_clients_hear_nothing(make: Make, kind: int) -> None:
    packet = plain(kind=MessageType(kind), ciaddr="10.20.0.77" if kind != 1 else "0.0.0.0")
    assert silent(make().handle(packet, LINK, NOW))


def test_bootp_and_our_own_kind_hear_nothing(make: Make) -> None:
    assert silent(make(bootp="answer").handle(replace(pxe(), options={}), LINK, NOW))
    offer = offer_to(make(), pxe())
    assert silent(make().handle(offer, LINK, NOW))
    assert silent(make().handle(replace(offer, op=1), LINK, NOW))


@pytest.mark.parametrize("kind", [3, 4, 7, 8])
def test_what_a_rom_asks_the_other_server_is_not_ours_to_answer(make: Make, kind: int) -> None:
    packet = pxe(ciaddr="10.20.0.77")
    packet.options[opt.MESSAGE_TYPE] = bytes((kind,))
    assert silent(make().handle(packet, LINK, NOW))


def test_the_other_server_is_noticed_when_it_is_chosen(make: Make) -> None:
    responder = make()
    foreign = message(MessageType.OFFER, yiaddr="10.20.0.77", options={54: opt.addresses([FOREIGN])})
    actions = responder.handle(request(pxe(), foreign), LINK, NOW)
    assert silent(actions)
    note = noted(actions)
    assert (note.kind, note.data["server"]) == ("dhcp.foreign_seen", FOREIGN)
    assert responder.foreign == {"10.20.0.0/24": {FOREIGN: NOW}}
    assert noted(responder.handle(request(plain(), foreign), LINK, NOW + 60)).kind == "dhcp.ignored"
    assert responder.foreign["10.20.0.0/24"][FOREIGN] == NOW + 60
    assert noted(responder.handle(request(plain(), foreign), LINK, NOW + 3600)).kind == "dhcp.foreign_seen"


def test_in_mode_off_nobody_hears_anything(make: Make) -> None:
    for packet, arrived in ((pxe(), LINK), (plain(), LINK), (boot_request(uefi()), AT_4011)):
        assert silent(make(mode="off").handle(packet, arrived, NOW))


# --- port 4011


def ack_of(responder: Responder, asked: Packet, arrived: Arrival = AT_4011) -> Send:
    """The ACK, with what is true of every one of them."""
    send = sent(responder.handle(asked, arrived, NOW))
    reply = send.packet
    assert (reply.message_type, reply.xid, reply.ciaddr) == (MessageType.ACK, asked.xid, asked.ciaddr)
    assert (reply.yiaddr, reply.server_identifier) == ("0.0.0.0", SERVER)
    assert (reply.siaddr, reply.sname, reply.options[66]) == (SERVER, SERVER.encode(), SERVER.encode())
    assert reply.file == reply.options[67]
    assert reply.options[60] == b"PXEClient"
    assert opt.LEASE_TIME not in reply.options
    return send


@pytest.mark.parametrize("mode", ["proxy", "full"])
def test_uefi_is_told_its_file_where_it_asks_from(make: Make, leases: SqliteLeases, mode: str) -> None:
    send = ack_of(make(mode=mode), boot_request(uefi()))
    assert (send.to, send.port, send.l2) == ("10.20.0.77", 4011, None)
    assert send.packet.file == b"shimx64.efi"
    assert send.packet.options[97] == b"\0" + UUID
    assert 43 not in send.packet.options
    assert leases.all() == []


def test_ipxe_asks_from_port_68_and_is_told_there(make: Make) -> None:
    send = ack_of(make(), boot_request(ipxe()), replace(AT_4011, source_port=68))
    assert (send.to, send.port) == ("10.20.0.77", 68)


@pytest.mark.parametrize("kind", [1, 3, 8])
def test_roms_use_several_messages_for_it(make: Make, kind: int) -> None:
    asked = boot_request(pxe())
    asked.options[opt.MESSAGE_TYPE] = bytes((kind,))
    assert ack_of(make(), asked).packet.options[43] == b"\x06\x01\x08\xff"
    asked.options[opt.MESSAGE_TYPE] = b"\x07"
    assert silent(make().handle(asked, AT_4011, NOW))


@pytest.mark.parametrize(
    ("discover", "vendor"),
    [(uefi(), b"\x47\x04\x80\x01\x00\x00\xff"), (pxe(), b"\x06\x01\x08\x47\x04\x80\x01\x00\x00\xff")],
)
def test_a_boot_item_that_was_asked_for_comes_back(make: Make, discover: Packet, vendor: bytes) -> None:
    asked = boot_request(discover, o43=b"\x47\x04\x80\x01\x00\x00\xff")
    assert ack_of(make(), asked).packet.options[43] == vendor
    odd = boot_request(uefi(), o43=b"\x47\x02\x80\x01\xff")
    assert 43 not in ack_of(make(), odd).packet.options


@pytest.mark.parametrize("source", ["10.20.0.78", "192.168.7.7", "0.0.0.0"])
def test_the_address_it_asks_from_may_be_anybodys(make: Make, source: str) -> None:
    send = ack_of(make(), boot_request(uefi(), address=source), replace(AT_4011, source=source))
    assert (send.to, send.port) == (BROADCAST if source == "0.0.0.0" else source, 4011)


def test_through_a_relay_or_a_router_its_subnet_is_found(make: Make) -> None:
    far = subnet(network=IPv4Network("10.30.0.0/24"), interface=None, ranges=(), mode="proxy")
    responder = make(far)
    relayed = replace(boot_request(uefi(), address="10.30.0.9"), giaddr="10.30.0.1")
    relayed.options[opt.RELAY_AGENT_INFORMATION] = b"\x01\x01x"
    send = ack_of(responder, relayed, replace(AT_4011, source="10.30.0.1", source_port=67))
    assert (send.to, send.port) == ("10.30.0.1", 67)
    assert send.packet.options[opt.RELAY_AGENT_INFORMATION] == b"\x01\x01x"
    routed = boot_request(uefi(), address="10.30.0.9")
    actions = responder.handle(routed, replace(AT_4011, source="10.30.0.9"), NOW)
    assert noted(actions).data["subnet"] == "10.30.0.0/24"


def test_a_guid_in_chaddr_is_answered_as_well(make: Make) -> None:
    asked = replace(boot_request(uefi()), chaddr=UUID)
    assert ack_of(make(), asked).packet.chaddr == UUID


@pytest.mark.parametrize("packet", [plain(kind=MessageType.REQUEST), boot_request(http_boot())])
def test_4011_is_for_pxe_clients(make: Make, packet: Packet) -> None:
    assert silent(make().handle(packet, AT_4011, NOW))


# --- the foreign server in mode full


def test_a_search_for_a_boot_server_by_broadcast_is_no_renewal(make: Make, leases: SqliteLeases) -> None:
    asked = boot_request(uefi(), address="10.20.0.20", o43=b"\x47\x04\x00\x01\x00\x00\xff")
    actions = make(mode="full").handle(asked, LINK, NOW)
    assert silent(actions)
    assert "boot server" in noted(actions).sentence
    assert leases.all() == []
