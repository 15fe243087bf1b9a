"""The codec, by itself, against real captures, and against scapy as an opinion that is not ours."""

from pathlib import Path

import pytest

from dhcp import options as opt
from dhcp.packet import MessageType, Packet, PacketError, printable
from dhcp.text import describe
from tests.dhcp.conversation import message, plain, pxe

CAPTURES = sorted((Path(__file__).parent / "captures").glob("*.hex"))


def payloads(capture: Path) -> list[bytes]:
    return [bytes.fromhex(line) for line in capture.read_text().split()]


def test_there_are_captures() -> None:
    assert {path.stem for path in CAPTURES} >= {"bios-ipxe-rom", "dhclient", "ovmf", "udhcpc"}


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_a_capture_reads_as_its_golden_text(capture: Path) -> None:
    text = "\n".join(describe(Packet.parse(payload)) for payload in payloads(capture))
    assert text == capture.with_suffix(".golden").read_text()


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_scapy_reads_the_same_in_a_capture(capture: Path) -> None:
    from scapy.layers.dhcp import BOOTP

    for payload in payloads(capture):
        ours, theirs = Packet.parse(payload), BOOTP(payload)
        assert (ours.xid, ours.flags, ours.secs, ours.ciaddr) == (
            theirs.xid,
            int(theirs.flags),
            theirs.secs,
            theirs.ciaddr,
        )
        assert theirs.chaddr[: theirs.hlen] == ours.chaddr


def test_scapy_reads_what_we_write() -> None:
    from scapy.layers.dhcp import BOOTP, DHCP

    ours = message(
        MessageType.OFFER,
        op=2,
        yiaddr="10.20.0.10",
        siaddr="10.20.0.1",
        giaddr="10.20.0.2",
        sname=b"10.20.0.1",
        file=b"undionly.kpxe",
        options={
            opt.SERVER_IDENTIFIER: opt.addresses(["10.20.0.1"]),
            opt.ROUTER: opt.addresses(["10.20.0.1", "10.20.0.2"]),
            opt.LEASE_TIME: opt.seconds(120),
            opt.VENDOR_CLASS: b"PXEClient",
        },
    )
    theirs = BOOTP(ours.to_bytes())
    assert (theirs.op, theirs.yiaddr, theirs.siaddr, theirs.giaddr) == (
        2,
        "10.20.0.10",
        "10.20.0.1",
        "10.20.0.2",
    )
    assert theirs.file.rstrip(b"\0") == b"undionly.kpxe"
    options = [entry for entry in theirs[DHCP].options if isinstance(entry, tuple)]
    assert options[:2] == [("message-type", 2), ("server_id", "10.20.0.1")]
    assert ("lease_time", 120) in options
    assert ("router", "10.20.0.1", "10.20.0.2") in options
    assert ("vendor_class_id", b"PXEClient") in options


def test_what_is_written_reads_back() -> None:
    packet = pxe(giaddr="10.1.2.3", file=b"x" * 127, sname=b"y" * 63, hops=3, secs=9)
    assert Packet.parse(packet.to_bytes(1500)) == packet


def test_message_type_and_server_lead_and_relay_information_ends() -> None:
    relay = b"\x01\x04eth0\x02\x02\xff\x00"
    options = {
        opt.RELAY_AGENT_INFORMATION: relay,
        opt.ROUTER: b"\1\2\3\4",
        opt.SERVER_IDENTIFIER: b"\1\2\3\4",
    }
    data = message(MessageType.ACK, options=options).to_bytes()
    assert data[240:246] == bytes.fromhex("350105360401")
    assert data.rstrip(b"\0").endswith(b"\x52\x0a" + relay + b"\xff")


def test_a_reply_fits_in_576_bytes_and_loses_wishes_first() -> None:
    options = {
        opt.DOMAIN_SEARCH: b"s" * 200,
        opt.CLASSLESS_ROUTES: b"r" * 200,
        opt.CLIENT_UUID: b"\0" + b"u" * 16,
        opt.VENDOR_CLASS: b"PXEClient",
        opt.VENDOR_SPECIFIC: b"\x06\x01\x08\xff",
        opt.SERVER_IDENTIFIER: b"\1\2\3\4",
    }
    packet = message(MessageType.ACK, options=options)
    data = packet.to_bytes()
    assert len(data) + 28 <= 576
    kept = Packet.parse(data).options
    assert set(kept) == {53, 54, 43, 60, 97, opt.DOMAIN_SEARCH}  # the second long one found no room
    assert set(Packet.parse(packet.to_bytes(1472)).options) == set(packet.options)


def test_relay_information_is_kept_even_when_it_does_not_fit() -> None:
    relay = b"\x01\xff" + b"c" * 255 + b"\x02\xff" + b"r" * 255
    data = message(MessageType.ACK, options={opt.RELAY_AGENT_INFORMATION: relay}).to_bytes()
    assert Packet.parse(data).options[opt.RELAY_AGENT_INFORMATION] == relay


def test_short_replies_are_padded_for_bootp_relays() -> None:
    assert len(message(MessageType.NAK).to_bytes()) == 300


def test_a_name_that_leaves_no_room_for_its_nul_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="NUL"):
        message(MessageType.ACK, file=b"f" * 128).to_bytes()


def test_overloaded_fields_are_options_file_first() -> None:
    header = message(MessageType.DISCOVER).to_bytes()[:240]
    wire = bytearray(header + b"\x35\x01\x01\x34\x01\x03\x2b\x01a\xff")
    wire[108 : 108 + 4] = b"\x2b\x01b\xff"  # file
    wire[44 : 44 + 4] = b"\x2b\x01c\xff"  # sname
    packet = Packet.parse(bytes(wire))
    assert packet.options == {53: b"\x01", 43: b"abc"}
    assert (packet.file, packet.sname) == (b"", b"")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data[:239], "too few"),
        (lambda data: data[:236] + b"\0\0\0\0" + data[240:299], "cookie"),
        (lambda data: b"\3" + data[1:], "op is 3"),
        (lambda data: data[:2] + b"\x11" + data[3:], "17 bytes"),
        (lambda data: data[:240] + b"\x35\x02\x01\x01\xff", "option 53"),
        (lambda data: data[:240] + b"\x35\xff\x01", "past the end"),
    ],
)
def test_a_broken_message_says_what_is_broken(change, why) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PacketError, match=why):
        Packet.parse(change(plain().to_bytes()))


@pytest.mark.parametrize(("asked", "limit"), [(None, 576), (100, 576), (1260, 1260), (65535, 1500)])
def test_the_size_limit_is_held_between_576_and_a_frame(asked: int | None, limit: int) -> None:
    options = {} if asked is None else {opt.MAX_MESSAGE_SIZE: asked.to_bytes(2, "big")}
    assert message(MessageType.DISCOVER, options=options).size_limit == limit


def test_text_of_strangers_is_harmless() -> None:
    assert printable(b"pc\x1b[31m\n1\0rest") == "pc?[31m?1"
    assert printable(b"\xff\xfe") == "��"
