"""A neighbour entry for a client that has no address yet, so that plain UDP reaches its hardware address.

RFC 2131 §4.1 wants the reply unicast to an address that cannot answer ARP yet. One ioctl (arp(7)) says who it
will be; no raw socket, and no frames of our own making.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Final, Protocol

_SIOCSARP: Final = 0x8955
_ATF_COM: Final = 0x02  # complete; not permanent, so that the kernel forgets it as any other
_ARPHRD_ETHER: Final = 1
# struct arpreq: protocol address, hardware address, flags, netmask (unused), device name
_ARPREQ: Final = struct.Struct("=HH4s8xH14si16x16s")


class Neighbours(Protocol):
    """Where the shell asks for neighbour entries. Called on the event loop: must not wait."""

    def add(self, address: str, mac: str, interface: str) -> None:
        """Say that `address` is at `mac` on `interface`. Raises OSError when that cannot be done."""


class ArpTable:
    """The kernel's own table. Needs CAP_NET_ADMIN in the network namespace it was made in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def add(self, address: str, mac: str, interface: str) -> None:
        request = _ARPREQ.pack(
            socket.AF_INET,
            0,
            socket.inet_aton(address),
            _ARPHRD_ETHER,
            bytes.fromhex(mac.replace(":", "")),
            _ATF_COM,
            interface.encode(),
        )
        fcntl.ioctl(self._socket, _SIOCSARP, request)

    def close(self) -> None:
        self._socket.close()
