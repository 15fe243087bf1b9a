"""A room of machines that are switched on within a second, each as UEFI firmware boots: DHCP, then TFTP.

    python -m tests.bench.storm_client MACHINES SHIM_SIZE GRUB_SIZE

Prints `{"seconds", "dhcp_retries", "tftp_retries", "absent_p99_ms", "wrong"}`. A machine repeats a DHCP
message after 4 s (EDK2) and a TFTP message after 1 s (iPXE), and each repeat is counted: our server should
need none. All machines live in this one process; each has its own MAC, and the address that it was given.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator

from pyroute2 import IPRoute

from dhcp.packet import MessageType, Packet
from tests.dhcp import conversation as machines

SERVER = "10.77.0.1"
_LIMIT = 100.0  # s
_DHCP_RETRY, _TFTP_RETRY = 4.0, 1.0  # s
_SO_RCVBUFFORCE = 33  # Linux; not in the socket module
#: What shim looks for before GRUB; nobody has it.
_ABSENT = ("revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi")


class Room:
    """What the machines share: the cable, the clock, and what was counted."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.routes = IPRoute()
        self.device = self.routes.link_lookup(ifname="eth0")[0]
        self.retries: Counter[str] = Counter()
        self.absent: list[float] = []
        self.wrong = 0
        self.dhcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.dhcp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self.dhcp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        self.dhcp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        self.dhcp.bind(("0.0.0.0", 68))
        self.dhcp.setblocking(False)
        self.selector.register(self.dhcp, selectors.EVENT_READ)


class Machine:
    """One of them: its script says what it sends and waits for; `step` feeds it."""

    def __init__(self, room: Room, number: int, sizes: dict[str, int]) -> None:
        self.room, self.sizes, self.xid = room, sizes, 0x5700 + number
        self.mac = f"52:54:00:77:{number >> 8:02x}:{number & 255:02x}"
        self.uuid = b"\0" + number.to_bytes(16, "big")
        self.address = ""
        self.sock: socket.socket | None = None
        self.target = (SERVER, 69)
        self.last = b""
        self.heard = 0.0
        self.patience, self.kind = _DHCP_RETRY, "dhcp"
        self.script = self.boot()
        self.done = False

    def say(self, message: bytes) -> None:
        self.last, self.heard = message, time.monotonic()
        if self.sock is None:
            self.room.dhcp.sendto(message, ("255.255.255.255", 67))
        else:
            self.sock.sendto(message, self.target)

    def look(self, now: float) -> None:
        """Repeat what was said last, if it stayed without an answer for too long."""
        if now - self.heard > self.patience:
            self.room.retries[self.kind] += 1
            self.say(self.last)

    def step(self, datagram: bytes) -> None:
        self.heard = time.monotonic()
        try:
            self.script.send(datagram)
        except StopIteration:
            self.done = True

    def boot(self) -> Generator[None, bytes, None]:
        """All of it; each `yield` waits for the next datagram."""
        yield from self.lease()
        self.patience, self.kind = _TFTP_RETRY, "tftp"
        yield from self.read("shimx64.efi", 512, 4)
        for name in _ABSENT:
            yield from self.read(name, 512, 4)
        yield from self.read("grubx64.efi", 1024, 1)
        yield from self.read("grub/grub.cfg", 1024, 1)

    def lease(self) -> Generator[None, bytes, None]:
        discover = machines.uefi(self.mac, 7, uuid=self.uuid, xid=self.xid)
        self.say(discover.to_bytes())
        while (offer := Packet.parse((yield))).message_type != MessageType.OFFER:
            pass
        self.say(machines.request(discover, offer).to_bytes())
        while (answer := Packet.parse((yield))).message_type != MessageType.ACK:
            pass
        self.address = answer.yiaddr
        self.room.routes.addr("add", index=self.room.device, address=self.address, prefixlen=16)

    def read(self, name: str, blksize: int, window: int) -> Generator[None, bytes, None]:
        """One file, or its ERROR 1."""
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((self.address, 0))
        self.sock.setblocking(False)
        self.target = (SERVER, 69)
        self.room.selector.register(self.sock, selectors.EVENT_READ, self)
        options = {"tsize": 0, "blksize": blksize, **({"windowsize": window} if window > 1 else {})}
        words = [name, "octet", *(str(word) for pair in options.items() for word in pair)]
        began = time.monotonic()
        self.say(b"\0\1" + b"".join(word.encode() + b"\0" for word in words))
        expected, unsaid, got, last = 1, 0, 0, False
        while not last:
            data = yield
            if data[1] == 5:
                if name not in _ABSENT or data[3] != 1:
                    raise RuntimeError(f"{name}: {data!r}")
                self.room.absent.append(time.monotonic() - began)
                break
            if data[1] == 6:
                self.say(b"\0\4\0\0")
            elif int.from_bytes(data[2:4], "big") == expected & 0xFFFF:
                got += len(data) - 4
                last = len(data) < blksize + 4
                unsaid += 1
                if last or unsaid == window:
                    self.say(b"\0\4" + data[2:4])
                    unsaid = 0
                expected += 1
        if name in self.sizes and got != self.sizes[name]:
            self.room.wrong += 1
        self.room.selector.unregister(self.sock)
        self.sock.close()


