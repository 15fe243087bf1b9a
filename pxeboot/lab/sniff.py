"""Listens on the room's switch: every frame with its time, to measure, and as a pcap file to look at."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import NamedTuple

from pxeboot.lab import netns
from pxeboot.lab.errors import LabError

ETH_P_ALL = 3
MARK = b"\x88\xb5"  # IEEE 802: local experimental EtherType 1; nobody in the room understands it
DHCP_TYPES = {
    1: "DISCOVER",
    2: "OFFER",
    3: "REQUEST",
    4: "DECLINE",
    5: "ACK",
    6: "NAK",
    7: "RELEASE",
    8: "INFORM",
}


class DhcpSeen(NamedTuple):
    """A DHCP message on the wire: time.monotonic(), its name, the client's MAC, its vendor class or ""."""

    at: float
    kind: str
    mac: str
    vendor: str


def dhcp_in(frame: bytes, at: float) -> DhcpSeen | None:
    """The DHCP message in an Ethernet frame (RFC 2131 §2, RFC 2132 §9.6), None when it is something else."""
    if len(frame) < 14 + 20 + 8 + 240 or frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return None
    udp = 14 + (frame[14] & 15) * 4
    ports = struct.unpack_from("!HH", frame, udp)
    bootp = frame[udp + 8 :]
    if not {67, 68} & set(ports) or bootp[236:240] != b"\x63\x82\x53\x63":
        return None
    options, position = {}, 240
    while position + 1 < len(bootp) and bootp[position] != 255:
        if bootp[position] == 0:
            position += 1
            continue
        length = bootp[position + 1]
        options[bootp[position]] = bootp[position + 2 : position + 2 + length]
        position += 2 + length
    kind = options.get(53, b"\0")[:1]
    vendor = options.get(60, b"").decode("latin-1")
    return DhcpSeen(at, DHCP_TYPES.get(kind[0] if kind else 0, "BOOTP"), bootp[28:34].hex(":"), vendor)


class Sniffer:
    """Records until closed; with ``pcap`` also to a file that Wireshark opens (pcap, microseconds,
    Ethernet).
    """

    def __init__(self, namespace: str, interface: str, pcap: Path | None = None, snap: int = 65535) -> None:
        self.dhcp: list[DhcpSeen] = []
        self._socket = netns.call(namespace, _open, interface)
        self._voice = netns.call(namespace, _open_voice, interface)
        self._marked, self._marks = threading.Condition(), set[bytes]()
        self._file = pcap.open("wb") if pcap else None
        self._snap = snap
        if self._file:
            self._file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap, 1))
        self._thread = threading.Thread(target=self._run, name="sniffer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._socket.settimeout(0.2)
        while True:
            try:
                frame = self._socket.recv(self._snap)
            except TimeoutError:
                continue
            except OSError:
                return
            if frame[12:14] == MARK:
                with self._marked:
                    self._marks.add(frame[14:30])
                    self._marked.notify_all()
                continue
            self.note(frame, time.monotonic())

    def catch_up(self, limit: float = 60.0) -> None:
        """Return when all that was on the wire by now has been noted: on a busy machine the reader is behind.
        LabError after ``limit`` seconds.
        """
        mark = os.urandom(16)
        self._voice.send(bytes.fromhex("02504c000001 02504c000002") + MARK + mark.ljust(46, b"\0"))
        with self._marked:
            if not self._marked.wait_for(lambda: mark in self._marks, limit):
                raise LabError(f"the room's wire could not be read to its end within {limit:.0f} s")

    def note(self, frame: bytes, at: float) -> None:
        """Keep what is of interest in a frame; called by the reading thread."""
        if seen := dhcp_in(frame, at):
            self.dhcp.append(seen)
        if self._file:
            seconds, part = divmod(time.time_ns() // 1000, 1_000_000)
            self._file.write(struct.pack("<IIII", seconds, part, len(frame), len(frame)) + frame)

    def first(self, kind: str, mac: str, since: float = 0.0) -> DhcpSeen | None:
        """The first such message of a client after ``since`` (time.monotonic())."""
        return next((s for s in self.dhcp if s.kind == kind and s.mac == mac and s.at >= since), None)

    def close(self) -> None:
        self._voice.close()
        self._socket.close()
        self._thread.join(2)
        if self._file:
            self._file.close()

    def __enter__(self) -> Sniffer:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.close()


def _open_voice(interface: str) -> socket.socket:
    """A socket that only sends (packet(7): protocol 0 receives nothing)."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind((interface, 0))
    return sock


def _open(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    # SO_RCVBUFFORCE: a boot environment of 55 MB passes here while machines are emulated beside us, and what
    # does not fit is lost: a dialogue then seems to lack messages.
    sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
    sock.bind((interface, ETH_P_ALL))
    # packet(7): PACKET_MR_PROMISC makes a bridge hand up also what it only passes on between its ports.
    promiscuous = struct.pack("iHH8x", socket.if_nametoindex(interface), 1, 0)
    sock.setsockopt(263, 1, promiscuous)  # SOL_PACKET, PACKET_ADD_MEMBERSHIP
    return sock
