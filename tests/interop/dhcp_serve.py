"""The DHCP engine as a process, for subnets as a JSON file says, telling also what it was asked.

    python -m tests.interop.dhcp_serve CONFIG.json LEASE_FILE [--quiet]

CONFIG.json: `{"interface": "br0", "subnets": [{"network": "10.77.0.0/24", ...}]}`, keys as in SubnetConfig.
One JSON object per line: `{"ready": true}`, `{"asked": text}` for each request, each note (neither with
--quiet), at the end `{"counters": ...}`. At the end of stdin it stops.
"""

from __future__ import annotations

import asyncio
import json
import sys
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from dhcp.actions import Action, Arrival
from dhcp.leases import SqliteLeases
from dhcp.neighbours import ArpTable
from dhcp.packet import Packet
from dhcp.responder import Responder
from dhcp.server import DhcpServer, Listener
from dhcp.subnets import SubnetConfig
from dhcp.text import describe
from tests.dhcp.conversation import Shelf
from tests.dhcp.serve import note, say


class Telling(Responder):
    """Says what it was asked before it answers."""

    def handle(self, packet: Packet, arrived_on: Arrival, now: float) -> list[Action]:
        say(asked=describe(packet), source=arrived_on.source, port=arrived_on.port)
        return super().handle(packet, arrived_on, now)


def subnet(values: dict[str, Any]) -> SubnetConfig:
    return SubnetConfig(
        **{
            "conflict_probe": False,
            **values,
            "network": IPv4Network(values["network"]),
            "ranges": tuple(tuple(pair) for pair in values.get("ranges", ())),
            "routers": tuple(values.get("routers", ())),
        }
    )


async def serve(config: dict[str, Any], path: str, quiet: bool) -> None:
    leases = SqliteLeases(Path(path))
    kind = Responder if quiet else Telling
    server = DhcpServer(
        [Listener(config["interface"]), Listener(config["interface"], 4011)],
        kind([subnet(values) for values in config["subnets"]], leases, Shelf("10.77.0.1")),
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
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], "--quiet" in sys.argv))
