"""A private network for tests: one server namespace with a bridge, client namespaces on veth, nothing else.

Everything is made with names of this process, and taken away again. No packet can leave: the namespaces have
no link to the machine's own network.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_SERIAL = itertools.count()


def run(*command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done


class Room:
    """`server`: the namespace with bridge br0 (10.77.0.1/24)."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.server = f"{prefix}s"
        self.clients: list[str] = []

    def inside(self, namespace: str, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run("ip", "netns", "exec", namespace, *command, **options)

    def client(self, mac: str | None = None) -> str:
        """A new namespace whose eth0 is on the bridge; its name."""
        number = len(self.clients)
        name = f"{self.prefix}c{number}"
        run("ip", "netns", "add", name)
        self.clients.append(name)
        address = ("address", mac) if mac else ()
        self.inside(
            self.server, "ip", "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", *address,
            "netns", name,
        )  # fmt: skip
        self.inside(self.server, "ip", "link", "set", f"v{number}", "master", "br0", "up")
        self.inside(name, "ip", "link", "set", "lo", "up")
        self.inside(name, "ip", "link", "set", "eth0", "up")
        return name


@contextmanager
def room() -> Iterator[Room]:
    made = Room(f"dhcp{os.getpid()}x{next(_SERIAL)}")
    try:
        run("ip", "netns", "add", made.server)
        for command in (
            "ip link set lo up",
            "ip link add br0 type bridge forward_delay 0 mcast_snooping 0",
            "ip addr add 10.77.0.1/24 brd + dev br0",
            "ip link set br0 up",
        ):
            made.inside(made.server, *command.split())
        yield made
    finally:
        for name in (*made.clients, made.server):
            with suppress(subprocess.TimeoutExpired):
                run("ip", "netns", "del", name, check=False)


class Served:
    """A running `tests.dhcp.serve`; `notes` grows as it speaks."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.notes: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def wait_for(self, key: str, value: object = None, timeout: float = 60) -> dict[str, Any]:
        """The next line with this key (and value). Raises queue.Empty or RuntimeError."""
        while True:
            line = self._lines.get(timeout=timeout)
            if line is None:
                raise RuntimeError(f"the server ended: {self.process.wait(30)}")
            self.notes.append(line)
            if key in line and (value is None or line[key] == value):
                return line


@contextmanager
def served(
    where: Room, leases: Path, *more: str, first: str = "10.77.0.10", last: str = "10.77.0.99"
) -> Iterator[Served]:
    command = [
        sys.executable,
        "-m",
        "tests.dhcp.serve",
        "br0",
        "10.77.0.0/24",
        first,
        last,
        str(leases),
        *more,
    ]
    with in_the_room(where, command) as server:
        yield server


@contextmanager
def in_the_room(where: Room, command: Sequence[str]) -> Iterator[Served]:
    """A server that says `ready` and ends with its standard input, in the room's server namespace."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", where.server, *command],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        server = Served(process)
        server.wait_for("ready")
        yield server
    finally:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
