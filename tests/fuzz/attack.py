"""Sends mutated datagrams to ports 67, 4011 and 69, and sees that honest clients are served all the while.

    python -m tests.fuzz.attack SERVER OURS COUNT SEED

OURS is an address of this machine. After every 64 wrong datagrams one honest request goes to each server, and
its answer is waited for: so nothing is lost in a full queue, and a server that died is noticed. Prints one
JSON object: datagrams sent, a second, and honest requests that were not answered.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time

from dhcp import options as opt
from dhcp.packet import MessageType, Packet, PacketError
from tests.dhcp.conversation import plain, pxe
from tests.fuzz.mutate import dhcp_seeds, mutate, tftp_seeds

_PATIENCE = 20.0


def bound(address: str, port: int = 0) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    opened.bind((address, port))
    opened.settimeout(_PATIENCE)
    return opened


def answered(opened: socket.socket, xid: int) -> bool:
    """Whether the answer with this transaction id comes in time; others are thrown away."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            if Packet.parse(opened.recv(4096)).xid == xid:
                return True
        except PacketError:
            continue
        except TimeoutError:
            return False
    return False


def speaker(opened: socket.socket) -> tuple[str, int] | None:
    """Who sent the oldest datagram that waits here: a transfer's own port, mostly."""
    try:
        _, source = opened.recvfrom(2048)
    except OSError:
        return None
    return source if source[1] not in (67, 4011) else None


class Honest:
    """A relayed machine, one that asks at 4011, and one that reads a file."""

    def __init__(self, server: str, ours: str) -> None:
        self._server, self._ours = server, ours
        self.relay, self._pxe = bound(ours, 67), bound(ours)
        self._xid = 1

    def unanswered(self) -> int:
        self._xid += 1
        mac = "02:aa:00:00:00:01"
        reboot = plain(mac, MessageType.REQUEST, xid=self._xid, giaddr=self._ours)
        reboot.options[opt.REQUESTED_ADDRESS] = opt.addresses(["10.77.0.77"])
        self.relay.sendto(reboot.to_bytes(), (self._server, 67))
        lost = 0 if answered(self.relay, self._xid) else 1
        ask = pxe("02:aa:00:00:00:02", 7, xid=self._xid, ciaddr=self._ours)
        ask.options[opt.MESSAGE_TYPE] = bytes((MessageType.REQUEST,))
        self._pxe.sendto(ask.to_bytes(), (self._server, 4011))
        lost += 0 if answered(self._pxe, self._xid) else 1
        with bound(self._ours) as reader:
            reader.sendto(b"\0\1grub/grub.cfg\0octet\0", (self._server, 69))
            try:
                data, source = reader.recvfrom(2048)
                reader.sendto(b"\0\4" + data[2:4], source)
                lost += data[:2] != b"\0\3"
            except TimeoutError:
                lost += 1
        return lost


def main() -> None:
    server, ours, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    dhcp, tftp = dhcp_seeds(), tftp_seeds()
    honest = Honest(server, ours)
    # From another address than the honest ones': the file server bounds the transfers of each.
    sources = [bound(f"10.77.0.{last}", port) for last in range(211, 219) for port in (0, 68)]
    for source in sources:
        source.setblocking(False)
    lost, began = 0, time.monotonic()
    for number in range(count):
        source = chance.choice(sources)
        match chance.randrange(5):
            case 0 if (transfer := speaker(source)) is not None:
                source.sendto(mutate(chance.choice(tftp), chance, behind=2)[:1400], transfer)
            case 1:
                source.sendto(mutate(chance.choice(tftp), chance, behind=2)[:1400], (server, 69))
            case 2:
                source.sendto(mutate(chance.choice(dhcp), chance)[:1400], (server, 4011))
            case _:
                to = chance.choice((server, "255.255.255.255"))
                source.sendto(mutate(chance.choice(dhcp), chance)[:1400], (to, 67))
        if number % 64 == 63:
            lost += honest.unanswered()
    seconds = time.monotonic() - began
    print(json.dumps({"sent": count, "rate": count / seconds, "unanswered": lost}))


if __name__ == "__main__":
    main()
