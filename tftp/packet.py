"""TFTP packets: the bytes of RFC 1350 and RFC 2347 to values and back, and nothing else.

A datagram is one of six packets. `parse` returns it or raises `PacketError`; any other exception out of
received bytes is a bug of ours (and the fuzz tests say so).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "BLKSIZE_MAX",
    "BLKSIZE_MIN",
    "DEFAULT_BLKSIZE",
    "Ack",
    "Data",
    "Error",
    "ErrorCode",
    "Opcode",
    "OptionAck",
    "Packet",
    "PacketError",
    "ReadRequest",
    "WriteRequest",
    "parse",
]

DEFAULT_BLKSIZE = 512
"""Octets of data per block when no blksize was agreed (RFC 1350 section 2)."""
BLKSIZE_MIN, BLKSIZE_MAX = 8, 65464
"""Valid range of the blksize option (RFC 2348)."""

# RFC 2347 limits a request to 512 octets, but some firmwares pad; more options than this is nobody's boot
# ROM.
_MAX_OPTIONS = 16


class PacketError(Exception):
    """A datagram that is not a TFTP packet; the sentence says what is wrong with it."""


class Opcode(enum.IntEnum):
    """Packet types (RFC 1350 section 5, RFC 2347)."""

    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


class ErrorCode(enum.IntEnum):
    """Error codes (RFC 1350 appendix, RFC 2347 for 8)."""

    NOT_DEFINED = 0
    FILE_NOT_FOUND = 1
    ACCESS_VIOLATION = 2
    DISK_FULL = 3
    ILLEGAL_OPERATION = 4
    UNKNOWN_TID = 5
    FILE_EXISTS = 6
    NO_SUCH_USER = 7
    OPTION_REFUSED = 8


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """RRQ: a peer wants to read `name`.

    `mode` is lower case; `options` are the (name, value) pairs in the order and spelling of the request, each
    name once (RFC 2347 allows an option only once; the first one counts).
    """

    name: str
    mode: str = "octet"
    options: tuple[tuple[str, str], ...] = ()

    def to_bytes(self) -> bytes:
        return _request_bytes(Opcode.RRQ, self.name, self.mode, self.options)


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """WRQ: a peer wants to write `name`; this server only reads."""

    name: str
    mode: str = "octet"
    options: tuple[tuple[str, str], ...] = ()

    def to_bytes(self) -> bytes:
        return _request_bytes(Opcode.WRQ, self.name, self.mode, self.options)


@dataclass(frozen=True, slots=True)
class Data:
    """DATA: block number (16 bits, wraps to 0) and up to blksize octets."""

    block: int
    payload: bytes

    def to_bytes(self) -> bytes:
        return struct.pack("!HH", Opcode.DATA, self.block) + self.payload


@dataclass(frozen=True, slots=True)
class Ack:
    """ACK of everything up to `block` (16 bits)."""

    block: int

    def to_bytes(self) -> bytes:
        return struct.pack("!HH", Opcode.ACK, self.block)


@dataclass(frozen=True, slots=True)
class Error:
    """ERROR: ends a transfer. `code` may be outside `ErrorCode`: it is what the peer sent."""

    code: int
    message: str = ""

    def to_bytes(self) -> bytes:
        return struct.pack("!HH", Opcode.ERROR, self.code) + _text(self.message) + b"\0"


@dataclass(frozen=True, slots=True)
class OptionAck:
    """OACK: the options the server agrees to (RFC 2347)."""

    options: tuple[tuple[str, str], ...]

    def to_bytes(self) -> bytes:
        pairs = b"".join(_text(name) + b"\0" + _text(value) + b"\0" for name, value in self.options)
        return struct.pack("!H", Opcode.OACK) + pairs


Packet: TypeAlias = ReadRequest | WriteRequest | Data | Ack | Error | OptionAck


def parse(datagram: bytes) -> Packet:
    """Return the packet in a UDP payload.

    Raises `PacketError` if it is none. Names are read as UTF-8, with U+FFFD for what is not (RFC 1350 says
    netascii; a byte from another alphabet must end in "file not found", never in an exception).
    """
    if len(datagram) < 4 and datagram[:2] != b"\0\x06":  # only an OACK of nothing can be shorter
        raise PacketError(f"{len(datagram)} bytes are too few for a TFTP packet")
    opcode, number = struct.unpack_from("!HH", datagram.ljust(4, b"\0"))
    match opcode:
        case Opcode.ACK:  # longer ACKs are padded by some network cards' firmware
            return Ack(number)
        case Opcode.DATA:
            return Data(number, datagram[4:])
        case Opcode.RRQ | Opcode.WRQ:
            return _parse_request(opcode, datagram[2:])
        case Opcode.ERROR:
            # The closing NUL is missing in the wild; what matters is the code.
            return Error(number, datagram[4:].split(b"\0", 1)[0].decode("utf-8", "replace"))
        case Opcode.OACK:
            return OptionAck(_parse_options(datagram[2:].split(b"\0")[:-1]))
    raise PacketError(f"{opcode} is no TFTP opcode")


def _parse_request(opcode: int, body: bytes) -> ReadRequest | WriteRequest:
    fields = body.split(b"\0")
    if len(fields) < 3:  # name NUL mode NUL gives two fields and what follows the last NUL
        raise PacketError("a request must hold a file name and a mode, each closed by a zero byte")
    name, mode = (field.decode("utf-8", "replace") for field in fields[:2])
    if not name:
        raise PacketError("a request must name a file")
    kind = ReadRequest if opcode == Opcode.RRQ else WriteRequest
    # Without its last NUL an option is cut off: fields[-1] is what was cut, or the empty rest.
    return kind(name, mode.lower(), _parse_options(fields[2:-1]))


def _parse_options(fields: list[bytes]) -> tuple[tuple[str, str], ...]:
    options: dict[str, tuple[str, str]] = {}
    for raw_name, raw_value in zip(fields[::2], fields[1::2], strict=False):
        name = raw_name.decode("utf-8", "replace")
        if not name or len(options) >= _MAX_OPTIONS:  # zero padding after the last option, or nonsense
            break
        options.setdefault(name.lower(), (name, raw_value.decode("utf-8", "replace")))
    return tuple(options.values())


def _request_bytes(opcode: Opcode, name: str, mode: str, options: tuple[tuple[str, str], ...]) -> bytes:
    fields = [name, mode, *(field for option in options for field in option)]
    return struct.pack("!H", opcode) + b"".join(_text(field) + b"\0" for field in fields)


def _text(field: str) -> bytes:
    # A NUL inside would end the field early and let its rest pass for another one.
    return field.replace("\0", "").encode("utf-8", "replace")
