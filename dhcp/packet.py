"""One DHCP message as a value: any bytes become a `Packet` or a `PacketError`, and a `Packet` becomes bytes.

RFC 2131 §2 (layout), RFC 2132 §9.3 (overload, understood on reading, never used on writing: PXE ROMs and shim
read `file` and `sname` from the header), RFC 3046 §2.2 (option 82 last, unchanged).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from socket import inet_aton, inet_ntoa
from typing import Final

from dhcp import options as opt
from dhcp.options import Options, PacketError

__all__ = ["ANY", "BROADCAST", "MessageType", "Packet", "PacketError", "encode_shared"]

ANY: Final = "0.0.0.0"
BROADCAST: Final = "255.255.255.255"
BROADCAST_FLAG: Final = 0x8000

# The header up to and with the magic cookie of RFC 1497.
_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE: Final = b"\x63\x82\x53\x63"
_ZERO: Final = b"\0\0\0\0"
# IP (20) and UDP (8) headers: option 57 and the 576 bytes of RFC 2131 §2 count the whole datagram.
_IP_UDP: Final = 28
MINIMUM_LIMIT: Final = 576
MAXIMUM_LIMIT: Final = 1500
# BOOTP's size (RFC 951): some relays and ROMs drop what is shorter.
_BOOTP_SIZE: Final = 300

# First come, first kept when a reply must be cut: RFC 2131 §4.3 and PXE 2.1 need these, the rest are wishes.
# 53 and 54 lead because old ROMs look at the first bytes only.
_RANK: Final = (
    opt.MESSAGE_TYPE,
    opt.SERVER_IDENTIFIER,
    opt.LEASE_TIME,
    opt.SUBNET_MASK,
    opt.VENDOR_CLASS,
    opt.VENDOR_SPECIFIC,
    opt.CLIENT_UUID,
    opt.ROUTER,
    opt.TFTP_SERVER_NAME,
    opt.BOOT_FILE_NAME,
    opt.IPXE_ENCAPSULATED,
    opt.DOMAIN_NAME_SERVER,
    opt.RENEWAL_TIME,
    opt.REBINDING_TIME,
)
# What machines have to themselves; without it most replies of a subnet are alike, and encoded once.
_OWN: Final = (opt.CLIENT_UUID, opt.CLIENT_IDENTIFIER, opt.SUBNET_SELECTION)
# What options may take in the smallest datagram, without END.
_LEAST_ROOM: Final = MINIMUM_LIMIT - _IP_UDP - _HEADER.size - 1
_BOUNDLESS: Final = 1 << 30


class MessageType(IntEnum):
    """Option 53 (RFC 2132 §9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


@dataclass(slots=True, kw_only=True)
class Packet:
    """A DHCP message. Addresses are dotted quads, `chaddr` has `hlen` bytes, `sname` and `file` have no NUL.

    Treat it as a value: nothing changes one after it was made. `encoded`: the options as `encode_shared` has
    them, when whoever made the packet knows; it saves `to_bytes` the work, and says nothing of its own.
    """

    op: int = 1
    htype: int = 1
    hops: int = 0
    xid: int = 0
    secs: int = 0
    flags: int = 0
    ciaddr: str = ANY
    yiaddr: str = ANY
    siaddr: str = ANY
    giaddr: str = ANY
    chaddr: bytes = b""
    sname: bytes = b""
    file: bytes = b""
    options: Options = field(default_factory=dict)
    encoded: bytes | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Packet:
        """Read a datagram's payload.

        Raises:
            PacketError: shorter than header and cookie, no magic cookie although it is no BOOTP request of
                300 bytes, `hlen` above 16, an option that runs past its field or has an impossible length.
                Nothing else, whatever the bytes.
        """
        if len(data) < _HEADER.size:
            raise PacketError(f"{len(data)} bytes are too few for a DHCP message")
        fields = _HEADER.unpack_from(data)
        (
            op,
            htype,
            hlen,
            hops,
            xid,
            secs,
            flags,
            ciaddr,
            yiaddr,
            siaddr,
            giaddr,
            chaddr,
            sname,
            file,
            cookie,
        ) = fields
        plain_bootp = cookie != _COOKIE
        if plain_bootp and (op != 1 or len(data) < _BOOTP_SIZE):
            raise PacketError("no magic cookie, and no BOOTP request of 300 bytes")
        if op not in (1, 2):
            raise PacketError(f"op is {op}, neither BOOTREQUEST nor BOOTREPLY")
        if hlen > 16:
            raise PacketError(f"a hardware address of {hlen} bytes does not fit in chaddr")
        # RFC 951's vendor area has no form of its own: what we do not know has no options.
        options = {} if plain_bootp else opt.parse(data, start=_HEADER.size)
        overload = options.get(opt.OVERLOAD)
        if overload:
            if overload[0] & 1:  # RFC 2131 §4.1: first options, then file, then sname
                options = opt.parse(file, options)
                file = b""
            if overload[0] & 2:
                options = opt.parse(sname, options)
                sname = b""
        opt.check_lengths(options)
        if overload is not None or opt.OVERLOAD in options:
            del options[opt.OVERLOAD]  # done with: the value is whole now
        packet: Packet = object.__new__(cls)  # a third of the time that fourteen keywords cost
        packet.op, packet.htype, packet.hops = op, htype, hops
        packet.xid, packet.secs, packet.flags = xid, secs, flags
        packet.ciaddr = inet_ntoa(ciaddr) if ciaddr != _ZERO else ANY
        packet.yiaddr = inet_ntoa(yiaddr) if yiaddr != _ZERO else ANY
        packet.siaddr = inet_ntoa(siaddr) if siaddr != _ZERO else ANY
        packet.giaddr = inet_ntoa(giaddr) if giaddr != _ZERO else ANY
        packet.chaddr = chaddr[:hlen]
        packet.sname = b"" if sname[:1] == b"\0" else sname.partition(b"\0")[0]
        packet.file = b"" if file[:1] == b"\0" else file.partition(b"\0")[0]
        packet.options = options
        packet.encoded = None
        return packet

    @classmethod
    def reply_to(
        cls,
        request: Packet,
        options: Options,
        *,
        yiaddr: str = ANY,
        ciaddr: str = ANY,
        siaddr: str = ANY,
        sname: bytes = b"",
        file: bytes = b"",
        encoded: bytes | None = None,
    ) -> Packet:
        """A BOOTREPLY: what RFC 2131 table 3 takes over from the request, and what is given."""
        reply: Packet = object.__new__(cls)
        reply.op, reply.htype, reply.hops = 2, request.htype, 0
        reply.xid, reply.secs, reply.flags = request.xid, 0, request.flags
        reply.ciaddr, reply.yiaddr, reply.siaddr, reply.giaddr = ciaddr, yiaddr, siaddr, request.giaddr
        reply.chaddr, reply.sname, reply.file = request.chaddr, sname, file
        reply.options, reply.encoded = options, encoded
        return reply

    def to_bytes(self, limit: int = MINIMUM_LIMIT) -> bytes:
        """The payload of a datagram of at most `limit` bytes with IP and UDP headers (as option 57 counts).

        Options that do not fit are left out, the least needed first; option 82 is always there, unchanged and
        last, and is not counted: the relay takes it out before the client's limit matters (RFC 3046 §2.1).

        Raises:
            ValueError: `file` longer than 127 bytes, `sname` than 63, `chaddr` than 16: our own mistake.
            OSError: an address that is not a dotted quad.
        """
        if len(self.file) > 127 or len(self.sname) > 63 or len(self.chaddr) > 16:
            raise ValueError("file, sname or chaddr does not fit in its NUL-terminated header field")
        header = _HEADER.pack(
            self.op,
            self.htype,
            len(self.chaddr),
            self.hops,
            self.xid,
            self.secs,
            self.flags,
            inet_aton(self.ciaddr) if self.ciaddr != ANY else _ZERO,
            inet_aton(self.yiaddr) if self.yiaddr != ANY else _ZERO,
            inet_aton(self.siaddr) if self.siaddr != ANY else _ZERO,
            inet_aton(self.giaddr) if self.giaddr != ANY else _ZERO,
            self.chaddr,
            self.sname,
            self.file,
            _COOKIE,
        )
        options = self.options
        relay = options.get(opt.RELAY_AGENT_INFORMATION)
        last = b"" if relay is None else opt.encode(opt.RELAY_AGENT_INFORMATION, relay)
        own = b""
        if not options.keys().isdisjoint(_OWN):
            own = b"".join([opt.encode(code, options[code]) for code in _OWN if code in options])
        block = self.encoded
        if block is None:
            block = encode_shared(options)
        if len(block) + len(own) > _LEAST_ROOM:
            room = max(limit, MINIMUM_LIMIT) - MINIMUM_LIMIT + _LEAST_ROOM
            if len(block) + len(own) > room:
                block, own = _fill({**options}, room), b""
        return b"".join((header, block, own, last, b"\xff")).ljust(_BOOTP_SIZE, b"\0")

    @property
    def message_type(self) -> int:
        """Option 53 as a number (compare with `MessageType`), 0 when it is absent: BOOTP."""
        value = self.options.get(opt.MESSAGE_TYPE)
        return value[0] if value else 0

    @property
    def broadcast(self) -> bool:
        """Whether the client cannot hear unicast before it has an address (RFC 2131 §2, flags)."""
        return bool(self.flags & BROADCAST_FLAG)

    @property
    def requested_address(self) -> str | None:
        """Option 50."""
        return self._address(opt.REQUESTED_ADDRESS)

    @property
    def server_identifier(self) -> str | None:
        """Option 54."""
        return self._address(opt.SERVER_IDENTIFIER)

    @property
    def parameter_list(self) -> bytes | None:
        """Option 55, one byte per wished option, None when the client did not say."""
        return self.options.get(opt.PARAMETER_LIST)

    @property
    def size_limit(self) -> int:
        """Option 57 in bytes of the IP datagram, held between 576 (the default) and one Ethernet frame."""
        value = self.options.get(opt.MAX_MESSAGE_SIZE)
        if value is None or len(value) != 2:
            return MINIMUM_LIMIT
        return min(max(int.from_bytes(value, "big"), MINIMUM_LIMIT), MAXIMUM_LIMIT)

    @property
    def host_name(self) -> str:
        """Option 12 as printable text, "" when absent."""
        return printable(self.options.get(opt.HOST_NAME, b""))

    def _address(self, code: int) -> str | None:
        value = self.options.get(code)
        return inet_ntoa(value) if value is not None and len(value) == 4 else None


def encode_shared(options: Options) -> bytes:
    """Options on the wire, but for those that machines have to themselves (61, 82, 97, 118)."""
    return _fill({code: value for code, value in options.items() if code not in _OWN}, _BOUNDLESS)


def _fill(options: Options, room: int) -> bytes:
    """Options on the wire, the most needed first, those that fit in `room` bytes; never option 82."""
    parts = []
    for code in (*_RANK, *options):
        value = options.pop(code, None) if code != opt.RELAY_AGENT_INFORMATION else None
        if value is not None:
            encoded = opt.encode(code, value)
            if len(encoded) <= room:
                room -= len(encoded)
                parts.append(encoded)
    return b"".join(parts)


def printable(value: bytes, limit: int = 255) -> str:
    """Text of a client for a journal: NUL-terminated, at most `limit` characters, no control characters."""
    if not value:
        return ""
    text = value.partition(b"\0")[0][:limit].decode("utf-8", "replace")
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)