def run(count: int, sizes: dict[str, int]) -> dict[str, float]:
    """Raises TimeoutError, RuntimeError (a refused file)."""
    room, began = Room(), time.monotonic()
    chance = random.Random(93)
    waiting = [(began + chance.random(), Machine(room, number, sizes)) for number in range(count)]
    waiting.sort(key=lambda pair: pair[0], reverse=True)
    started: dict[int, Machine] = {}  # by transaction
    looked = began
    while waiting or not all(machine.done for machine in started.values()):
        now = time.monotonic()
        while waiting and waiting[-1][0] <= now:
            machine = waiting.pop()[1]
            started[machine.xid] = machine
            next(machine.script)
        for key, _ in room.selector.select(0.005 if waiting else 0.1):
            if key.data is None:
                _leases(room, started)
            else:
                _files(key.data)
        now = time.monotonic()
        if now - looked > 0.1:
            looked = now
            for machine in started.values():
                if not machine.done:
                    machine.look(now)
            if now - began > _LIMIT:
                late = [m.mac for m in started.values() if not m.done]
                raise TimeoutError(f"{len(late)} of {count} machines not up after {_LIMIT:.0f} s: {late[:3]}")
    room.absent.sort()
    return {
        "seconds": time.monotonic() - began,
        "dhcp_retries": room.retries["dhcp"],
        "tftp_retries": room.retries["tftp"],
        "absent_p99_ms": 1000 * room.absent[int(0.99 * (len(room.absent) - 1))],
        "wrong": room.wrong,
    }


def _leases(room: Room, started: dict[int, Machine]) -> None:
    """Everybody hears every broadcast; the transaction says whose it is."""
    while True:
        try:
            datagram = room.dhcp.recv(2048)
        except BlockingIOError:
            return
        machine = started.get(int.from_bytes(datagram[4:8], "big"))
        if machine is not None and machine.kind == "dhcp" and datagram[0] == 2:
            machine.step(datagram)


def _files(machine: Machine) -> None:
    sock = machine.sock
    receive: Callable[[int], tuple[bytes, tuple[str, int]]] | None = sock.recvfrom if sock else None
    while receive is not None and sock is machine.sock and not machine.done:
        try:
            datagram, machine.target = receive(2048)
        except BlockingIOError:
            return
        machine.step(datagram)


def main() -> None:
    count, shim, grub = map(int, sys.argv[1:])
    print(json.dumps(run(count, {"shimx64.efi": shim, "grubx64.efi": grub})))


if __name__ == "__main__":
    main()
