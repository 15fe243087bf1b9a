"""What we answer to each real client that was recorded; `python -m tests.dhcp.answers` writes the files.

NAME.hex holds a client's requests; NAME.answers.golden what a server in mode full, and one in mode proxy,
says to each, as text. Look at the difference before committing it.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from dhcp.actions import Arrival, Noted, Send
from dhcp.leases import SqliteLeases
from dhcp.packet import Packet
from dhcp.responder import Responder
from dhcp.subnets import SubnetConfig
from dhcp.text import describe
from tests.dhcp.conversation import NOW, Shelf

CAPTURES = Path(__file__).parent / "captures"
SERVER = "10.77.0.1"
# In the recordings the clients' addresses come from 10.77.0.0/24.
LINK = Arrival(interface="br0", address=SERVER)


def answers(requests: Path) -> str:
    """Both modes, each request in its order with what it is answered."""
    lines: list[str] = []
    for mode in ("full", "proxy"):
        lines.append(f"=== mode {mode}")
        with tempfile.TemporaryDirectory() as scratch:
            leases = SqliteLeases(Path(scratch) / "leases.sqlite")
            subnet = SubnetConfig(
                network=IPv4Network("10.77.0.0/24"), mode="full" if mode == "full" else "proxy",
                interface="br0", ranges=(("10.77.0.10", "10.77.0.99"),), routers=(SERVER,), dns=(SERVER,),
                conflict_probe=False,
            )  # fmt: skip
            responder = Responder([subnet], leases, Shelf(SERVER))
            for number, line in enumerate(requests.read_text().split()):
                packet = Packet.parse(bytes.fromhex(line))
                lines.append(f"--- {describe(packet).splitlines()[0]}")
                for action in responder.handle(packet, _arrival(packet), NOW + number):
                    if isinstance(action, Noted):
                        lines.append(f"note {action.kind}: {action.sentence}")
                    elif isinstance(action, Send):
                        lines.append(f"to {action.to}:{action.port}{' by ' + action.l2 if action.l2 else ''}")
                        lines.append(describe(Packet.parse(action.data())).rstrip())
            leases.close()
    return "\n".join(lines) + "\n"


def _arrival(packet: Packet) -> Arrival:
    """A request with ciaddr and without a server went to port 4011, if a PXE client sent it."""
    if packet.ciaddr == "0.0.0.0" or packet.server_identifier or 93 not in packet.options:
        return LINK
    return replace(LINK, destination=SERVER, source=packet.ciaddr, source_port=4011, port=4011)


if __name__ == "__main__":
    for recorded in sorted(CAPTURES.glob("*.hex")):
        recorded.with_suffix(".answers.golden").write_text(answers(recorded))
