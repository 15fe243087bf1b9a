"""What real clients are answered, kept as text; and every proxy offer read by a parser that is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dhcp import options as opt
from dhcp.actions import Send
from dhcp.leases import SqliteLeases
from dhcp.packet import Packet
from dhcp.responder import Responder
from tests.dhcp.answers import CAPTURES, answers
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
    pxe,
    subnet,
    uefi,
)


@pytest.mark.parametrize("recorded", sorted(CAPTURES.glob("*.hex")), ids=lambda path: path.stem)
def test_real_clients_are_answered_as_before(recorded: Path) -> None:
    assert answers(recorded) == recorded.with_suffix(".answers.golden").read_text()


@pytest.fixture
def responder(tmp_path: Path) -> Iterator[Responder]:
    leases = SqliteLeases(tmp_path / "leases.sqlite")
    yield Responder([subnet(mode="proxy")], leases, Shelf())
    leases.close()


def as_others_read_it(
    responder: Responder, packet: Packet, arrived: Any = LINK
) -> tuple[Any, dict[str, Any]]:
    """Our answer as scapy reads it: the header, and the options by scapy's names."""
    from scapy.layers.dhcp import BOOTP, DHCP

    (data,) = [action.data() for action in responder.handle(packet, arrived, NOW) if isinstance(action, Send)]
    header = BOOTP(data)
    found = {option[0]: option[1] for option in header[DHCP].options if isinstance(option, tuple)}
    assert header.op == 2
    assert header.xid == packet.xid
    assert header.yiaddr == "0.0.0.0"
    assert header.chaddr[:6].hex(":") == MAC
    assert found["server_id"] == SERVER
    return header, found


def text(value: object) -> str:
    return value.split(b"\0")[0].decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize(
    ("discover", "vendor_class", "file", "option_43"),
    [
        (pxe(), "PXEClient", "undionly.kpxe", b"\x06\x01\x08\xff"),
        (pxe(flags=0), "PXEClient", "undionly.kpxe", b"\x06\x01\x08\xff"),
        (uefi(), "PXEClient", "", None),
        (uefi(arch=6), "PXEClient", "", None),
        (uefi(arch=9), "PXEClient", "", None),
        (uefi(arch=11), "PXEClient", "", None),
        (ipxe(), "PXEClient", f"http://{SERVER}/boot/ipxe?mac={MAC}", b"\x06\x01\x08\xff"),
        (ipxe(arch=7), "PXEClient", f"http://{SERVER}/boot/ipxe?mac={MAC}", b"\x06\x01\x08\xff"),
        (http_boot(), "HTTPClient", f"http://{SERVER}/boot/files/shimx64.efi", None),
    ],
)
def test_proxy_offers_as_somebody_else_reads_them(
    responder: Responder, discover: Packet, vendor_class: str, file: str, option_43: bytes | None
) -> None:
    header, found = as_others_read_it(responder, discover)
    assert found["message-type"] == 2
    assert header.flags == "B"
    assert header.siaddr == SERVER
    assert text(found["vendor_class_id"]) == vendor_class
    assert text(header.file) == file
    assert found.get("vendor_specific") == option_43
    assert not {"lease_time", "subnet_mask", "router"} & set(found)


def test_the_answer_on_4011_as_somebody_else_reads_it(responder: Responder) -> None:
    asked = boot_request(uefi(), o43=b"\x47\x04\x00\x00\x00\x00\xff")
    header, found = as_others_read_it(responder, asked, AT_4011)
    assert (found["message-type"], header.ciaddr, header.siaddr) == (5, "10.20.0.77", SERVER)
    assert text(header.file) == text(found["boot-file-name"]) == "shimx64.efi"
    assert text(header.sname) == text(found["tftp_server_name"]) == SERVER
    assert found["vendor_specific"] == b"\x47\x04\x00\x00\x00\x00\xff"


def test_a_discover_that_somebody_else_wrote_is_understood(responder: Responder) -> None:
    from scapy.layers.dhcp import BOOTP, DHCP

    options = [
        ("message-type", "discover"), ("vendor_class_id", b"PXEClient:Arch:00007:UNDI:003000"),
        ("pxe_client_architecture", b"\0\7"), ("pxe_client_machine_identifier", b"\0" + UUID), "end",
    ]  # fmt: skip
    written = bytes(
        BOOTP(chaddr=bytes.fromhex(MAC.replace(":", "")), xid=7, flags=0x8000) / DHCP(options=options)
    )
    header, found = as_others_read_it(responder, Packet.parse(written))
    assert text(found["vendor_class_id"]) == "PXEClient"
    assert Packet.parse(bytes(header)).options[opt.CLIENT_UUID] == b"\0" + UUID
