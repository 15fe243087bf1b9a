"""What machines and servers said to each other while booting, read off the switch: DHCP, TFTP and HTTP
requests.

Independent of what our daemon believes: tests compare this with its journal, and people read it as a page of
text.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dhcp import options as opt
from dhcp.packet import Packet, PacketError
from pxeboot.lab.sniff import DHCP_TYPES, Sniffer

DHCP_PORTS = {67, 68, 4011}
TFTP_PORT = 69
_HTTP_REQUEST = re.compile(rb"(GET|HEAD|POST|PUT) (\S+) HTTP/1\.[01]\r\n")
_HEADERS = {"range", "connection", "content-length", "content-range", "user-agent", "transfer-encoding"}
_HTTP_ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3})")


@dataclass(frozen=True)
class Said:
    """One message. `kind`: `dhcp`, `tftp` (a read request, or an error in answer to one), `http` (a request
    or the head of an answer); `what`: the DHCP message type, `RRQ` or `ERROR`, the method or `ANSWER`.

    `mac` is the Ethernet sender's. `name`: boot file, file, or path; "" where there is none. `at`:
    time.monotonic().
    """

    at: float
    kind: Literal["dhcp", "tftp", "http"]
    what: str
    mac: str
    source: tuple[str, int]
    target: tuple[str, int]
    to: str = ""
    """The Ethernet address it went to."""
    name: str = ""
    detail: dict[str, str] = field(default_factory=dict)
    packet: Packet | None = None
    payload: bytes = b""

    def __str__(self) -> str:
        ends = f"{self.source[0]}:{self.source[1]} > {self.target[0]}:{self.target[1]}"
        more = " ".join(f"{key}={value}" for key, value in self.detail.items() if value)
        return " ".join(part for part in (f"{self.kind} {self.what}", ends, self.name, more) if part)


def read(frame: bytes, at: float) -> Said | None:
    """The message in an Ethernet frame, None when it is of no interest (data, ARP, fragments …)."""
    if (
        len(frame) < 14 + 20 + 8
        or frame[12:14] != b"\x08\x00"
        or int.from_bytes(frame[20:22], "big") & 0x1FFF
    ):
        return None
    ip = frame[14:]
    rest = ip[(ip[0] & 15) * 4 :]
    if len(rest) < 8:
        return None
    ports = struct.unpack_from("!HH", rest)
    ends = [(".".join(map(str, ip[i : i + 4])), port) for i, port in zip((12, 16), ports, strict=True)]
    common = (frame[6:12].hex(":"), ends[0], ends[1], frame[0:6].hex(":"))
    if ip[9] == 17:
        payload = rest[8 : struct.unpack_from("!H", rest, 4)[0]]
        return _dhcp(at, payload, *common) if DHCP_PORTS & set(ports) else _tftp(at, payload, *common)
    if ip[9] == 6 and len(rest) >= 20:
        return _http(at, rest[(rest[12] >> 4) * 4 :], *common)
    return None


Ends = tuple[str, int]


def _dhcp(at: float, payload: bytes, mac: str, source: Ends, target: Ends, to: str) -> Said | None:
    try:
        packet = Packet.parse(payload)
    except PacketError:
        return None
    options = packet.options
    boot = packet.file or options.get(opt.BOOT_FILE_NAME, b"").rstrip(b"\0")
    detail = {
        "yiaddr": packet.yiaddr.replace("0.0.0.0", ""),
        "ciaddr": packet.ciaddr.replace("0.0.0.0", ""),
        "siaddr": packet.siaddr.replace("0.0.0.0", ""),
        "client": packet.chaddr.hex(":"),
        "60": options.get(opt.VENDOR_CLASS, b"").decode("latin-1"),
        "77": options.get(opt.USER_CLASS, b"").decode("latin-1"),
        "43": options.get(opt.VENDOR_SPECIFIC, b"").hex(),
        "54": ".".join(map(str, options.get(opt.SERVER_IDENTIFIER, b""))),
        "93": options.get(opt.CLIENT_ARCHITECTURE, b"").hex(),
    }
    kind = DHCP_TYPES.get(packet.message_type, "BOOTP")
    return Said(at, "dhcp", kind, mac, source, target, to, boot.decode("latin-1"), detail, packet, payload)


def _tftp(at: float, payload: bytes, mac: str, source: Ends, target: Ends, to: str) -> Said | None:
    if target[1] == TFTP_PORT and payload[:2] == b"\0\1":  # RFC 1350 §5: a read request
        name, *words = payload[2:].rstrip(b"\0").decode("latin-1").split("\0")
        detail = dict(zip(words[1::2], words[2::2], strict=False))
        return Said(at, "tftp", "RRQ", mac, source, target, to, name, detail, payload=payload)
    return None


def _http(at: float, payload: bytes, mac: str, source: Ends, target: Ends, to: str) -> Said | None:
    # Small requests and heads of answers begin a segment; that is all the loaders' HTTP there is.
    detail: dict[str, str] = {}
    if asked := _HTTP_REQUEST.match(payload):
        name, what = asked[2].decode("latin-1"), asked[1].decode()
    elif answered := _HTTP_ANSWER.match(payload):
        name, what, detail["status"] = "", "ANSWER", answered[1].decode()
    else:
        return None
    for line in payload.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        key, _, value = line.decode("latin-1").partition(":")
        if key.lower() in _HEADERS:
            detail[key.lower()] = value.strip()
    return Said(at, "http", what, mac, source, target, to, name, detail)


class Dialogue(Sniffer):
    """Listens until closed; ``heard`` grows. Into ``pcap`` goes what was heard, not the data between."""

    def __init__(self, namespace: str, interface: str = "br0", pcap: Path | None = None) -> None:
        self.heard: list[Said] = []
        super().__init__(namespace, interface, pcap, snap=2048)

    def note(self, frame: bytes, at: float) -> None:
        """Keep the message in a frame."""
        if said := read(frame, at):
            self.heard.append(said)
            super().note(frame, at)

    def of(self, mac: str) -> list[Said]:
        """All that a machine said and was told, in order."""
        return [
            said
            for said in list(self.heard)
            if mac in (said.mac, said.to) or said.detail.get("client") == mac
        ]

    def text(self, mac: str) -> str:
        """The same, a line each, with seconds since the first."""
        heard = self.of(mac)
        return "\n".join(f"{said.at - heard[0].at:6.2f}  {said}" for said in heard)
