"""The DHCP engine alone, as a process of its own, for tests that run it in a namespace.

    python -m tests.dhcp.serve INTERFACE NETWORK FIRST LAST LEASE_FILE [seconds of a plain lease]

It prints one JSON object per line: `{"ready": true}`, each note (not with --quiet), at the end its counters.
With --probe it looks whether an address is in use before it offers it, with --pxe it has port 4011, too.
At the end of stdin it stops.
"""

from __future__ import annotations

import asyncio
import json
import sys
from ipaddress import IPv4Network
from pathlib import Path

from dhcp.actions import Noted
from dhcp.leases import SqliteLeases
from dhcp.neighbours import ArpTable
from dhcp.responder import Responder
from dhcp.server import DhcpServer, Listener
from dhcp.subnets import SubnetConfig
from tests.dhcp.conversation import Shelf


def say(**facts: object) -> None:
    print(json.dumps(facts, default=str), flush=True)


def note(noted: Noted) -> None:
    say(kind=noted.kind, mac=noted.mac, sentence=noted.sentence, data=noted.data)


async def serve(
    interface: str, network: str, first: str, last: str, path: str, seconds: str = "3600"
) -> None:
    router = str(IPv4Network(network)[1])
    subnet = SubnetConfig(
        network=IPv4Network(network),
        interface=interface,
        ranges=((first, last),),
        routers=(router,),
        dns=(router,),
        domain="lab.example",
        lease_seconds=int(seconds),
        conflict_probe="--probe" in sys.argv,
    )
    leases = SqliteLeases(Path(path))
    quiet = "--quiet" in sys.argv
    listeners = [Listener(interface), *([Listener(interface, 4011)] if "--pxe" in sys.argv else [])]
    server = DhcpServer(
        listeners,
        Responder([subnet], leases, Shelf(router)),
        leases,
        ArpTable(),
        (lambda noted: None) if quiet else note,
    )
    await server.start()
    say(ready=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()
    leases.close()
    say(counters=dict(server.counters))


if __name__ == "__main__":
    asyncio.run(serve(*[argument for argument in sys.argv[1:] if not argument.startswith("--")]))
