"""Many DHCP clients as one process: paced exchanges (DISCOVER, OFFER, REQUEST, ACK), each with its times.

    python -m tests.dhcp.dora INTERFACE JSON

JSON: `rate` (exchanges begun a second), `seconds`, `clients` (hardware addresses, used in turn), `first` (the
number of the first one), `relay` (our address: ask as a relay would, by unicast to `server`; else by
broadcast on the link), `release` (share of the leases given back at once), `log` (a file that gets a line
for each ACK and each RELEASE the moment it happens), `linger` (seconds to wait in the end), `until_all` (in
the end wait no longer than until each has its address), `realtime` (run
before all others, so that the server's time is measured and not our own waiting for a processor).

It prints one JSON object in the end: counts, and percentiles of the exchanges' times in milliseconds.
Whoever gets no answer for a second (`patience`) begins anew at its next turn.
"""

from __future__ import annotations

import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any, TextIO

from dhcp import options as opt
from dhcp.packet import BROADCAST_FLAG, MessageType, Packet, PacketError

_WISHES = bytes((1, 28, 2, 3, 15, 6, 12))


def mac_of(number: int) -> bytes:
    return b"\x02\x77" + struct.pack("!I", number)


def open_socket(interface: str, relay: str | None) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    opened.bind((relay, 67) if relay else ("", 68))
    return opened


class Clients:
    """The exchanges under way, by transaction id."""

    def __init__(self, interface: str, what: dict[str, Any]) -> None:
        self._relay: str | None = what.get("relay")
        self._to = (what.get("server", "10.77.0.1") if self._relay else "255.255.255.255", 67)
        self._socket = open_socket(interface, self._relay)
        self._clients, self._first = what.get("clients", 1000), what.get("first", 0)
        self._release, self._patience = what.get("release", 0.0), what.get("patience", 1.0)
        self._log: TextIO | None = None
        if what.get("log"):
            self._log = open(what["log"], "a", buffering=1)  # noqa: SIM115  # as long as the process
        self._begun: dict[int, tuple[float, bytes]] = {}
        self._asked: dict[int, float] = {}
        self._old: list[tuple[float, int]] = []
        self._serial = random.getrandbits(31)
        self.counts = {"begun": 0, "offered": 0, "acknowledged": 0, "refused": 0, "released": 0, "unsent": 0}
        self.times: list[float] = []

    def begin(self, turn: int) -> None:
        now = time.monotonic()
        while self._old and self._old[0][0] < now - self._patience:
            _, xid = heapq.heappop(self._old)
            self._begun.pop(xid, None)
            self._asked.pop(xid, None)
        self._serial = (self._serial + 1) & 0xFFFFFFFF
        mac = mac_of(self._first + turn % self._clients)
        self._begun[self._serial] = (now, mac)
        heapq.heappush(self._old, (now, self._serial))
        self.counts["begun"] += 1
        self._send(self._message(MessageType.DISCOVER, mac, self._serial, {}))

    def _message(self, kind: MessageType, mac: bytes, xid: int, more: dict[int, bytes]) -> Packet:
        options = {opt.MESSAGE_TYPE: bytes((kind,)), **more, opt.PARAMETER_LIST: _WISHES}
        packet = Packet(xid=xid, chaddr=mac, flags=BROADCAST_FLAG, options=options)
        if self._relay:
            packet.giaddr, packet.hops, packet.flags = self._relay, 1, 0
        return packet

    def _send(self, packet: Packet) -> None:
        try:
            self._socket.sendto(packet.to_bytes(), self._to)
        except OSError:
            self.counts["unsent"] += 1

    def wait(self, until: float, *, all_at_home: bool = False) -> None:
        """Take answers until that moment, or until nobody waits for one any more."""
        while True:
            left = until - time.monotonic()
            ready, _, _ = select.select([self._socket], [], [], max(0.0, left))
            if ready:
                self._receive()
            if left <= 0 or (all_at_home and not self._begun):
                return

    def _receive(self) -> None:
        for _ in range(32):
            try:
                data = self._socket.recv(2048)
            except OSError:
                return
            with suppress(PacketError):
                self._take(Packet.parse(data))

    def _take(self, reply: Packet) -> None:
        begun = self._begun.get(reply.xid)
        if reply.op != 2 or begun is None or begun[1] != reply.chaddr:
            return
        if reply.message_type == MessageType.OFFER and reply.xid not in self._asked:
            self.counts["offered"] += 1
            self._asked[reply.xid] = time.time()
            more = {
                opt.REQUESTED_ADDRESS: opt.addresses([reply.yiaddr]),
                opt.SERVER_IDENTIFIER: reply.options[opt.SERVER_IDENTIFIER],
            }
            self._send(self._message(MessageType.REQUEST, reply.chaddr, reply.xid, more))
        elif reply.message_type == MessageType.ACK:
            del self._begun[reply.xid]
            self.counts["acknowledged"] += 1
            self.times.append(time.monotonic() - begun[0])
            self._bound(reply)
        elif reply.message_type == MessageType.NAK:
            del self._begun[reply.xid]
            self.counts["refused"] += 1

    def _bound(self, reply: Packet) -> None:
        # A client's time runs from when it sent its REQUEST (RFC 2131 §4.4.1).
        asked = self._asked.pop(reply.xid, time.time())
        seconds = int.from_bytes(reply.options[opt.LEASE_TIME], "big")
        mac = reply.chaddr.hex(":")
        self._note("ack", mac, reply.yiaddr, asked, asked + seconds)
        if random.random() < self._release:
            self.counts["released"] += 1
            self._note("release", mac, reply.yiaddr, time.time(), 0.0)
            more = {opt.SERVER_IDENTIFIER: reply.options[opt.SERVER_IDENTIFIER]}
            gone = self._message(MessageType.RELEASE, reply.chaddr, reply.xid, more)
            gone.ciaddr = reply.yiaddr
            self._send(gone)

    def _note(self, what: str, mac: str, address: str, at: float, until: float) -> None:
        if self._log is not None:
            self._log.write(f"{what} {mac} {address} {at:.6f} {until:.6f}\n")


def percentile(values: list[float], share: float) -> float | None:
    """In milliseconds; None of nothing."""
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def main() -> None:
    what = json.loads(sys.argv[2])
    clients = Clients(sys.argv[1], what)
    if what.get("realtime"):
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    rate, seconds = what["rate"], what["seconds"]
    start = time.monotonic() + 0.05
    behind = 0.0
    for turn in range(round(rate * seconds)):
        due = start + turn / rate
        clients.wait(due)
        behind = max(behind, time.monotonic() - due)
        clients.begin(turn)
    clients.wait(time.monotonic() + what.get("linger", 1.0), all_at_home=what.get("until_all", False))
    figures = {f"p{share:g}": percentile(clients.times, share / 100) for share in (50, 90, 99, 100)}
    print(json.dumps({**clients.counts, **figures, "behind": 1000 * behind}), flush=True)


if __name__ == "__main__":
    main()
