"""Who is asking: the architectures, iPXE however it says so, and clients with odd addresses."""

from dataclasses import replace

import pytest

from dhcp import options as opt
from dhcp.packet import MessageType, Packet
from dhcp.pxe import Ignored, PlainClient, PxeClient, identify
from tests.dhcp.conversation import MAC, UUID, http_boot, ipxe, message, plain, pxe, uefi


def client(packet: Packet) -> PxeClient:
    found = identify(packet)
    assert isinstance(found, PxeClient), found
    return found


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        (0, "bios"), (6, "x86-uefi"), (7, "x64-uefi"), (9, "x64-uefi"), (10, "arm32-uefi"),
        (11, "arm64-uefi"), (27, "riscv64-uefi"), (39, "loongarch64-uefi"),
    ],
)  # fmt: skip
def test_pxe_architectures(arch: int, name: str) -> None:
    found = client(pxe(arch=arch))
    assert (found.architecture.name, found.http, found.ipxe, found.uuid) == (name, False, False, UUID)
    assert found.kind == f"{name} PXE"


@pytest.mark.parametrize(
    ("arch", "name"),
    [(15, "x86-uefi"), (16, "x64-uefi"), (17, "x64-uefi"), (18, "arm32-uefi"), (19, "arm64-uefi")],
)
def test_http_boot(arch: int, name: str) -> None:
    found = client(http_boot(arch=arch))
    assert (found.architecture.name, found.architecture.http, found.http) == (name, True, True)


def test_an_unknown_architecture_is_still_a_client() -> None:
    assert client(pxe(arch=999)).architecture.name == "architecture-999"


def test_the_first_known_of_several_architectures_counts() -> None:
    packet = uefi()
    packet.options[opt.CLIENT_ARCHITECTURE] = b"\x01\x00\x00\x07\x00\x00"
    assert client(packet).architecture.name == "x64-uefi"


def test_an_old_rom_says_its_architecture_only_in_option_60() -> None:
    packet = pxe(arch=7)
    del packet.options[opt.CLIENT_ARCHITECTURE]
    assert client(packet).architecture.name == "x64-uefi"


def test_pxe_without_any_architecture_is_a_plain_client_with_a_note() -> None:
    packet = message(MessageType.DISCOVER, options={opt.VENDOR_CLASS: b"PXEClient"})
    found = identify(packet)
    assert isinstance(found, PlainClient)
    assert "option 93" in found.note


def test_a_raspberry_pi_claims_to_be_a_bios() -> None:
    assert client(pxe("b8:27:eb:00:00:01")).architecture.name == "raspberry-pi"


@pytest.mark.parametrize("value", [b"iPXE", b"\x04iPXE", b"\x04iPXE\x02xy", b"\0iPXE"])
def test_ipxe_by_user_class_in_every_form(value: bytes) -> None:
    packet = ipxe()
    del packet.options[opt.IPXE_ENCAPSULATED]
    packet.options[opt.USER_CLASS] = value
    found = client(packet)
    assert (found.ipxe, found.user_class) == (True, "iPXE")


def test_ipxe_by_its_features() -> None:
    packet = ipxe()
    del packet.options[opt.USER_CLASS]
    found = client(packet)
    assert found.ipxe
    assert found.ipxe_features == {"http", "https", "bzimage", "pxe"}


@pytest.mark.parametrize("value", [None, b"", b"\0", b"\1" + UUID, b"\0" + UUID + b"\0", b"\0" * 17])
def test_an_odd_uuid_is_no_reason_to_refuse(value: bytes | None) -> None:
    assert client(pxe(uuid=value)).uuid is None


def test_plain_clients() -> None:
    found = identify(plain())
    assert found == PlainClient(mac=MAC, host_name="pc-1")


def test_a_guid_in_chaddr_and_the_mac_in_the_client_identifier() -> None:
    packet = replace(pxe(), chaddr=UUID)
    packet.options[opt.CLIENT_IDENTIFIER] = b"\x01" + bytes.fromhex(MAC.replace(":", ""))
    assert client(packet).mac == MAC


def test_a_guid_in_chaddr_alone_is_the_identity() -> None:
    assert client(replace(pxe(), chaddr=UUID)).mac == UUID.hex(":")


@pytest.mark.parametrize("chaddr", [b"", bytes(6), b"\xff" * 6, bytes.fromhex("01005e000001"), bytes(16)])
def test_no_usable_address_is_ignored_with_its_reason(chaddr: bytes) -> None:
    found = identify(replace(plain(), chaddr=chaddr, options={53: b"\1"}))
    assert isinstance(found, Ignored)
    assert "hardware address" in found.reason


def test_replies_are_ignored_and_bootp_is_a_plain_client() -> None:
    assert identify(replace(plain(), op=2)) == Ignored("a reply of another server, not a request")
    assert identify(replace(plain(), options={})) == PlainClient(mac=MAC)


def test_both_readings_of_a_uuid_the_likelier_first() -> None:
    as_stored = "33221100-5544-7766-8899-aabbccddeeff"
    as_text = "00112233-4455-6677-8899-aabbccddeeff"
    assert client(uefi()).uuid_readings == (as_stored, as_text)
    assert client(ipxe()).uuid_readings == (as_text, as_stored)
    assert client(pxe(uuid=None)).uuid_readings == ()
    assert client(pxe(uuid=b"\0" + b"\x11" * 16)).uuid_readings == ("11111111-1111-1111-1111-111111111111",)
