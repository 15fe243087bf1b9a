"""DHCP (67, 4011) and TFTP (69) in one process, for a storm of wrong datagrams in a namespace.

    python -m tests.fuzz.serve FOLDER

Each line on stdin is answered by a line of JSON: counters, memory (`rss`, kB), open files. It stops at the
end of stdin. br0 has a subnet in mode full, 10.21.0.0/24 (through relays) one in mode proxy.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections import Counter
from ipaddress import IPv4Network
from pathlib import Path

from dhcp.leases import SqliteLeases
from dhcp.neighbours import ArpTable
from dhcp.responder import Responder
from dhcp.server import DhcpServer, Listener
from dhcp.subnets import Reservation, SubnetConfig
from tests.dhcp.conversation import MAC, Shelf
from tftp.files import Folder, Overlay, Peer
from tftp.server import Server as TftpServer

SERVER = "10.77.0.1"


class Alarm(logging.Handler):
    """Counts what was logged as an error: asyncio reports exceptions of callbacks here, and only here."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences.append(self.format(record)[:2000])


def state(server: DhcpServer, alarm: Alarm) -> str:
    status = Path("/proc/self/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    files = len(os.listdir("/proc/self/fd"))
    return json.dumps({"counters": server.counters, "rss": rss, "files": files, "alarms": alarm.sentences})


def virtual(name: str, peer: Peer, local: str) -> bytes | None:
    return b"# made up\n" if name == "grub/grub.cfg" else None


async def serve(folder: Path) -> None:
    alarm = Alarm()
    logging.getLogger().addHandler(alarm)
    subnets = [
        SubnetConfig(
            network=IPv4Network("10.77.0.0/24"),
            interface="br0",
            ranges=(("10.77.0.10", "10.77.0.99"),),
            exclusions=("10.77.0.50",),
            reservations={MAC: Reservation("10.77.0.200", "pc-1")},
            bootp="answer",
        ),
        SubnetConfig(network=IPv4Network("10.21.0.0/24"), mode="proxy"),
    ]
    leases = SqliteLeases(folder / "leases.sqlite")
    notes: Counter[str] = Counter()
    server = DhcpServer(
        [Listener("br0"), Listener("br0", 4011)],
        Responder(subnets, leases, Shelf(SERVER)),
        leases,
        ArpTable(),
        lambda note: notes.update((note.kind,)),
    )
    tftp = TftpServer(Overlay(virtual, Folder(folder)), SERVER)
    await server.start()
    await tftp.start()
    print('{"ready": true}', flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(state(server, alarm), flush=True)
    await server.stop()
    await tftp.stop()
    leases.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
