"""Conversations: what each kind of machine asks, and what it is told (RFC 2131 §3 and §4.3)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from dhcp import options as opt
from dhcp.actions import Noted
from dhcp.bootfile import BootFile
from dhcp.leases import SqliteLeases
from dhcp.packet import BROADCAST, MessageType, Packet
from dhcp.pxe import PxeClient
from dhcp.subnets import Reservation
from tests.dhcp.conversation import (
    LINK,
    MAC,
    NOW,
    OTHER,
    SERVER,
    UUID,
    Make,
    dora,
    http_boot,
    ipxe,
    message,
    noted,
    plain,
    pxe,
    reboot,
    request,
    seconds,
    sent,
    silent,
    subnet,
    uefi,
)

# --- DORA by kind of machine


def test_an_operating_system_gets_an_address_and_nothing_to_boot(make: Make) -> None:
    ack = dora(make(), plain())
    assert ack.yiaddr == "10.20.0.10"
    assert (ack.siaddr, ack.file, ack.sname) == ("0.0.0.0", b"", b"")
    assert seconds(ack) == 8 * 3600
    assert list(ack.options)[:2] == [opt.MESSAGE_TYPE, opt.SERVER_IDENTIFIER]
    assert ack.options[opt.SUBNET_MASK] == b"\xff\xff\xff\0"
    assert ack.options[opt.ROUTER] == ack.options[opt.DOMAIN_NAME_SERVER] == opt.addresses([SERVER])
    assert ack.options[opt.DOMAIN_NAME] == b"example.org"
    assert opt.VENDOR_CLASS not in ack.options
    assert int.from_bytes(ack.options[opt.RENEWAL_TIME], "big") == 4 * 3600
    assert int.from_bytes(ack.options[opt.REBINDING_TIME], "big") == 7 * 3600


@pytest.mark.parametrize(
    ("discover", "file"),
    [(pxe(), b"undionly.kpxe"), (uefi(), b"shimx64.efi"), (uefi(arch=9), b"shimx64.efi")],
    ids=["bios", "uefi-7", "uefi-9"],
)
def test_a_rom_gets_its_loader_in_header_and_options(make: Make, discover: Packet, file: bytes) -> None:
    ack = dora(make(), discover)
    assert (ack.siaddr, ack.sname, ack.file) == (SERVER, SERVER.encode(), file)
    assert (ack.options[66], ack.options[67]) == (SERVER.encode(), file)
    assert ack.options[60] == b"PXEClient"
    assert ack.options[97] == b"\0" + UUID
    assert ack.options[43] == b"\x06\x01\x08\xff"
    assert opt.OVERLOAD not in ack.options
    assert seconds(ack) == 120
    assert ack.flags == 0x8000


def test_ipxe_gets_its_script_and_need_not_wait_for_a_proxy(make: Make) -> None:
    ack = dora(make(), ipxe())
    assert ack.file == f"http://{SERVER}/boot/ipxe?mac={MAC}".encode()
    assert ack.options[175] == b"\xb0\x01\x01"


def test_uefi_http_boot_gets_a_url_and_its_own_vendor_class(make: Make) -> None:
    ack = dora(make(), http_boot())
    assert ack.options[67] == f"http://{SERVER}/boot/files/shimx64.efi".encode()
    assert ack.options[60] == b"HTTPClient"
    assert 43 not in ack.options


def test_rom_ipxe_and_system_of_one_machine_share_one_lease(make: Make, leases: SqliteLeases) -> None:
    responder = make()
    stages = [pxe(), ipxe(), plain(), plain(OTHER)]  # with three different client identifiers
    addresses = [dora(responder, stage, NOW + 10 * i).yiaddr for i, stage in enumerate(stages)]
    assert addresses == ["10.20.0.10"] * 3 + ["10.20.0.11"]
    assert len(leases.all()) == 2


@pytest.mark.parametrize("uuid", [None, b"", b"\0" * 5, b"\1" * 40])
def test_a_uuid_of_any_length_comes_back_as_it_was(make: Make, uuid: bytes | None) -> None:
    assert dora(make(), pxe(uuid=uuid)).options.get(97) == uuid


def test_a_machine_we_have_nothing_for_still_gets_an_address(make: Make) -> None:
    discover = pxe(arch=10)
    actions = make().handle(discover, LINK, NOW)
    offer = sent(actions).packet
    assert offer.yiaddr == "10.20.0.10"
    assert offer.file == b""
    assert "nothing to boot" in noted(actions).sentence


class Fixed:
    def __init__(self, boot: BootFile) -> None:
        self.boot = boot

    def choose(self, client: PxeClient, now: float, server: str) -> BootFile | None:
        return self.boot


def test_a_long_url_goes_into_option_67_alone(make: Make) -> None:
    url = "http://10.20.0.1/" + "x" * 150
    ack = dora(make(choice=Fixed(BootFile("", url, "long"))), ipxe())
    assert (ack.file, ack.options[67], ack.siaddr) == (b"", url.encode(), SERVER)


@pytest.mark.parametrize(
    ("boot", "discover", "why"),
    [
        (BootFile("", "x" * 300, "r"), pxe(), "300 characters"),
        (BootFile("", "amorçage", "r"), pxe(), "not ASCII"),
        (BootFile("", "shimx64.efi", "r"), http_boot(), "needs a URL"),
    ],
)
def test_a_boot_file_that_cannot_be_said_is_explained(
    make: Make, boot: BootFile, discover: Packet, why: str
) -> None:
    actions = make(choice=Fixed(boot)).handle(discover, LINK, NOW)
    assert sent(actions).packet.file == b""
    assert why in noted(actions).sentence


def test_the_note_says_who_what_and_why(make: Make) -> None:
    responder = make()
    note = noted(responder.handle(pxe(), LINK, NOW))
    assert (note.kind, note.mac) == ("dhcp.offered", MAC)
    assert note.sentence == (
        f"offered 10.20.0.10 to {MAC} (bios PXE); boots undionly.kpxe: first loader for bios"
    )
    assert note.data == {
        "subnet": "10.20.0.0/24", "address": "10.20.0.10", "server": SERVER,
        "architecture": "bios", "ipxe": False, "http": False, "file": "undionly.kpxe",
    }  # fmt: skip


# --- REQUEST in its four states (RFC 2131 §4.3.2)


def test_a_client_that_chose_another_server_frees_our_offer(make: Make, leases: SqliteLeases) -> None:
    responder = make(ranges=(("10.20.0.10", "10.20.0.10"),))
    offer = sent(responder.handle(plain(), LINK, NOW)).packet
    foreign = replace(offer, options={**offer.options, opt.SERVER_IDENTIFIER: opt.addresses(["10.20.0.77"])})
    actions = responder.handle(request(plain(), foreign), LINK, NOW)
    assert silent(actions)
    assert [note.kind for note in actions if isinstance(note, Noted)] == ["dhcp.passed", "dhcp.foreign_seen"]
    assert responder.foreign == {"10.20.0.0/24": {"10.20.0.77": NOW}}
    assert dora(responder, plain(OTHER)).yiaddr == "10.20.0.10"


def test_selecting_an_address_that_is_anothers_is_refused(make: Make) -> None:
    responder = make()
    dora(responder, plain())
    stolen = message(
        MessageType.REQUEST, OTHER,
        {opt.SERVER_IDENTIFIER: bytes((10, 20, 0, 1)), opt.REQUESTED_ADDRESS: bytes((10, 20, 0, 10))},
    )  # fmt: skip
    actions = responder.handle(stolen, LINK, NOW + 2)
    nak = sent(actions)
    assert nak.packet.message_type == MessageType.NAK
    assert (nak.to, nak.port, nak.packet.yiaddr) == (BROADCAST, 68, "0.0.0.0")
    assert set(nak.packet.options) == {opt.MESSAGE_TYPE, opt.SERVER_IDENTIFIER, opt.MESSAGE}
    assert f"held by {MAC}" in noted(actions).sentence


def test_init_reboot_of_a_known_client_is_confirmed(make: Make) -> None:
    responder = make()
    address = dora(responder, plain()).yiaddr
    ack = sent(responder.handle(reboot(MAC, address), LINK, NOW + 60)).packet
    assert (ack.message_type, ack.yiaddr) == (MessageType.ACK, address)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.20.0.11", "holds 10.20.0.10"),
        ("192.168.1.5", "does not belong"),
        ("10.20.0.200", "not in the pool"),
    ],
)
def test_init_reboot_with_the_wrong_address_is_refused(make: Make, address: str, why: str) -> None:
    responder = make()
    dora(responder, plain())
    actions = responder.handle(reboot(MAC, address), LINK, NOW + 60)
    assert sent(actions).packet.message_type == MessageType.NAK
    assert why in noted(actions).sentence


def test_an_unknown_client_is_adopted_by_the_authority_and_met_with_silence_otherwise(make: Make) -> None:
    assert silent(make(authoritative=False).handle(reboot(MAC, "10.20.0.33"), LINK, NOW))
    assert silent(make(authoritative=False).handle(reboot(MAC, "192.168.0.3"), LINK, NOW))
    actions = make().handle(reboot(MAC, "10.20.0.33"), LINK, NOW)
    assert sent(actions).packet.yiaddr == "10.20.0.33"
    assert "adopted" in noted(actions).sentence


def test_renewing_extends_and_answers_to_the_clients_address(make: Make, leases: SqliteLeases) -> None:
    responder = make()
    address = dora(responder, plain()).yiaddr
    renew = replace(plain(kind=MessageType.REQUEST), ciaddr=address)
    arrived = replace(LINK, destination=SERVER, source=address)
    ack = sent(responder.handle(renew, arrived, NOW + 10_000))
    assert (ack.to, ack.port, ack.l2) == (address, 68, None)
    assert (ack.packet.ciaddr, ack.packet.yiaddr) == (address, address)
    held = leases.owner_of(address)
    assert held is not None
    assert held.expires == NOW + 10_000 + 8 * 3600


def test_renewing_past_the_relay_finds_the_clients_subnet(make: Make) -> None:
    far = subnet(network=IPv4Network("10.30.0.0/24"), interface=None, ranges=(("10.30.0.9", "10.30.0.9"),))
    responder = make(more=(far,))
    relayed = plain(giaddr="10.30.0.254")
    address = dora(responder, relayed).yiaddr
    renew = replace(plain(kind=MessageType.REQUEST), ciaddr=address)
    ack = sent(responder.handle(renew, replace(LINK, destination=SERVER, source=address), NOW + 60))
    assert (ack.packet.message_type, ack.to) == (MessageType.ACK, "10.30.0.9")
    # The same by broadcast is a machine that was carried into another room: its address is wrong here.
    nak = sent(responder.handle(renew, LINK, NOW + 60))
    assert (nak.packet.message_type, nak.to) == (MessageType.NAK, BROADCAST)


def test_a_renewal_that_names_another_server_is_not_for_us(make: Make, leases: SqliteLeases) -> None:
    renew = replace(plain(kind=MessageType.REQUEST), ciaddr="10.20.0.30")
    renew.options[opt.SERVER_IDENTIFIER] = opt.addresses(["10.20.0.77"])
    assert silent(make().handle(renew, LINK, NOW))
    assert leases.all() == []


def test_rebinding_after_somebody_else_got_the_address_is_refused(make: Make) -> None:
    responder = make(ranges=(("10.20.0.10", "10.20.0.10"),))
    dora(responder, plain())
    dora(responder, plain(OTHER), NOW + 9 * 3600)
    late = replace(plain(kind=MessageType.REQUEST), ciaddr="10.20.0.10")
    assert sent(responder.handle(late, LINK, NOW + 9 * 3600 + 5)).packet.message_type == MessageType.NAK


# --- the other messages


def test_decline_puts_the_address_out_of_use(make: Make) -> None:
    responder = make()
    ack = dora(responder, plain())
    decline = message(
        MessageType.DECLINE,
        options={
            opt.REQUESTED_ADDRESS: opt.addresses([ack.yiaddr]),
            opt.SERVER_IDENTIFIER: opt.addresses([SERVER]),
        },
    )
    actions = responder.handle(decline, LINK, NOW + 2)
    assert silent(actions)
    assert noted(actions).kind == "dhcp.declined"
    assert dora(responder, plain(), NOW + 3).yiaddr == "10.20.0.11"


def test_nobody_declines_or_releases_anothers_address(make: Make, leases: SqliteLeases) -> None:
    responder = make()
    address = dora(responder, plain()).yiaddr
    decline = message(MessageType.DECLINE, OTHER, {opt.REQUESTED_ADDRESS: opt.addresses([address])})
    release = message(MessageType.RELEASE, OTHER, ciaddr=address)
    for packet in (decline, release):
        assert noted(responder.handle(packet, LINK, NOW + 2)).kind == "dhcp.ignored"
    held = leases.owner_of(address)
    assert held is not None
    assert held.held_by(MAC, NOW + 3)


def test_release_is_silent_and_the_machine_gets_its_address_back(make: Make) -> None:
    responder = make()
    address = dora(responder, plain()).yiaddr
    actions = responder.handle(message(MessageType.RELEASE, ciaddr=address), LINK, NOW + 2)
    assert silent(actions)
    assert noted(actions).kind == "dhcp.released"
    assert dora(responder, plain(OTHER), NOW + 3).yiaddr == "10.20.0.11"
    assert dora(responder, plain(), NOW + 4).yiaddr == address


def test_inform_tells_options_without_a_lease(make: Make, leases: SqliteLeases) -> None:
    inform = replace(plain(kind=MessageType.INFORM), ciaddr="10.20.0.200")
    ack = sent(make().handle(inform, LINK, NOW))
    assert (ack.to, ack.port, ack.packet.yiaddr) == ("10.20.0.200", 68, "0.0.0.0")
    assert opt.LEASE_TIME not in ack.packet.options
    assert ack.packet.options[opt.ROUTER] == opt.addresses([SERVER])
    assert leases.all() == []


@pytest.mark.parametrize("ciaddr", ["8.8.8.8", "10.20.0.255", "10.20.0.0"])
def test_inform_cannot_make_us_send_to_strangers_or_to_everybody(make: Make, ciaddr: str) -> None:
    assert silent(make().handle(replace(plain(kind=MessageType.INFORM), ciaddr=ciaddr), LINK, NOW))


@pytest.mark.parametrize("kind", [0, 2, 4, 5, 6, 13, 255])
def test_other_messages_are_ignored_with_a_reason(make: Make, kind: int) -> None:
    packet = plain()
    packet.options[opt.MESSAGE_TYPE] = bytes((kind,))
    actions = make().handle(packet, LINK, NOW)
    assert silent(actions)
    assert noted(actions).sentence


def test_inform_that_forgot_its_address_is_answered_where_it_came_from(make: Make) -> None:
    inform = plain(kind=MessageType.INFORM)
    ack = sent(make().handle(inform, replace(LINK, source="10.20.0.200"), NOW))
    assert (ack.to, ack.port) == ("10.20.0.200", 68)
    assert silent(make().handle(inform, LINK, NOW))


def test_a_rom_that_informs_is_told_what_to_boot(make: Make, leases: SqliteLeases) -> None:
    inform = pxe(ciaddr="10.20.0.200", flags=0)
    inform.options[opt.MESSAGE_TYPE] = bytes((MessageType.INFORM,))
    ack = sent(make().handle(inform, LINK, NOW)).packet
    assert (ack.file, ack.yiaddr) == (b"undionly.kpxe", "0.0.0.0")
    assert leases.all() == []


# --- configuration


def test_a_reservation_gives_address_and_name(make: Make) -> None:
    responder = make(reservations={MAC: Reservation("10.20.0.200", "b204-01")})
    ack = dora(responder, plain())
    assert ack.yiaddr == "10.20.0.200"
    assert ack.options[opt.HOST_NAME] == b"b204-01"


def test_a_new_reservation_moves_a_machine_that_has_a_lease(make: Make) -> None:
    assert dora(make(), plain()).yiaddr == "10.20.0.10"
    moved = make(reservations={MAC: Reservation("10.20.0.200")})
    renew = replace(plain(kind=MessageType.REQUEST), ciaddr="10.20.0.10")
    assert sent(moved.handle(renew, LINK, NOW + 5)).packet.message_type == MessageType.NAK
    assert dora(moved, plain(), NOW + 6).yiaddr == "10.20.0.200"
    # The address it left is free for others.
    assert dora(moved, plain(OTHER), NOW + 7).yiaddr in ("10.20.0.10", "10.20.0.11")


def test_a_reserved_address_that_is_still_anothers_leaves_nobody_without(make: Make) -> None:
    assert dora(make(), plain(OTHER)).yiaddr == "10.20.0.10"
    responder = make(reservations={MAC: Reservation("10.20.0.10")})
    assert dora(responder, plain(), NOW + 5).yiaddr == "10.20.0.11"
    late = NOW + 9 * 3600
    assert dora(responder, plain(), late).yiaddr == "10.20.0.10"


def test_an_exhausted_pool_is_said_not_hidden(make: Make) -> None:
    responder = make(ranges=(("10.20.0.10", "10.20.0.10"),))
    dora(responder, plain())
    actions = responder.handle(plain(OTHER), LINK, NOW + 5)
    assert silent(actions)
    assert noted(actions).kind == "dhcp.exhausted"


@pytest.mark.parametrize(("wish", "given"), [(600, 600), (5, 60), (10**6, 8 * 3600)])
def test_a_shorter_lease_may_be_wished_for(make: Make, wish: int, given: int) -> None:
    discover = plain()
    discover.options[opt.LEASE_TIME] = opt.seconds(wish)
    assert seconds(dora(make(), discover)) == given


@pytest.mark.parametrize("mode", ["off", "proxy"])
def test_no_addresses_where_another_server_gives_them(make: Make, mode: str) -> None:
    actions = make(mode=mode).handle(plain(), LINK, NOW)
    assert silent(actions)
    assert mode in noted(actions).sentence


def test_a_link_without_a_subnet_is_left_alone(make: Make) -> None:
    actions = make().handle(plain(), replace(LINK, interface="eth9"), NOW)
    assert silent(actions)
    assert "eth9" in noted(actions).sentence
    assert silent(make().handle(plain(giaddr="10.99.0.1"), LINK, NOW))
    assert silent(make().handle(plain(), replace(LINK, address="0.0.0.0"), NOW))
