"""A receiver as a process of its own: verifies every chunk, and says on stdout how it went."""

import json
import queue
import sys
import time
from typing import Any

from imaging.chunks import open_frame
from imaging.errors import ChunkInvalid
from imaging.manifest import Manifest
from imaging.multicast.thread import ReceiverThread
from imaging.store import ChunkStore


def main() -> None:
    what: dict[str, Any] = json.loads(sys.argv[1])
    with ChunkStore(what["store"], readonly=True) as store:
        manifest = Manifest.from_bytes(store.manifest(what["manifest"])[0])
    hashes = list(manifest.hashes)
    frames: queue.Queue[tuple[int, bytes]] = queue.Queue()
    lost: list[int] = []
    thread = ReceiverThread(
        what["session"], len(hashes), lambda index, frame: frames.put((index, frame)),
        interface=what["interface"], manifest=bytes.fromhex(manifest.id),
        on_lost=lambda index, reason: lost.append(index),
        socket_buffer=what.get("socket_buffer", 32 << 20),
    )  # fmt: skip
    if what.get("no_gro"):
        thread._socket._one_by_one()
    thread.want(range(len(hashes)))
    thread.start()
    began = first = said = time.monotonic()
    used = time.process_time()
    verified: set[int] = set()
    while len(verified) + len(lost) < len(hashes):
        try:
            index, frame = frames.get(timeout=0.25)
        except queue.Empty:
            pass
        else:
            if not verified:
                first = time.monotonic()
            if what.get("slow"):
                time.sleep(what["slow"])
            try:
                open_frame(hashes[index], frame)
            except ChunkInvalid:
                thread.reject(index)
            else:
                verified.add(index)
                thread.got(index)
        now = time.monotonic()
        status = thread.status
        if now - said > 0.4:
            said = now
            print(json.dumps({"event": "state", "verified": len(verified), "silent": status.silent,
                              "ended": status.ended, "error": status.error}), flush=True)  # fmt: skip
        if status.error or now - began > what.get("limit", 60):
            break
    end = time.monotonic()
    used = time.process_time() - used
    time.sleep(0.3)
    status = thread.status
    thread.close()
    print(json.dumps({"event": "done", "verified": len(verified), "lost_chunks": sorted(lost),
                      "seconds": end - began, "since_first": end - first, "cpu": used,
"received": status.received,
                      "lost": status.lost, "bytes": status.bytes_frames, "error": status.error,
                      "rejected": status.rejected}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
