"""Runs our TFTP server on port 69 in the network namespace it was started in, until it is killed.

    python -m tests.interop.tftp_server DIRECTORY [ADDRESS …]

Without addresses it listens on all (0.0.0.0). Prints one line per event; "ready" first.
"""

import asyncio
import sys
from pathlib import Path

from tftp.files import Folder
from tftp.server import Server


async def serve(root: Path, addresses: list[str]) -> None:
    server = Server(Folder(root), addresses, 69, on_event=lambda event: print(event, flush=True))
    await server.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2:] or ["0.0.0.0"]))
