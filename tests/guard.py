"""Fails every test during which a socket of ours listens outside loopback in the host's own network
namespace.

A pytest plugin. Two eyes: an audit hook sees each `bind` and `listen` of this process the moment it
happens; a thread reads the kernel's socket tables of the host's namespace ten times a second and follows
what it finds to our process and its children. Multicast memberships outside loopback count too. Sockets in
namespaces that tests made are none of its business: that is where DHCP, TFTP, HTTP and multicast belong.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

SIOCGSKNS = 0x894C  # linux/sockios.h: a descriptor of the network namespace a socket belongs to
TCP_LISTEN, UDP_UNCONNECTED = (
    "0A",
    "07",
)  # include/net/tcp_states.h; an unconnected UDP socket shows TCP_CLOSE


class Listener(NamedTuple):
    """A socket that strangers could reach: protocol, address, port, inode."""

    protocol: str
    address: str
    port: int
    inode: int


def address_of(text: str) -> tuple[str, int]:
    """An address and port as /proc/net/{tcp,udp}[6] write them (hex, each 32-bit word in host order)."""
    host, _, port = text.partition(":")
    words = [struct.pack("=I", int(host[i : i + 8], 16)) for i in range(0, len(host), 8)]
    return str(ipaddress.ip_address(b"".join(words))), int(port, 16)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped.is_loopback
    return ip.is_loopback


def listeners_in(protocol: str, table: str) -> list[Listener]:
    """Reachable sockets in the text of /proc/net/PROTOCOL: TCP that listens, UDP that has no single peer,
    raw.
    """
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10:
            continue
        address, port = address_of(fields[1])
        if protocol.startswith("tcp") and fields[3] != TCP_LISTEN:
            continue
        if protocol.startswith("udp") and fields[3] != UDP_UNCONNECTED:
            continue
        if not is_loopback(address):
            found.append(Listener(protocol, address, port, int(fields[9])))
    return found


def memberships_in(table: str) -> set[tuple[str, str]]:
    """(interface, group) of the text of /proc/net/igmp, without loopback and the all-hosts group."""
    found, interface = set(), ""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if not line.startswith(("\t", " ")):
            interface = fields[1]
        elif interface != "lo" and fields:
            group = str(ipaddress.IPv4Address(struct.pack("=I", int(fields[0], 16))))
            if group != "224.0.0.1":
                found.add((interface, group))
    return found


def descendants(root: int) -> list[int]:
    """``root`` and every process below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                parents[int(entry.name)] = int(stat[1])
    family = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return sorted(family)


def owners_of(inodes: set[int], pids: list[int]) -> dict[int, str]:
    """Which of the processes holds each socket: inode -> ``pid (command line)``."""
    found: dict[int, str] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(entry.path)
                    if target.startswith("socket:[") and (inode := int(target[8:-1])) in inodes:
                        command = (
                            Path(f"/proc/{pid}/cmdline")
                            .read_bytes()
                            .replace(b"\0", b" ")
                            .decode("utf-8", "replace")
                        )
                        found[inode] = f"process {pid} ({command.strip()[:120]})"
    return found


class Guard:
    """Watches from ``start`` to ``stop``; ``violations`` grows by one sentence for each thing seen."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self._tables = f"/proc/{os.getpid()}/net"  # the process's (main thread's) namespace: the host's
        self._host = os.stat("/proc/self/ns/net").st_ino
        self._lock = threading.Lock()
        self._judged: set[Listener] = set()
        self._bound_to_lo: set[int] = (
            set()
        )  # inodes: SO_BINDTODEVICE lo hears loopback only, whatever its address
        self._memberships: set[tuple[str, str]] = set()
        self._stop = threading.Event()
        self._active = False
        self._thread = threading.Thread(target=self._run, name="socket-guard", daemon=True)

    def start(self) -> None:
        self._judged = set(self._listeners())  # whatever this machine served before is not ours
        self._memberships = self._joined()
        self._active = True
        sys.addaudithook(self._audit)
        self._thread.start()

    def stop(self) -> None:
        self._active = False
        self._stop.set()

    def look(self) -> None:
        """One look at the kernel's tables, now."""
        with self._lock:
            fresh = [
                found
                for found in self._listeners()
                if found not in self._judged and found.inode not in self._bound_to_lo
            ]
            if fresh:
                owners = owners_of({found.inode for found in fresh}, descendants(os.getpid()))
                for found in fresh:
                    self._judged.add(found)
                    if found.inode in owners:
                        where = f"{found.protocol} {found.address} port {found.port}"
                        self.violations.append(f"{owners[found.inode]} has {where} open outside loopback")
            for interface, group in self._joined() - self._memberships:
                self._memberships.add((interface, group))
                self.violations.append(
                    f"somebody joined multicast group {group} on the real interface {interface}"
                )

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            self.look()

    def _listeners(self) -> list[Listener]:
        found = []
        for protocol in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
            with contextlib.suppress(OSError):  # no IPv6 here
                found += listeners_in(protocol, Path(self._tables, protocol).read_text())
        return found

    def _joined(self) -> set[tuple[str, str]]:
        with contextlib.suppress(OSError):
            return memberships_in(Path(self._tables, "igmp").read_text())
        return set()

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "socket.bind" or not self._active:
            return
        sock, address = arguments
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
            return
        host = str(address[0]) or "0.0.0.0"
        if host == "<broadcast>" or self._namespace_of(sock) != self._host:
            return
        with contextlib.suppress(ValueError):
            if host == "localhost" or is_loopback(host):
                return
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo":
            self._bound_to_lo.add(os.fstat(sock.fileno()).st_ino)
            return
        self.violations.append(f"this process binds a socket to {host} port {address[1]} outside loopback")

    def _namespace_of(self, sock: socket.socket) -> int:
        """The namespace a socket lives in: asked of the kernel; without the right to ask, that of its
        thread.
        """
        try:
            descriptor = fcntl.ioctl(sock.fileno(), SIOCGSKNS)
        except OSError:
            return os.stat(f"/proc/self/task/{threading.get_native_id()}/ns/net").st_ino
        try:
            return os.fstat(descriptor).st_ino
        finally:
            os.close(descriptor)


_guard = Guard()


def pytest_configure() -> None:
    _guard.start()


def pytest_unconfigure() -> None:
    _guard.stop()


@pytest.fixture(autouse=True)
def no_socket_outside() -> Iterator[None]:
    """Every test: fails when one of our sockets became reachable from outside while it ran."""
    before = len(_guard.violations)
    yield
    _guard.look()
    if fresh := _guard.violations[before:]:
        pytest.fail("sockets outside loopback and our namespaces:\n" + "\n".join(fresh), pytrace=False)
