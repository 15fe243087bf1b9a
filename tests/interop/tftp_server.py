"""Runs our TFTP server on 0.0.0.0:69 of the network namespace it was started in, until it is killed.

    python -m tests.interop.tftp_server DIRECTORY

Prints one line per event; "ready" first.
"""

import asyncio
import sys
from pathlib import Path

from tftp.files import Folder
from tftp.server import Server


async def serve(root: Path) -> None:
    server = Server(Folder(root), "0.0.0.0", 69, on_event=lambda event: print(event, flush=True))
    await server.start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
