"""Looks whether somebody already uses an address, before it is offered (RFC 2131 §2.2, §4.3.1).

On our own links by ARP from 0.0.0.0, as RFC 5227 §2.1.1 probes; behind a relay by an ICMP echo. A probe lasts
0.3 s and keeps nobody else waiting; in a storm those beyond the bound go unprobed, and are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import secrets
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from dhcp.actions import Probe
from dhcp.packet import ANY

_LOG = logging.getLogger("dhcp")
PROBE_SECONDS: Final = 0.3
_AGAIN_SECONDS: Final = 0.1  # the second try: one frame may be lost
MOST_PROBES: Final = 256
CLEAR_SECONDS: Final = 60.0
_MOST_CLEAR: Final = 4096
_ETH_P_ARP: Final = 0x0806
_ARPHRD_ETHER: Final = 1
_LINK_BROADCAST: Final = b"\xff" * 6
# Ethernet, IPv4, lengths 6 and 4, operation, then sender and target (RFC 826)
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_ECHO: Final = struct.Struct("!BBHHH")
_ICMP_FILTER: Final = 1  # linux/icmp.h: a mask of the types that are not wanted
_ICMP_ECHO_REPLY: Final = 0
# What a packet socket says of a frame (packet(7)): our own ones pass by, too.
_PACKET_OUTGOING: Final = 4


class Probes(Protocol):
    """Whom the shell asks to look. Belongs to the event loop's thread and never waits."""

    counters: Counter[str]

    def look(self, probe: Probe, done: Callable[[bool], None]) -> bool:
        """Look for `probe.address`, call `done(in use)` later. False: nobody will look, take it as free."""

    def close(self) -> None:
        """Give up what is under way: `done` is not called any more."""


@dataclass(slots=True)
class _Look:
    """One probe under way."""

    probe: Probe
    done: Callable[[bool], None]
    timers: list[asyncio.TimerHandle] = field(default_factory=list)


class LinkProbes:
    """ARP on the links of this machine, ICMP to what is behind relays. Needs CAP_NET_RAW; without it nobody
    looks, and one warning says so.

    `counters`: `probed`, `probe_in_use`, `probe_remembered` (found free less than a minute ago),
    `probe_skipped` (too many under way, or it could not be sent).
    """

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._looks: dict[bytes, _Look] = {}  # by address
        self._clear: dict[str, float] = {}  # address -> until when (loop time)
        self._links: dict[str, _Link] = {}
        self._pinger: _Pinger | None = None
        self._forbidden = False

    def look(self, probe: Probe, done: Callable[[bool], None]) -> bool:
        loop = asyncio.get_running_loop()
        address = socket.inet_aton(probe.address)
        if self._clear.get(probe.address, 0.0) > loop.time():
            self.counters["probe_remembered"] += 1
            return False
        if self._forbidden or len(self._looks) >= MOST_PROBES or address in self._looks:
            self.counters["probe_skipped"] += 1
            return False
        try:
            self._send(probe, address)
        except OSError as error:  # the link is down; no route to the relay's network, or a firewall bars it
            self.counters["probe_skipped"] += 1
            _LOG.debug("cannot look for %s on %s: %s", probe.address, probe.interface, error)
            return False
        self.counters["probed"] += 1
        look = self._looks[address] = _Look(probe, done)
        look.timers = [
            loop.call_later(_AGAIN_SECONDS, self._again, look, address),
            loop.call_later(PROBE_SECONDS, self._over, address, False),
        ]
        return True

    def close(self) -> None:
        for look in self._looks.values():
            for timer in look.timers:
                timer.cancel()
        self._looks.clear()
        for link in self._links.values():
            link.close()
        self._links.clear()
        if self._pinger is not None:
            self._pinger.close()
            self._pinger = None

    def _send(self, probe: Probe, address: bytes) -> None:
        if probe.packet.giaddr == ANY:
            link = self._link(probe.interface)
            try:
                link.ask(address)
            except OSError:
                # The link may have been made anew since: the next probe opens it again.
                self._links.pop(probe.interface).close()
                raise
        else:
            self._ping().ask(address)

    def _link(self, interface: str) -> _Link:
        link = self._links.get(interface)
        if link is None:
            with self._rights():
                link = self._links[interface] = _Link(interface, self._seen)
        return link

    def _ping(self) -> _Pinger:
        if self._pinger is None:
            with self._rights():
                self._pinger = _Pinger(self._echoed)
        return self._pinger

    @contextlib.contextmanager
    def _rights(self) -> Iterator[None]:
        """Only making a socket shows that we lack the right; sending also fails for a firewall's sake."""
        try:
            yield
        except PermissionError:
            self._forbidden = True
            _LOG.warning(
                "addresses are offered without a look whether they are in use: CAP_NET_RAW is missing"
            )
            raise

    def _again(self, look: _Look, address: bytes) -> None:
        with contextlib.suppress(OSError):
            self._send(look.probe, address)

    def _seen(self, interface: str, address: bytes, mac: bytes) -> None:
        """Somebody with this hardware address said on a link that an address is its."""
        look = self._looks.get(address)
        if look is None or look.probe.interface != interface or look.probe.packet.giaddr != ANY:
            return
        if mac.hex(":") != look.probe.mac:  # the machine itself may still hold it, and answer
            self._over(address, True)

    def _echoed(self, address: bytes) -> None:
        look = self._looks.get(address)
        if look is not None and look.probe.packet.giaddr != ANY:
            self._over(address, True)

    def _over(self, address: bytes, in_use: bool) -> None:
        look = self._looks.pop(address)
        for timer in look.timers:
            timer.cancel()
        if in_use:
            self.counters["probe_in_use"] += 1
        else:
            if len(self._clear) >= _MOST_CLEAR:
                self._clear.clear()
            self._clear[look.probe.address] = asyncio.get_running_loop().time() + CLEAR_SECONDS
        look.done(in_use)


