"""The probe's line to the network: DHCP frames of a machine without an address, sent and overheard.

A DISCOVER must come from 0.0.0.0, and replies go to port 68, which a DHCP client of this machine may hold:
so a packet socket (packet(7)) beside the kernel's UDP. It takes only datagrams from ports 67 and 4011 (a BPF
filter in the kernel: a multicast deploy may run at line rate on the same card).
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from types import TracebackType
from typing import Final

SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68
PXE_PORT: Final = 4011

_ETH_P_IP: Final = 0x0800
_ETH_P_ALL: Final = 0x0003  # with it we overhear what leaves this machine, too: a server that runs here
_SIOCGIFADDR: Final = 0x8915
_SO_ATTACH_FILTER: Final = 26
_EVERYBODY: Final = b"\xff" * 6
_UDP: Final = 17
# (code, jump if true, jump if false, k): IPv4 without a fragment offset, UDP, source port 67 or 4011
_FILTER: Final = (
    (0x28, 0, 0, 0xFFFFF000),  # the frame's protocol (SKF_AD_OFF + SKF_AD_PROTOCOL, linux/filter.h)
    (0x15, 0, 9, _ETH_P_IP),
    (0x30, 0, 0, 9),  # ldb [9]: protocol
    (0x15, 0, 7, _UDP),
    (0x28, 0, 0, 6),  # ldh [6]: fragment offset
    (0x45, 5, 0, 0x1FFF),
    (0xB1, 0, 0, 0),  # ldxb 4*([0]&0xf): length of the IP header
    (0x48, 0, 0, 0),  # ldh [x+0]: source port
    (0x15, 1, 0, SERVER_PORT),
    (0x15, 0, 1, PXE_PORT),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)

Datagram = tuple[bytes, str, str, int]
"""Payload, source address, source hardware address ("" = not known), source port."""


def address_of(interface: str) -> str:
    """The first IPv4 address of an interface; "" when it has none or is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def frame(payload: bytes) -> bytes:
    """An IPv4 packet from 0.0.0.0:68 to 255.255.255.255:67 (RFC 2131 §4.1). UDP's checksum 0 = none."""
    udp = struct.pack("!HHHH", CLIENT_PORT, SERVER_PORT, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0x10, 20 + len(udp), 0, 0, 64, _UDP, 0, b"\0" * 4, b"\xff" * 4)
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + udp


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def read_frame(data: bytes) -> tuple[bytes, str, int] | None:
    """Payload, source address and source port of an IPv4 UDP packet; None for anything else."""
    if len(data) < 28 or data[0] >> 4 != 4 or data[9] != _UDP:
        return None
    head = (data[0] & 0x0F) * 4
    if head < 20 or int.from_bytes(data[6:8], "big") & 0x1FFF or len(data) < head + 8:
        return None
    port, _, length = struct.unpack_from("!HHH", data, head)
    if length < 8:
        return None
    return data[head + 8 : head + length], socket.inet_ntoa(data[12:16]), port


class Wire:
    """The sockets of one probe. Raises OSError: no such interface, down, not root."""

    def __init__(self, interface: str, own: str, *, ourselves: bool = True) -> None:
        self._interface, self._own, self._ourselves = interface, own, ourselves
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self._plain: socket.socket | None = None
        try:
            _attach(self._packets)
            self._packets.bind((interface, _ETH_P_ALL))
            self._packets.setblocking(False)
            if own:
                self._plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
                self._plain.bind((own, 0))
                self._plain.setblocking(False)
        except OSError:
            self.close()
            raise

    @property
    def sockets(self) -> list[socket.socket]:
        """What to wait on."""
        return [self._packets, *([self._plain] if self._plain else [])]

    def broadcast(self, payload: bytes) -> None:
        """Send a DISCOVER to everybody, and to a server on this very machine: a frame never comes back up."""
        # The frame carries the card's own address (chaddr does not): switches and hypervisors drop others.
        self._packets.sendto(frame(payload), (self._interface, _ETH_P_IP, 0, 0, _EVERYBODY))
        if self._plain is not None and self._ourselves:
            try:
                self._plain.sendto(payload, (self._own, SERVER_PORT))
            except OSError:  # nobody listens here: an ICMP error of the datagram before
                return

    def ask_4011(self, payload: bytes, server: str) -> None:
        """Ask a boot server; it answers to where the question came from."""
        if self._plain is not None:
            for _ in range(2):  # the first try may only fetch an ICMP error of the datagram before
                try:
                    self._plain.sendto(payload, (server, PXE_PORT))
                    return
                except OSError:
                    continue

    def read(self, ready: socket.socket) -> list[Datagram]:
        """What has arrived on one of `sockets`, at most 64 datagrams."""
        found: list[Datagram] = []
        for _ in range(64):
            try:
                data, source = ready.recvfrom(4096)
            except BlockingIOError:
                break
            except OSError:  # ICMP: a closed port
                continue
            if ready is self._plain:
                found.append((data, source[0], "", source[1]))
                continue
            parsed = read_frame(data)
            if parsed is not None:
                mac = bytes(source[4]).hex(":") if any(source[4]) else ""
                found.append((parsed[0], parsed[1], mac, parsed[2]))
        return found

    def close(self) -> None:
        self._packets.close()
        if self._plain is not None:
            self._plain.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _attach(packets: socket.socket) -> None:
    """Have the kernel drop what is not for us (struct sock_fprog, linux/filter.h)."""
    program = b"".join(struct.pack("=HBBI", *line) for line in _FILTER)
    kept = ctypes.create_string_buffer(program)
    packets.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_FILTER), ctypes.addressof(kept))
    )
