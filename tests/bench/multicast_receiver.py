"""One machine of a multicast room: receives, checks every chunk, writes it to a file, says when it was done.

`python -m tests.bench.multicast_receiver JSON` with SESSION, `interface`, `store` (for the manifest),
`manifest`, `target`; `only` (chunks wanted; default all), `slow` (bytes a second its disk takes; default no
limit), `limit` (s).
"""

from __future__ import annotations

import json
import queue
import sys
import time
from typing import Any

from imaging.deploy import DiskWriter
from imaging.manifest import Manifest
from imaging.multicast.thread import ReceiverThread
from imaging.store import ChunkStore


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def main() -> int:
    what: dict[str, Any] = json.loads(sys.argv[1])
    with ChunkStore(what["store"], readonly=True) as store:
        manifest = Manifest.from_bytes(store.manifest(what["manifest"])[0])
    count = len(manifest.chunks)
    want = bytearray(count)
    for index in what.get("only") or range(count):
        want[index] = 1
    frames: queue.Queue[tuple[int, bytes]] = queue.Queue()
    thread = ReceiverThread(
        what["session"],
        count,
        lambda index, frame: frames.put((index, frame)),
        interface=what["interface"],
        manifest=bytes.fromhex(manifest.id),
    )
    deadline = time.monotonic() + what.get("limit", 150)
    half = False
    with DiskWriter(what["target"], manifest, want) as writer:
        total = writer.remaining
        thread.want([index for index, flag in enumerate(want) if flag])
        thread.start()
        while writer.remaining:
            if time.monotonic() > deadline or thread.status.error:
                say(event="failed", reason=thread.status.error or f"{writer.remaining} of {total} missing")
                return 1
            try:
                index, frame = frames.get(timeout=0.5)
            except queue.Empty:
                continue
            if writer.accept(index, frame):
                thread.got(index)
            else:
                thread.reject(index)
            if what.get("slow"):
                time.sleep(manifest.chunks[index].length / what["slow"])
            if not half and writer.remaining * 2 <= total:
                half = True
                say(event="half", at=time.monotonic())
        writer.finish()
        at = time.monotonic()
    status = thread.status
    say(event="done", at=at, lost=status.lost, received=status.received, rejected=status.rejected)
    thread.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