class _Link:
    """ARP on one interface. It listens only for as long as it asked lately."""

    def __init__(self, interface: str, seen: Callable[[str, bytes, bytes], None]) -> None:
        """Raises OSError: not allowed, no such interface."""
        self._interface, self._seen = interface, seen
        self._loop = asyncio.get_running_loop()
        self._quiet: asyncio.TimerHandle | None = None
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_ARP))
        try:
            self._socket.bind((interface, _ETH_P_ARP))
        except OSError:
            self._socket.close()
            raise
        _, _, _, self._hardware, self._own = self._socket.getsockname()

    def ask(self, address: bytes) -> None:
        """Broadcast "who has", from no address, so that nobody learns a wrong one. Raises OSError."""
        if self._hardware != _ARPHRD_ETHER:
            raise OSError(errno.EAFNOSUPPORT, f"{self._interface} is no Ethernet")
        frame = _ARP.pack(1, 0x0800, 6, 4, 1, self._own, bytes(4), bytes(6), address)
        if self._quiet is None:
            self._drain()  # what was said before is no answer
            self._loop.add_reader(self._socket.fileno(), self._readable)
        else:
            self._quiet.cancel()
        self._quiet = self._loop.call_later(2 * PROBE_SECONDS, self._hush)
        self._socket.sendto(frame, (self._interface, _ETH_P_ARP, 0, 0, _LINK_BROADCAST))

    def close(self) -> None:
        self._hush()
        self._socket.close()

    def _hush(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
            self._loop.remove_reader(self._socket.fileno())

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(4096):
                self._socket.recv(64)

    def _readable(self) -> None:
        for _ in range(64):
            try:
                frame, place = self._socket.recvfrom(64)
            except OSError:  # nothing left, or the link went down
                return
            if place[2] != _PACKET_OUTGOING:
                self._judge(frame)

    def _judge(self, frame: bytes) -> None:
        if len(frame) < _ARP.size:
            return
        kind, protocol, hlen, plen, _, sender, address, _, target = _ARP.unpack_from(frame)
        if (kind, protocol, hlen, plen) != (1, 0x0800, 6, 4) or sender == self._own:
            return
        if any(address):
            self._seen(self._interface, address, sender)
        else:  # somebody else is just probing it, to use it (RFC 5227 §2.1.1)
            self._seen(self._interface, target, sender)


class _Pinger:
    """ICMP echo to what is behind relays."""

    def __init__(self, echoed: Callable[[bytes], None]) -> None:
        """Raises OSError: not allowed."""
        self._echoed = echoed
        self._loop = asyncio.get_running_loop()
        self._identifier = secrets.randbits(16)
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
        unwanted = ~(1 << _ICMP_ECHO_REPLY) & 0xFFFFFFFF
        self._socket.setsockopt(socket.IPPROTO_RAW, _ICMP_FILTER, struct.pack("=I", unwanted))
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def ask(self, address: bytes) -> None:
        """Raises OSError: no route."""
        self._socket.sendto(_echo(self._identifier), (socket.inet_ntoa(address), 0))

    def close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        for _ in range(64):
            try:
                data, source = self._socket.recvfrom(256)
            except OSError:
                return
            reply = data[4 * (data[0] & 15) :]
            if len(reply) >= _ECHO.size:
                kind, _, _, identifier, _ = _ECHO.unpack_from(reply)
                if kind == _ICMP_ECHO_REPLY and identifier == self._identifier:
                    self._echoed(socket.inet_aton(source[0]))


def _echo(identifier: int) -> bytes:
    """An ICMP echo request without data (RFC 792), checksum included."""
    total = 0x0800 + identifier
    total = (total & 0xFFFF) + (total >> 16)
    return _ECHO.pack(8, 0, ~total & 0xFFFF, identifier, 0)
