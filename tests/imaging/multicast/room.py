"""A room of network namespaces of our own: a server, a bridge, and machines; gone when the block ends."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imaging.chunks import compress, hash_chunk
from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest, Runs
from imaging.store import ChunkStore

REPOSITORY = Path(__file__).resolve().parents[3]
_rooms = itertools.count()


def sh(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class NetRoom:
    """`server` and `hosts` are names of namespaces; the server is 10.9.0.1, host n is 10.9.0.(10 + n)."""

    def __init__(self, hosts: int) -> None:
        self.prefix = f"mc{os.getpid()}x{next(_rooms)}"
        self.switch = f"{self.prefix}-sw"
        self.server = f"{self.prefix}-srv"
        self.hosts = [f"{self.prefix}-h{n}" for n in range(hosts)]
        self.wires: list[str] = []
        self.processes: list[subprocess.Popen[str]] = []

    def build(self) -> None:
        for namespace in [self.switch, self.server, *self.hosts]:
            sh("ip", "netns", "add", namespace)
            sh("ip", "-n", namespace, "link", "set", "lo", "up")
        sh("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0",
           "mcast_snooping", "0")  # fmt: skip
        sh("ip", "-n", self.switch, "link", "set", "br0", "up")
        for n, namespace in enumerate([self.server, *self.hosts]):
            self._plug(n, namespace, "eth0")
            self._configure(namespace, "10.9.0.1" if n == 0 else self.address(n - 1))

    def _plug(self, port: int, namespace: str, name: str) -> None:
        sh("ip", "-n", self.switch, "link", "add", f"p{port}", "type", "veth", "peer", "name", name,
           "netns", namespace)  # fmt: skip
        sh("ip", "-n", self.switch, "link", "set", f"p{port}", "master", "br0", "up")
        sh("ip", "-n", namespace, "link", "set", name, "up")

    def _configure(self, namespace: str, address: str) -> None:
        sh("ip", "-n", namespace, "addr", "add", f"{address}/24", "brd", "+", "dev", "eth0")
        sh("ip", "-n", namespace, "link", "set", "eth0", "up")
        sh("ip", "-n", namespace, "route", "add", "224.0.0.0/4", "dev", "eth0")

    def address(self, host: int) -> str:
        return f"10.9.0.{10 + host}"

    def lose(self, host: int, permille: int) -> None:
        """Lose this share of the data that arrives; single datagrams, not whole bursts."""
        sh("ip", "netns", "exec", self.server, "ethtool", "-K", "eth0", "tx-udp-segmentation", "off")
        rules = f"""
            table inet loss {{
              chain in {{
                type filter hook input priority 0;
                udp dport 9000 numgen random mod 1000 < {permille} drop
              }}
            }}"""
        subprocess.run(
            ["ip", "netns", "exec", self.hosts[host], "nft", "-f", "-"],
            input=rules, text=True, check=True, timeout=60,
        )  # fmt: skip

    def bad_wire(self, host: int, **how: Any) -> Callable[[], dict[str, int]]:
        """Put hop.py between the switch and this host; what it returns tells what the wire did by then."""
        namespace, wire = self.hosts[host], f"{self.prefix}-w{host}"
        sh("ip", "netns", "add", wire)
        self.wires.append(wire)
        sh("ip", "-n", self.switch, "link", "del", f"p{host + 1}")
        self._plug(host + 1, wire, "near")
        sh("ip", "-n", wire, "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        sh("ip", "-n", wire, "link", "set", "far", "up")
        self._configure(namespace, self.address(host))
        # Checksums as on a real wire: a frame that is read and sent again must have its own.
        for end in (self.server, namespace):
            sh("ip", "netns", "exec", end, "ethtool", "-K", "eth0", "tx", "off")
        hop = self.start(wire, "-m", "tests.imaging.multicast.hop", json.dumps(how))
        assert hop.stdout is not None
        assert hop.stdout.readline() == "ready\n"
        counts: dict[str, int] = {}

        def listen() -> None:
            assert hop.stdout is not None
            for line in hop.stdout:
                counts.update(json.loads(line))

        threading.Thread(target=listen, daemon=True).start()
        return lambda: dict(counts)

    def start(self, namespace: str, *arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, sys.executable, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def remove(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=60)
        for namespace in [self.server, *self.hosts, *self.wires, self.switch]:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=60, check=False)


@contextmanager
def net_room(hosts: int) -> Iterator[NetRoom]:
    room = NetRoom(hosts)
    try:
        room.build()
        yield room
    finally:
        room.remove()


def make_store(path: Path, chunks: int, seed: bytes = b"s", compressible: float = 0.67) -> Manifest:
    """A store with an image of `chunks` chunks that compress to a third, like a real disk's."""
    plain = []
    with ChunkStore(path) as store:
        for _ in range(chunks):
            noise = os.urandom(int(CHUNK_SIZE * (1 - compressible)))
            chunk = noise + bytes(CHUNK_SIZE - len(noise))
            name = hash_chunk(chunk)
            store.add_frame(name, compress(chunk))
            plain.append(name)
        size = chunks * CHUNK_SIZE
        manifest = Manifest([DiskImage(size, 512, None, (), Runs([(0, size)]), b"".join(plain))])
        store.put_manifest(manifest.to_bytes(), bytes(64))
    return manifest


def order(manifest: Manifest, store: Path, **changes: Any) -> dict[str, Any]:
    """What the daemon writes to the sender's stdin."""
    session = {
        "id": 0x1234ABCD, "group": "239.192.7.7", "port": 9000, "report": ["10.9.0.1", 9001], "symbol": 1450,
        "key": None, "version": 2,
    }  # fmt: skip
    session.update(changes.pop("session", {}))
    return {
        "session": session, "manifest": manifest.id, "store": str(store), "interface": "10.9.0.1",
        "rate_mbit": 300, "gather_seconds": 5, "expected": None, **changes,
    }  # fmt: skip


def start_sender(room: NetRoom, what: dict[str, Any]) -> "subprocess.Popen[str]":
    process = room.start(room.server, "-m", "imaging.multicast.send")
    assert process.stdin is not None
    process.stdin.write(json.dumps(what) + "\n")
    process.stdin.flush()
    return process


def start_host(room: NetRoom, host: int, what: dict[str, Any], **changes: Any) -> "subprocess.Popen[str]":
    """tests/imaging/multicast/host.py in its namespace."""
    arguments = {**what, "interface": room.address(host), **changes}
    return room.start(room.hosts[host], "-m", "tests.imaging.multicast.host", json.dumps(arguments))


def lines_until(process: "subprocess.Popen[str]", event: str, seconds: float) -> list[dict[str, Any]]:
    """The JSON lines of a process up to the first one of this kind. Fails when it does not come."""
    assert process.stdout is not None
    seen = []
    deadline = time.monotonic() + seconds
    for line in process.stdout:  # the processes themselves write at least twice a second
        seen.append(json.loads(line))
        if seen[-1]["event"] == event:
            return seen
        assert time.monotonic() < deadline, f"no {event} in {seconds} s, last: {seen[-1]}"
    raise AssertionError(f"ended before {event}: {seen[-3:]}")
