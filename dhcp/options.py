"""DHCP options as bytes: their numbers, how they are joined on reading and split on writing.

RFC 2131 §4.1 (where options may sit), RFC 2132 (numbers), RFC 3396 (long options). Options are held as
`dict[int, bytes]`: one entry per code, already joined, in the order of first appearance.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final


class PacketError(Exception):
    """The remote side sent something that is not DHCP. The only exception a DHCP parser may raise."""


Options = dict[int, bytes]

PAD: Final = 0
SUBNET_MASK: Final = 1
ROUTER: Final = 3
DOMAIN_NAME_SERVER: Final = 6
HOST_NAME: Final = 12
DOMAIN_NAME: Final = 15
BROADCAST_ADDRESS: Final = 28
NTP_SERVERS: Final = 42
VENDOR_SPECIFIC: Final = 43
REQUESTED_ADDRESS: Final = 50
LEASE_TIME: Final = 51
OVERLOAD: Final = 52
MESSAGE_TYPE: Final = 53
SERVER_IDENTIFIER: Final = 54
PARAMETER_LIST: Final = 55
MESSAGE: Final = 56
MAX_MESSAGE_SIZE: Final = 57
RENEWAL_TIME: Final = 58
REBINDING_TIME: Final = 59
VENDOR_CLASS: Final = 60
CLIENT_IDENTIFIER: Final = 61
TFTP_SERVER_NAME: Final = 66
BOOT_FILE_NAME: Final = 67
USER_CLASS: Final = 77
RELAY_AGENT_INFORMATION: Final = 82
CLIENT_ARCHITECTURE: Final = 93
CLIENT_NDI: Final = 94
CLIENT_UUID: Final = 97
SUBNET_SELECTION: Final = 118
DOMAIN_SEARCH: Final = 119
CLASSLESS_ROUTES: Final = 121
IPXE_ENCAPSULATED: Final = 175
END: Final = 255

# Their length is fixed (RFC 2132) and their value steers us: a wrong length is a broken packet, not a wish.
_FIXED_LENGTH: Final = {
    REQUESTED_ADDRESS: 4,
    OVERLOAD: 1,
    MESSAGE_TYPE: 1,
    SERVER_IDENTIFIER: 4,
    MAX_MESSAGE_SIZE: 2,
}


def parse(field: bytes, into: Options | None = None, start: int = 0) -> Options:
    """Read one option field (after the cookie, or an overloaded `file` or `sname`); join repeated codes.

    Joining is by plain concatenation in order of appearance (RFC 3396 §7), also across fields: pass the
    result of the field before as `into`. A missing END option is accepted, as many relays pad and cut.

    Raises:
        PacketError: an option runs past the end of the field.
    """
    options: Options = {} if into is None else into
    at, size = start, len(field)
    while at < size:
        code = field[at]
        at += 1
        if code == PAD:
            continue
        if code == END:
            break
        if at >= size:
            raise PacketError(f"option {code} has no length byte")
        end = at + 1 + field[at]
        if end > size:
            raise PacketError(f"option {code} of {field[at]} bytes runs past the end of the field")
        value = field[at + 1 : end]
        options[code] = options[code] + value if code in options else value
        at = end
    return options


def check_lengths(options: Options) -> None:
    """Refuse options that steer the protocol but have a wrong length (RFC 2132).

    Raises:
        PacketError: naming the option and both lengths.
    """
    for code, value in options.items():
        if code in _FIXED_LENGTH and len(value) != _FIXED_LENGTH[code]:
            raise PacketError(f"option {code} has {len(value)} bytes instead of {_FIXED_LENGTH[code]}")


def encode(code: int, value: bytes) -> bytes:
    """One option on the wire; longer than 255 bytes it becomes several of the same code (RFC 3396 §5)."""
    if len(value) < 256:
        return bytes((code, len(value))) + value
    return b"".join(
        bytes((code, len(part))) + part for part in (value[i : i + 255] for i in range(0, len(value), 255))
    )


def suboptions(value: bytes) -> Options:
    """Read encapsulated options (43, 82, 175). What is cut off is left out: these are hints.

    Unlike the outer field, 0 and 255 end the list only where they stand as a code (RFC 3046 §2 has neither,
    PXE 2.1 ends option 43 with 255).
    """
    found: Options = {}
    at = 0
    while at + 1 < len(value) and value[at] != END:
        if value[at] == PAD:
            at += 1
            continue
        end = at + 2 + value[at + 1]
        if end > len(value):
            break
        found[value[at]] = value[at + 2 : end]
        at = end
    return found


def addresses(hosts: Iterable[str]) -> bytes:
    """IPv4 addresses, 4 bytes each (RFC 2132 §3.5 and its kin). Raises OSError for what is not one."""
    return b"".join(socket.inet_aton(host) for host in hosts)


def seconds(duration: float) -> bytes:
    """Whole seconds as 32 bits, at most 0xfffffffe: the value above means "for ever" (RFC 2131 §3.3)."""
    return min(max(int(duration), 0), 0xFFFFFFFE).to_bytes(4, "big")
