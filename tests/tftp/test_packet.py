"""The codec: bytes that firmware sends, and bytes that nobody should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tftp.packet import Ack, Data, Error, OptionAck, PacketError, ReadRequest, WriteRequest, parse

# What OVMF (EDK2) sends for shim: lower-case options, tsize probe, window of four.
EDK2_PROBE = b"\0\x01shimx64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0"


def test_edk2_probe():
    assert parse(EDK2_PROBE) == ReadRequest(
        "shimx64.efi", "octet", (("tsize", "0"), ("blksize", "1468"), ("windowsize", "4"))
    )
    assert parse(EDK2_PROBE).to_bytes() == EDK2_PROBE


@pytest.mark.parametrize(
    ("datagram", "packet"),
    [
        (b"\0\x01a\0OCTET\0", ReadRequest("a")),
        (b"\0\x02a\0netascii\0", WriteRequest("a", "netascii")),
        (b"\0\x03\xff\xff", Data(65535, b"")),
        (b"\0\x03\0\x01abc", Data(1, b"abc")),
        (b"\0\x04\0\x07", Ack(7)),
        (b"\0\x04\0\x07padding", Ack(7)),
        (b"\0\x05\0\x08User aborted the transfer\0", Error(8, "User aborted the transfer")),
        (b"\0\x05\0\0no NUL", Error(0, "no NUL")),
        (b"\0\x05\x12\x34", Error(0x1234, "")),
        (b"\0\x06blksize\x008\0", OptionAck((("blksize", "8"),))),
        # Padded with zeros, cut off in an option's value, an option without a value, the same option twice.
        (b"\0\x01a\0octet\0\0\0\0\0", ReadRequest("a")),
        (b"\0\x01a\0octet\0tsize\x000\0blksize\x0014", ReadRequest("a", "octet", (("tsize", "0"),))),
        (b"\0\x01a\0octet\0tsize\0", ReadRequest("a")),
        (b"\0\x01a\0octet\0tsize\x000\0TSIZE\x009\0", ReadRequest("a", "octet", (("tsize", "0"),))),
        (b"\0\x01\xe9t\xe9\0octet\0", ReadRequest("�t�")),
    ],
)
def test_parse(datagram, packet):
    assert parse(datagram) == packet


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0",
        b"\0\x04\0",
        b"\0\0\0\0",
        b"\0\x07\0\0",
        b"\x01\x04\0\0",
        b"\0\x01name",
        b"\0\x01name\0octet",
        b"\0\x01\0\0",
    ],
)
def test_not_tftp(datagram):
    with pytest.raises(PacketError):
        parse(datagram)


@given(st.binary(max_size=600))
def test_only_packet_error_comes_out(datagram):
    for candidate in (datagram, b"\0\x01" + datagram, b"\0\x05" + datagram, b"\0\x06" + datagram):
        try:
            packet = parse(candidate)
        except PacketError:
            continue
        assert parse(packet.to_bytes()) == packet  # and what we read we would write the same way


def test_a_zero_byte_cannot_begin_another_field():
    assert Error(0, "a\0b").to_bytes() == b"\0\x05\0\0ab\0"
