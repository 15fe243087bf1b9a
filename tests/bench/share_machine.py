"""One machine of the bench `link_shared`: boots and checks in as an agent does, then takes chunks in, by its
session or over HTTP, and says every quarter of a second how many bytes of frames it has.

    python -m tests.bench.share_machine MAC ADDRESS [SERVER]
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
import time
from typing import Any

from imaging.manifest import Manifest
from imaging.multicast.thread import ReceiverThread

SERVER = sys.argv[3] if len(sys.argv) > 3 else "10.77.0.1"
CONNECTIONS = 4  # as the agent has
_LIMIT = 120.0


def ask(method: str, path: str, credential: str = "", body: Any = None) -> bytes:
    connection = http.client.HTTPConnection(SERVER, 80, timeout=30)
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {data[:300]!r}")
    return data


class Machine:
    """What one process is."""

    def __init__(self, mac: str, address: str) -> None:
        self.bytes = 0
        script = ask("GET", f"/boot/grub/{mac}").decode()
        token = re.search(r"pxeboot\.token=([\w-]{43})", script)
        if token is None:
            raise RuntimeError(f"the boot script has no task: {script[:300]}")
        told = json.loads(
            ask("POST", "/agent/v1/checkin", body={"token": token[1], "mac": mac, "inventory": {}})
        )
        self.credential, self.task, self.address = str(told["credential"]), told["task"], address
        self.manifest = Manifest.from_bytes(
            ask("GET", f"/agent/v1/manifests/{self.task['manifest']}", self.credential)
        )

    def receive(self) -> None:
        """By multicast."""
        count = len(self.manifest.chunks)
        thread: ReceiverThread

        def took(index: int, frame: bytes) -> None:
            self.bytes += len(frame)
            thread.got(index)

        thread = ReceiverThread(
            self.task["session"], count, took,
            interface=self.address, manifest=bytes.fromhex(self.manifest.id),
        )  # fmt: skip
        thread.want(range(count))
        thread.start()

    def fetch(self, number: int) -> None:
        """Over HTTP, one of some connections."""
        connection = http.client.HTTPConnection(SERVER, 80, timeout=30)
        headers = {"Authorization": f"Bearer {self.credential}"}
        for chunk in self.manifest.chunks[number::CONNECTIONS]:
            connection.request("GET", f"/agent/v1/chunks/{chunk.hash.hex()}", headers=headers)
            answer = connection.getresponse()
            while piece := answer.read(65536):
                self.bytes += len(piece)

    def report(self) -> None:
        """As the agent does."""
        body = {"stage": "receive", "done": self.bytes, "total": self.manifest.disks[0].size}
        way = "bytes_multicast" if self.task["session"] else "bytes_http"
        ask("POST", f"/agent/v1/tasks/{self.task['id']}/progress", self.credential, {**body, way: self.bytes})


def main() -> int:
    machine = Machine(*sys.argv[1:3])
    if machine.task["session"]:
        machine.receive()
    else:
        for number in range(CONNECTIONS):
            threading.Thread(target=machine.fetch, args=(number,), daemon=True).start()
    end, turn = time.monotonic() + _LIMIT, 0
    while time.monotonic() < end:
        print(json.dumps({"event": "has", "at": time.monotonic(), "bytes": machine.bytes}), flush=True)
        if turn % 4 == 0:
            machine.report()
        turn += 1
        time.sleep(0.25)
    return 0


if __name__ == "__main__":
    sys.exit(main())
