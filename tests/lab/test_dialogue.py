"""What is read off the switch: DHCP on all three ports, TFTP requests, HTTP requests and heads of answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dhcp.packet import Packet
from pxeboot.lab.dialogue import Said, read

PC, SERVER = "52:54:00:00:00:01", "52:54:00:00:00:02"


def frame(protocol: int, source: int, target: int, payload: bytes) -> bytes:
    """An Ethernet frame from the PC (10.77.0.9) to the server (10.77.0.1)."""
    ports = source.to_bytes(2, "big") + target.to_bytes(2, "big")
    if protocol == 17:
        rest = ports + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload
    else:
        rest = ports + bytes(8) + b"\x50" + bytes(7) + payload
    ip = bytes([0x45, 0]) + (20 + len(rest)).to_bytes(2, "big") + bytes(5) + bytes([protocol]) + bytes(2)
    ends = bytes([10, 77, 0, 9, 10, 77, 0, 1])
    macs = bytes.fromhex((SERVER + PC).replace(":", ""))
    return macs + b"\x08\x00" + ip + ends + rest


def said(protocol: int, source: int, target: int, payload: bytes) -> Said:
    found = read(frame(protocol, source, target, payload), 1.5)
    assert found is not None
    assert (found.at, found.mac, found.to) == (1.5, PC, SERVER)
    assert (found.source, found.target) == (("10.77.0.9", source), ("10.77.0.1", target))
    return found


def test_a_request_to_port_4011_is_dhcp() -> None:
    chaddr = bytes.fromhex(PC.replace(":", ""))
    packet = Packet(ciaddr="10.77.0.9", chaddr=chaddr, options={53: b"\3", 60: b"PXEClient", 93: b"\0\7"})
    found = said(17, 4011, 4011, packet.to_bytes())
    assert (found.kind, found.what, found.name) == ("dhcp", "REQUEST", "")
    assert found.detail["client"] == PC
    assert (found.detail["ciaddr"], found.detail["60"], found.detail["93"]) == (
        "10.77.0.9",
        "PXEClient",
        "0007",
    )
    assert str(found).startswith("dhcp REQUEST 10.77.0.9:4011 > 10.77.0.1:4011 ciaddr=10.77.0.9")


def test_the_boot_file_is_read_from_the_header_or_from_option_67() -> None:
    header = Packet(op=2, chaddr=bytes(6), file=b"shimx64.efi", options={53: b"\2"})
    option = Packet(op=2, chaddr=bytes(6), options={53: b"\2", 67: b"shimx64.efi\0"})
    for packet in (header, option):
        assert said(17, 67, 68, packet.to_bytes()).name == "shimx64.efi"


def test_a_read_request_tells_its_file_and_options() -> None:
    found = said(17, 1802, 69, b"\0\1grub/grub.cfg\0octet\0blksize\x001468\0windowsize\x004\0")
    assert (found.kind, found.what, found.name) == ("tftp", "RRQ", "grub/grub.cfg")
    assert found.detail == {"blksize": "1468", "windowsize": "4"}
    assert read(frame(17, 1802, 69, b"\0\2x\0octet\0"), 0) is None  # a write request is none of ours
    assert read(frame(17, 1802, 40000, b"\0\3\0\1data"), 0) is None


def test_http_requests_and_answers() -> None:
    asked = said(6, 1700, 80, b"GET /boot/files//grubx64.efi HTTP/1.1\r\nHost: x\r\nRange: bytes=0-9\r\n\r\n")
    assert (asked.kind, asked.what, asked.name) == ("http", "GET", "/boot/files//grubx64.efi")
    assert asked.detail == {"range": "bytes=0-9"}
    told = said(6, 80, 1700, b"HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\nnot: a header")
    assert (told.what, told.detail) == ("ANSWER", {"status": "404", "content-length": "12"})
    assert read(frame(6, 80, 1700, b"just data"), 0) is None


@given(st.binary(max_size=120), st.sampled_from([6, 17, 1]), st.sampled_from([67, 69, 80, 4011]))
def test_anything_on_the_wire_can_be_read(payload: bytes, protocol: int, port: int) -> None:
    whole = frame(protocol, port, port, payload)
    for cut in (0, 14, 34, 42, len(whole)):
        read(whole[:cut], 0)
