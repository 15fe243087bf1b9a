"""A site for the daemon, for tests: its namespace with two interfaces, a machine on each, a relay behind one.

server: eth1 10.20.0.1/24, eth2 10.30.0.1/24      (no link to anything else)
one:    eth0 in 10.20.0.0/24; also a relay, 10.20.0.2, with 10.40.0.1 on its other side
two:    eth0 in 10.30.0.0/24
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dhcp.packet import Packet
from pxeboot.lab import netns
from tests.dhcp.room import run

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 100.0
_SERIAL = itertools.count()


class Site:
    """Three namespaces; `daemon(...)` starts pxeboot in the first."""

    def __init__(self, directory: Path) -> None:
        prefix = f"wire{os.getpid()}x{next(_SERIAL)}"
        self.directory = directory
        self.server, self.one, self.two = f"{prefix}s", f"{prefix}a", f"{prefix}b"
        self.config = directory / "pxeboot.toml"
        self.data_dir = directory / "data"

    def inside(self, namespace: str, command: str) -> str:
        return str(run("ip", "netns", "exec", namespace, *command.split()).stdout)

    def build(self) -> None:
        for name in (self.server, self.one, self.two):
            run("ip", "netns", "add", name)
            self.inside(name, "ip link set lo up")
        for interface, network, peer in (("eth1", "10.20.0", self.one), ("eth2", "10.30.0", self.two)):
            self.inside(self.server, f"ip link add {interface} type veth peer name eth0 netns {peer}")
            self.inside(self.server, f"ip addr add {network}.1/24 brd + dev {interface}")
            self.inside(self.server, f"ip link set {interface} up")
            self.inside(peer, f"ip addr add {network}.2/24 brd + dev eth0")
            self.inside(peer, "ip link set eth0 up")
        self.inside(self.one, "ip addr add 10.40.0.1/32 dev lo")
        self.inside(self.server, "ip route add 10.40.0.0/24 via 10.20.0.2")

    def tear_down(self) -> None:
        for name in (self.server, self.one, self.two):
            with suppress(subprocess.TimeoutExpired):
                run("ip", "netns", "del", name, check=False)

    def write(self, toml: str) -> None:
        """The settings file: `toml` behind the data directory."""
        self.config.write_text(f'[server]\ndata_dir = "{self.data_dir}"\n{toml}', encoding="utf-8")

    @contextmanager
    def daemon(self, toml: str) -> Iterator[Daemon]:
        self.write(toml)
        made = Daemon(self)
        try:
            made.wait_until_ready()
            yield made
        finally:
            made.end()

    def ask(
        self,
        namespace: str,
        packet: Packet,
        *,
        port: int = 67,
        to: str = "",
        me: str = "",
        seconds: float = 30,
    ) -> Packet | None:
        """Send one message from eth0 of a namespace and wait for the answer; None when there is none.

        `to` and `me`: unicast from an address, as a relay or a client with an address does.
        """
        sock = netns.socket_in(namespace, socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.settimeout(seconds)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if me:
                sock.bind((me, 67 if packet.giaddr == me else 4011))
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                sock.bind(("", 68))
            sock.sendto(packet.to_bytes(1400), (to or "255.255.255.255", port))
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                try:
                    answer = Packet.parse(sock.recv(2048))
                except TimeoutError:
                    return None
                if answer.op == 2 and answer.xid == packet.xid:
                    return answer
        return None


class Daemon:
    """`pxeboot serve` in the site's server namespace."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.log = site.directory / "log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PXEBOOT_")}
        self.environment = {**kept, "PYTHONPATH": str(ROOT), "PXEBOOT_CONFIG": str(site.config)}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", site.server, sys.executable, "-m", "pxeboot", "serve"],
                env=self.environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def client(self, address: str = "10.20.0.1", *, token: bool = True) -> netns.HttpClient:
        headers = {"Authorization": f"Bearer {self.token}"} if token else {}
        return netns.HttpClient(self.site.server, address, timeout=60, headers=headers)

    @property
    def token(self) -> str:
        return (self.site.data_dir / "cli.token").read_text().strip()

    def wait_until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.said()
            with suppress(OSError):
                if self.client(token=False).get("/readyz").status == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(f"the daemon did not become ready: {self.said()}")

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def wait_for(self, text: str, seconds: float = 60) -> None:
        """Until the log has it."""
        end = time.monotonic() + seconds
        while text not in self.said():
            assert time.monotonic() < end, f"{text!r} not in:\n{self.said()}"
            time.sleep(0.1)

    def events(self, kind: str, seconds: float = 30) -> list[dict[str, Any]]:
        """What the journal holds of this kind, as soon as there is something."""
        end = time.monotonic() + seconds
        while True:
            items: list[dict[str, Any]] = self.client().get(f"/api/v1/events?kind={kind}").json()["items"]
            if items or time.monotonic() > end:
                return items
            time.sleep(0.1)

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A `pxeboot` command on the server."""
        return subprocess.run(
            ["ip", "netns", "exec", self.site.server, sys.executable, "-m", "pxeboot", *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)


@contextmanager
def site(directory: Path) -> Iterator[Site]:
    """A site that is taken away again."""
    made = Site(directory)
    try:
        made.build()
        yield made
    finally:
        made.tear_down()
