"""Our DHCP and TFTP servers in one process and on one event loop, as in the daemon, for the storm.

    python -m tests.bench.storm_server INTERFACE NETWORK FIRST LAST LEASE_FILE FOLDER --quiet --probe

Prints `{"ready": true}`; at the end of stdin it stops and prints the counters of both.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from ipaddress import IPv4Network
from pathlib import Path

from tests.dhcp import serve as dhcp
from tftp.files import Folder, Overlay, Peer
from tftp.server import Server


def made_up(name: str, peer: Peer, local: str) -> bytes | None:
    """A configuration for each machine."""
    if name != "grub/grub.cfg":
        return None
    return f"# for {peer.address}\nset server={local}\n".encode() + b"# menu\n" * 100


async def serve(*arguments: str) -> None:
    *about_dhcp, folder = arguments
    tftp = Server(Overlay(made_up, Folder(Path(folder))), str(IPv4Network(arguments[1])[1]))
    await tftp.start()
    await dhcp.serve(*about_dhcp)
    await tftp.stop()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    dhcp.say(tftp=dict(tftp.counters), megabytes=memory)


if __name__ == "__main__":
    asyncio.run(serve(*[argument for argument in sys.argv[1:] if not argument.startswith("--")]))
