"""A bad wire: carries all frames between two interfaces, and lies in the datagrams of a multicast session.

    python -m tests.imaging.multicast.hop '{"flip": 0.02, "forge": 0.02, "seed": 1}'

In a namespace of its own, between `near` (towards the sender) and `far`. ``flip``: one bit anywhere in a
datagram is changed, both ways, for which the UDP checksum is taken away (0 = none, RFC 768), or the kernel
would drop it. ``forge``: before a datagram goes one that somebody made up, with a seal that is right as long
as there is no key. Prints "ready" first, and after each second how many of what it has sent.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import struct
import sys
import time
from dataclasses import replace

from imaging.multicast import wire
from imaging.multicast.reports import ReceiverState, encode_report, parse_report

DATA_PORT, REPORT_PORT = 9000, 9001
SOL_PACKET, PACKET_IGNORE_OUTGOING, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 263, 23, 1, 1
ETH_P_ALL = 3
UDP = struct.Struct(">HHHH")


class Forger:
    """Makes up what a stranger on the network could send, from what he hears."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice

    def forged(self, genuine: bytes) -> bytes:
        """Another datagram of the same session; b"" where there is nothing to make of it."""
        session = int.from_bytes(genuine[2:6], "big")
        try:
            kind = wire.kind_of(genuine, session)
            if kind in (wire.Kind.DATA, wire.Kind.PARITY):
                size = len(genuine) - wire.HEADER_SIZE
                return self._data(wire.parse_data(genuine, session, size, sealed=False))
            if kind == wire.Kind.ANNOUNCE:
                return self._announce(wire.parse_announce(genuine, session))
            report = parse_report(genuine, session, wire.MAX_CHUNKS)
        except wire.WireError:  # sealed with a key he lacks
            return b""
        return encode_report(replace(report, state=ReceiverState.LEAVING, number=report.number + 1))

    def _data(self, data: wire.Data) -> bytes:
        match self.dice.randrange(4):
            case 0:
                data = data._replace(payload=self.dice.randbytes(len(data.payload)))
            case 1:
                data = data._replace(length=self.dice.randrange(1, wire.MAX_FRAME))
            case 2:
                data = data._replace(chunk=data.chunk ^ 1)
            case _:
                data = data._replace(symbol=self.dice.getrandbits(16), sequence=self.dice.getrandbits(32))
        if not data.parity and data.symbol >= wire.symbols_of(data.length, len(data.payload)):
            data = data._replace(symbol=0)
        return wire.encode_data(data)

    def _announce(self, announce: wire.Announce) -> bytes:
        match self.dice.randrange(4):
            case 0:
                lie = announce._replace(state=wire.SenderState.ENDED)
            case 1:
                lie = announce._replace(hint=0xFFFF)
            case 2:
                lie = announce._replace(manifest=self.dice.randbytes(32))
            case _:
                lie = announce._replace(unavailable=((0, announce.chunks),))
        return wire.encode_announce(lie._replace(sequence=announce.sequence + 1 & 0xFFFFFFFF))


class Wire:
    """Both directions."""

    def __init__(self, flip: float, forge: float, seed: int) -> None:
        self.flip, self.forge = flip, forge
        self.dice = random.Random(seed)
        self.forger = Forger(self.dice)
        self.count = {"carried": 0, "flipped": 0, "forged": 0}

    def carry(self, frame: bytes) -> list[bytes]:
        """What leaves at the other end."""
        self.count["carried"] += 1
        start = payload_of(frame)
        if not start:
            return [frame]
        frames = []
        payload = frame[start:]
        if self.dice.random() < self.forge and (lie := self.forger.forged(payload)):
            frames.append(datagram(frame[:start], lie))
            self.count["forged"] += 1
        if self.dice.random() < self.flip:
            at = self.dice.randrange(len(payload) * 8)
            payload = payload[: at // 8] + bytes([payload[at // 8] ^ 1 << at % 8]) + payload[at // 8 + 1 :]
            frame = datagram(frame[:start], payload)
            self.count["flipped"] += 1
        return [*frames, frame]


def payload_of(frame: bytes) -> int:
    """Where the payload of a datagram of the session begins; 0 for any other frame."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_UDP:
        return 0
    start = 14 + (frame[14] & 15) * 4
    _, port, length, _ = UDP.unpack_from(frame, start)
    ours = port in (DATA_PORT, REPORT_PORT) and start + length == len(frame)
    return start + UDP.size if ours else 0


def datagram(heads: bytes, payload: bytes) -> bytes:
    """The frame of another payload under the same heads."""
    ip = 14
    udp = len(heads) - UDP.size
    source, target, _, _ = UDP.unpack_from(heads, udp)
    header = bytearray(heads[ip:udp])
    struct.pack_into(">H", header, 2, len(header) + UDP.size + len(payload))
    struct.pack_into(">H", header, 10, 0)
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    struct.pack_into(">H", header, 10, ~(total + (total >> 16)) & 0xFFFF)
    return heads[:ip] + header + UDP.pack(source, target, UDP.size + len(payload), 0) + payload


def opened(interface: str) -> socket.socket:
    """All frames that come in at an interface."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((interface, ETH_P_ALL))
    request = struct.pack("IHH8s", socket.if_nametoindex(interface), PACKET_MR_PROMISC, 0, b"")
    sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
    return sock


def main() -> None:
    wires = Wire(**{"flip": 0.0, "forge": 0.0, "seed": 1, **json.loads(sys.argv[1])})
    near, far = opened("near"), opened("far")
    print("ready", flush=True)
    said = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ, far)
        selector.register(far, selectors.EVENT_READ, near)
        while True:
            for key, _ in selector.select(0.2):
                assert isinstance(key.fileobj, socket.socket)
                for frame in wires.carry(key.fileobj.recv(70_000)):
                    key.data.send(frame)
            if time.monotonic() - said > 1:
                said = time.monotonic()
                print(json.dumps(wires.count), flush=True)


if __name__ == "__main__":
    main()
