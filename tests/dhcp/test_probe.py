"""The probe's core: what it asks, and what it makes of answers, also of made-up ones."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dhcp import options as opt
from dhcp import probe, wire
from dhcp.packet import MessageType, Packet
from dhcp.probe import KINDS, Judge, Probed
from dhcp.pxe import PlainClient, PxeClient, identify

MAC = bytes.fromhex("020304050607")


def judge() -> Judge:
    return Judge(MAC, 0xFFFFFFFE, bytes(range(16)))  # transaction numbers wrap


def answer(question: Packet, **fields: object) -> bytes:
    """An OFFER to a question; `options` are added."""
    options = {opt.MESSAGE_TYPE: bytes((MessageType.OFFER,)), **fields.pop("options", {})}  # type: ignore[dict-item]
    made = Packet(op=2, xid=question.xid, chaddr=question.chaddr, options=options, **fields)  # type: ignore[arg-type]
    return made.to_bytes()


def test_the_questions_are_those_of_four_kinds_of_machines() -> None:
    asked = judge()
    seen = {kind: identify(Packet.parse(asked.question(kind).to_bytes())) for kind in KINDS}
    assert isinstance(seen["plain"], PlainClient)
    assert [seen[kind].kind for kind in ("uefi", "bios", "http")] == [  # type: ignore[union-attr]
        "x64-uefi PXE",
        "bios PXE",
        "x64-uefi HTTP Boot",
    ]
    assert all(asked.question(kind).broadcast for kind in KINDS)
    assert all(asked.question(kind).message_type == MessageType.DISCOVER for kind in KINDS)


def test_the_second_question_is_a_pxe_request_without_an_address_in_it() -> None:
    second = judge().second_question("uefi", "10.0.0.9")
    assert isinstance(identify(second), PxeClient)
    assert second.ciaddr == "10.0.0.9"
    assert opt.REQUESTED_ADDRESS not in second.options
    assert opt.SERVER_IDENTIFIER not in second.options


def test_an_address_and_a_boot_file_are_read() -> None:
    asked = judge()
    data = answer(
        asked.question("uefi"),
        yiaddr="10.0.0.50",
        siaddr="10.0.0.7",
        options={opt.SERVER_IDENTIFIER: bytes((10, 0, 0, 1)), opt.BOOT_FILE_NAME: b"boot.efi\0"},
    )
    reply = asked.receive(data, "10.0.0.254", "02:00:00:00:00:01", 67)
    assert reply is not None
    assert (reply.kind, reply.server, reply.address) == ("uefi", "10.0.0.1", "10.0.0.50")
    assert (reply.next_server, reply.file, reply.source) == ("10.0.0.7", "boot.efi", "10.0.0.254")
    assert asked.receive(data, "10.0.0.254", "02:00:00:00:00:01", 67) is None, "the same again"
    [server] = asked.servers()
    assert server.gives_addresses
    assert not server.proxy


def test_a_proxy_offer_without_a_file_leads_to_port_4011() -> None:
    asked = judge()
    menu = b"\x09\x0a\x80\x00\x07Install\xff"
    data = answer(asked.question("bios"), options={opt.VENDOR_CLASS: b"PXEClient", opt.VENDOR_SPECIFIC: menu})
    reply = asked.receive(data, "10.0.0.2", "", 67)
    assert reply is not None
    assert reply.asks_for_4011
    assert reply.menu == ("Install",)
    asked.asked[("10.0.0.2", "bios")] = "10.0.0.2"
    assert asked.servers()[0].silent_4011 == ("bios",)
    second = asked.second_question("bios", "10.0.0.9")
    told = answer(second, file=b"pxeboot.n12", options={opt.VENDOR_CLASS: b"PXEClient"})
    assert asked.receive(told, "10.0.0.2", "", 4011) is not None
    [server] = asked.servers()
    assert server.silent_4011 == ()
    assert server.proxy
    found = server.boot("bios")
    assert found is not None
    assert found.file == "pxeboot.n12"


def test_answers_to_somebody_else_are_not_ours() -> None:
    asked = judge()
    question = asked.question("plain")
    strangers = Packet(op=2, xid=question.xid, chaddr=b"\x02\0\0\0\0\x09", options={53: b"\x02"})
    assert asked.receive(strangers.to_bytes(), "10.0.0.1", "", 67) is None
    late = Packet(op=2, xid=77, chaddr=MAC, options={53: b"\x02"})
    assert asked.receive(late.to_bytes(), "10.0.0.1", "", 67) is None
    refusal = Packet(op=2, xid=question.xid, chaddr=MAC, options={53: bytes((MessageType.NAK,))})
    assert asked.receive(refusal.to_bytes(), "10.0.0.1", "", 67) is None
    assert asked.receive(question.to_bytes(), "10.0.0.1", "", 67) is None, "our own question"
    assert asked.servers() == ()


def test_the_outcome_survives_json() -> None:
    asked = judge()
    asked.receive(answer(asked.question("plain"), yiaddr="10.0.0.5"), "10.0.0.1", "02:00:00:00:00:01", 67)
    found = Probed(
        interface="eth0", mac=MAC.hex(":"), own="", seconds=1.0, servers=asked.servers(), problems=("none",)
    )
    assert Probed.from_dict(found.to_dict()) == found


def test_made_up_addresses_are_local_station_addresses() -> None:
    for _ in range(50):
        first = probe.made_up_mac()[0]
        assert first & 0x03 == 0x02


@given(st.binary(max_size=600))
def test_any_datagram_is_a_reply_or_nothing(data: bytes) -> None:
    asked = judge()
    asked.receive(data, "10.0.0.1", "", 67)
    whole = bytearray(answer(asked.question("uefi"), yiaddr="10.0.0.5", options={43: b"\x09\x04\0\0\x09a"}))
    at = random.Random(len(data)).randrange(28, len(whole))
    whole[at : at + len(data)] = data[: len(whole) - at]
    asked.receive(bytes(whole), "10.0.0.1", "", 67)


@given(st.binary(max_size=100))
def test_any_frame_is_a_datagram_or_nothing(data: bytes) -> None:
    wire.read_frame(data)
    wire.read_frame(b"\x45\0\0\0\0\0\0\0\x40\x11" + data)


def test_a_frame_is_read_as_it_was_written() -> None:
    assert wire.read_frame(wire.frame(b"payload")) == (b"payload", "0.0.0.0", 68)
