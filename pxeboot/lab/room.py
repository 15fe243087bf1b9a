"""A room with a switch, a server's place and client ports, made of namespaces and gone when it is left.

```
namespace pxl-RUN-switch:  br0 ─┬─ veth ── eth0 in pxl-RUN-server   (10.77.0.1)
                                ├─ veth ── eth0 in pxl-RUN-NAME     (simulated hosts, technician …)
                                └─ tap  ── QEMU (runs inside the switch's namespace)
```
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import ipaddress
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any
from weakref import WeakSet

from pyroute2 import IPRoute

from pxeboot.lab import ledger as ledgers
from pxeboot.lab import netns, processes
from pxeboot.lab.advertise import Advertiser
from pxeboot.lab.errors import LabError

MTU = 1500


class Room:
    """A context manager: enter it to build the switch and the server's namespace, leave it to remove
    everything.

    ``directory`` keeps logs and disks and stays; sockets live in ``runtime`` (short path: a Unix socket's
    name has at most 107 bytes) and go. ``run_id`` prefixes every name outside (lower-case letters and
    digits, at most 12). Needs root. Raises LabError.
    """

    def __init__(
        self,
        directory: Path,
        run_id: str | None = None,
        *,
        subnet: str = "10.77.0.0/24",
        state: Path = ledgers.STATE_DIRECTORY,
    ) -> None:
        self.directory = Path(directory)
        self.run_id = run_id or f"{os.getpid():x}{secrets.token_hex(2)}"
        if not re.fullmatch("[a-z0-9]{1,12}", self.run_id):
            raise LabError(f"run id {self.run_id!r} must be 1 to 12 lower-case letters and digits")
        self.subnet = ipaddress.IPv4Network(subnet)
        self.server_address = str(self.subnet[1])
        self.switch, self.server = f"pxl-{self.run_id}-switch", f"pxl-{self.run_id}-server"
        self._state = state
        self._ledger: ledgers.Ledger | None = None
        self._watch: subprocess.Popen[bytes] | None = None
        self._closers: list[Callable[[], None]] = []
        self._ports = 0
        self._lock = threading.RLock()

    @property
    def ledger(self) -> ledgers.Ledger:
        if self._ledger is None:
            raise LabError("the room is not open")
        return self._ledger

    @property
    def runtime(self) -> Path:
        """Directory of this run's sockets, removed at the end."""
        return self.ledger.runtime

    def open(self) -> Room:
        """Build the room. Whatever an earlier, killed run left is removed first."""
        if os.geteuid() != 0:
            raise LabError("the virtual room needs root: it makes network namespaces")
        ledgers.clean(directory=self._state)
        self.directory.mkdir(parents=True, exist_ok=True)
        _install_handlers()
        _open_rooms.add(self)
        try:
            self._ledger = ledgers.Ledger(self.run_id, self._state)
            self._watch = ledgers.watch(self.run_id) if self._state == ledgers.STATE_DIRECTORY else None
            self._make_switch()
            self.port("server", address=self.server_address)
        except BaseException:
            self.close()
            raise
        return self

    def _namespace(self, name: str) -> None:
        self.ledger.add_namespace(
            name
        )  # first the book, then the deed: a crash in between leaves nothing unknown
        netns.create(name)

    def _make_switch(self) -> None:
        self._namespace(self.switch)
        netns.call(self.switch, _make_bridge)
        self.on_close(Advertiser(self.switch, "br0").close)

    def port(self, name: str, *, mac: str | None = None, address: str | None = None) -> str:
        """A namespace ``pxl-RUN-name`` whose ``eth0`` is plugged into the switch; returns the namespace's
        name.

        With ``address`` (of the room's subnet) it is configured, broadcast address and multicast route
        included; without, it is up and bare, for a DHCP client.
        """
        namespace = f"pxl-{self.run_id}-{name}"
        with self._lock:
            self._ports += 1
            link = f"p{self._ports}"
        self._namespace(namespace)
        netns.call(self.switch, _make_cable, link, namespace)
        netns.call(namespace, _configure, mac, address, self.subnet)
        return namespace

    def unplug(self, namespace: str) -> None:
        """Remove a port and its namespace (its processes must be gone)."""
        with contextlib.suppress(OSError):
            netns.remove(namespace)

    def tap(self, name: str) -> str:
        """A tap plugged into the switch, for a machine that runs in the switch's namespace; its name."""
        link = f"t-{name}"[:15]
        netns.call(self.switch, _make_tap, link)
        return link

    def spawn(
        self, argv: Sequence[str], *, namespace: str | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """``processes.spawn`` with the child written into the ledger."""
        process = processes.spawn(argv, namespace=namespace, **options)
        self.ledger.add_process(process.pid)
        return process

    def on_close(self, closer: Callable[[], None]) -> None:
        """Call ``closer`` when the room closes, last registered first."""
        self._closers.append(closer)

    def close(self) -> list[str]:
        """Stop and remove everything; safe to call twice. Returns what had to be removed, in words."""
        with self._lock:
            closers, self._closers = self._closers[::-1], []
            ledger = self._ledger
            for closer in closers:
                # One thing that does not stop in order must not keep the rest: settle() kills it.
                with contextlib.suppress(Exception):
                    closer()
            removed = ledger.settle() if ledger is not None else []
            self._ledger = None
            if self._watch is not None:
                self._watch.kill()
                self._watch.wait(5)
                if self._watch.stdin:
                    self._watch.stdin.close()
                self._watch = None
            _open_rooms.discard(self)
            return removed

    def __enter__(self) -> Room:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _make_bridge() -> None:
    with IPRoute() as net:
        # No forwarding delay: firmware asks DHCP within seconds of link-up. No snooping: without a querier it
        # would cut multicast off after the membership interval.
        settings = {"br_forward_delay": 0, "br_mcast_snooping": 0, "br_stp_state": 0}
        net.link("add", ifname="br0", kind="bridge", **settings)
        net.link("set", index=socket.if_nametoindex("br0"), state="up")


def _make_cable(link: str, namespace: str) -> None:
    """From the bridge here to ``eth0`` there."""
    there = os.open(netns.path_of(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        with IPRoute() as net:
            peer = {"ifname": "eth0", "mtu": MTU, "net_ns_fd": there}
            net.link("add", ifname=link, kind="veth", mtu=MTU, peer=peer)
            bridge = socket.if_nametoindex("br0")
            net.link("set", index=socket.if_nametoindex(link), master=bridge, state="up")
    finally:
        os.close(there)


def _configure(mac: str | None, address: str | None, subnet: ipaddress.IPv4Network) -> None:
    with IPRoute() as net:
        net.link("set", index=socket.if_nametoindex("lo"), state="up")
        index = socket.if_nametoindex("eth0")
        if mac is not None:
            net.link("set", index=index, address=mac)
        net.link("set", index=index, state="up")
        if address is not None:
            broadcast = str(subnet.broadcast_address)
            net.addr("add", index=index, address=address, prefixlen=subnet.prefixlen, broadcast=broadcast)
        net.route("add", dst="224.0.0.0/4", oif=index)


def _make_tap(link: str) -> None:
    try:
        index = socket.if_nametoindex(link)
    except OSError:
        # linux/if_tun.h: TUNSETIFF with an ifreq (name, flags IFF_TAP | IFF_NO_PI), TUNSETPERSIST.
        with open("/dev/net/tun", "r+b", buffering=0) as device:
            fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", link.encode(), 0x0002 | 0x1000))
            fcntl.ioctl(device, 0x400454CB, 1)
        index = socket.if_nametoindex(link)
    with IPRoute() as net:
        net.link("set", index=index, mtu=MTU, master=socket.if_nametoindex("br0"), state="up")


_open_rooms: WeakSet[Room] = WeakSet()
_handlers_installed = False


def _close_rooms() -> None:
    for room in list(_open_rooms):
        room.close()


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # unwinds the context managers; atexit catches whoever used none


def _install_handlers() -> None:
    """Turn SIGTERM and SIGHUP into an orderly exit, where nobody else handles them and we may (main
    thread).
    """
    global _handlers_installed
    if not _handlers_installed:
        atexit.register(_close_rooms)
        _handlers_installed = True
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _leave)
