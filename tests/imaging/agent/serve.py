"""A Room in a process of its own, for a network namespace: commands on stdin, one JSON line per answer on
stdout.

``python -m tests.imaging.agent.serve ADDRESS PORT STORE DISK``: captures DISK, then knows ``session
{…}|null``, ``peers {…}|null``, ``sent N`` (datagrams of the multicast sender), ``boot`` (→ a kernel command
line for one deploy), ``outcomes``, ``told`` (→ chunks given, reasons why not by multicast,
bytes that one had from neighbours, neighbours left).
"""

import json
import sys
from pathlib import Path

from tests.imaging.agent.images import store_image
from tests.imaging.agent.room import Room


def main() -> None:
    address, port, store, disk = sys.argv[1:5]
    room = Room(Path(store), address, int(port))
    manifest = store_image(room, Path(disk))
    print(json.dumps({"manifest": manifest.id}), flush=True)
    sent: int | None = None
    room.sent = lambda: sent
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        answer: object = None
        if command == "session":
            room.session = json.loads(argument)
        elif command == "peers":
            room.peers = json.loads(argument)
        elif command == "sent":
            sent = json.loads(argument)
        elif command == "told":
            answer = {
                "chunks": room.chunks_served,
                "reasons": sorted({str(body["way_reason"]) for body in room.progress}),
                "peers": max([int(body["bytes_peers"]) for body in room.progress], default=0),
                "left": [left for body in room.hellos for left in body["left"]],
            }
        elif command == "boot":
            room.order("deploy", manifest=manifest.id, session=room.session)
            answer = room.cmdline()
        elif command == "outcomes":
            answer = room.outcomes
        print(json.dumps(answer), flush=True)
    room.close()


if __name__ == "__main__":
    main()
