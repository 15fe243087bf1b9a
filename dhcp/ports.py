"""One bound UDP socket of the DHCP server: what arrives and where, and answers out of the same door.

A link that goes down, loses its address or is made anew must cost datagrams only, never the server: errors
are counted here, and `stale` tells when the socket hangs on a link that is gone.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from dhcp.actions import SERVER_PORT, Arrival
from dhcp.batches import USABLE, Inbox, PlainInbox, sender
from dhcp.neighbours import Neighbours
from dhcp.packet import BROADCAST

_LOG = logging.getLogger("dhcp")
_IN_PKTINFO: Final = struct.Struct("=i4s4s")  # interface index, our address, destination (ip(7))
_IP_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8)  # not in the socket module before Python 3.12
_RECEIVE_BUFFER: Final = 4 << 20  # 200 machines switched on at once are 200 datagrams of 0.5 kB in a moment
_SEND_BUFFER: Final = 1 << 20  # a batch of answers leaves at once, and the card is slower than we are
# Like SO_SNDBUF and SO_RCVBUF, but past net.core.[rw]mem_max, which is a few hundred datagrams (socket(7)).
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_MOST_ARRIVALS: Final = 1024
_WARN_SECONDS: Final = 60.0  # at most one line about the same trouble in this time


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen. `optional`: start without it when the port is another program's (proxy mode, 67)."""

    interface: str
    port: int = SERVER_PORT
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.interface} port {self.port}"


class Port:
    """A listener's socket. Everything here belongs to the event loop's thread and never waits."""

    def __init__(self, listener: Listener, neighbours: Neighbours) -> None:
        self.listener = listener
        self.counters: Counter[str] = Counter()
        self._neighbours = neighbours
        self._socket: socket.socket | None = None
        self._inbox: Inbox | PlainInbox | None = None
        self._index = 0
        self._arrivals: dict[tuple[bytes, bytes], Arrival] = {}
        self._warned: dict[str, float] = {}

    def open(self) -> int:
        """Bind; the socket's file number. Raises OSError: port taken, no such interface, not root."""
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            interface = self.listener.interface
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            self._index = socket.if_nametoindex(interface)
            # Each interface has its own socket on the same port; the device keeps them apart.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            _widen(opened, socket.SO_RCVBUF, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            _widen(opened, socket.SO_SNDBUF, _SO_SNDBUFFORCE, _SEND_BUFFER)
            opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            opened.bind(("", self.listener.port))
        except OSError as error:
            opened.close()
            raise OSError(error.errno, f"{error.strerror or error} ({self.listener})") from error
        self._socket, self._inbox = opened, Inbox(opened) if USABLE else PlainInbox(opened)
        return opened.fileno()

    @property
    def fileno(self) -> int | None:
        """The open socket's file number, None when there is none."""
        return None if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Close the socket, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = self._inbox = None

    def stale(self) -> bool:
        """Whether a new socket is due: there is none, or its link was taken away or made anew."""
        if self._socket is None:
            return True
        try:
            return socket.if_nametoindex(self.listener.interface) != self._index
        except OSError:
            return True

    def receive(self) -> list[tuple[bytes, Arrival]]:
        """What has arrived, at most `Inbox.COUNT`; fewer: there is no more."""
        if self._inbox is None:
            return []
        try:
            taken = self._inbox.take()
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:  # the interface went down or away
            self.counters["receive_failed"] += 1
            self._warn("receive", f"cannot receive on {self.listener}: {error}")
            return []
        self.counters["received"] += len(taken)
        known = self._arrivals
        # The same few relays, and broadcasts from 0.0.0.0, come again and again.
        return [(data, known.get((info, name)) or self._arrival(info, name)) for data, info, name in taken]

    def _arrival(self, info: bytes, name: bytes) -> Arrival:
        ours, destination = b"\0\0\0\0", b"\xff\xff\xff\xff"
        if len(info) == _IN_PKTINFO.size:
            _, ours, destination = _IN_PKTINFO.unpack(info)
        address, port = sender(name)
        arrival = Arrival(
            interface=self.listener.interface,
            address=socket.inet_ntoa(ours),
            destination=socket.inet_ntoa(destination),
            source=address,
            source_port=port,
            port=self.listener.port,
        )
        if len(self._arrivals) >= _MOST_ARRIVALS:
            self._arrivals.clear()
        self._arrivals[info, name] = arrival
        return arrival

    def send(self, data: bytes, to: str, port: int, l2: str | None, own: str | None = None) -> None:
        """Send one answer; `l2` and `own` as in `Send`. What cannot be sent is counted: they ask again."""
        if self._socket is None:
            self.counters["send_failed"] += 1
            return
        if l2 is not None:
            try:
                self._neighbours.add(to, l2, self.listener.interface)
            except OSError as error:
                # Every client hears a broadcast, whatever it asked for; it only wakes the others, too.
                self.counters["neighbour_failed"] += 1
                _LOG.debug("no neighbour entry for %s at %s, broadcasting: %s", to, l2, error)
                to = BROADCAST
        try:
            if own is None:
                self._socket.sendto(data, (to, port))
            else:
                info = _IN_PKTINFO.pack(0, socket.inet_aton(own), b"\0\0\0\0")  # ip(7): ipi_spec_dst
                self._socket.sendmsg([data], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, (to, port))
        except OSError as error:
            self.counters["send_failed"] += 1
            if error.errno != errno.EAGAIN:
                self._warn("send", f"cannot send to {to} on {self.listener}: {error}")
            return
        self.counters["sent"] += 1
        self.counters["broadcast" if to == BROADCAST else "unicast"] += 1

    def _warn(self, what: str, sentence: str) -> None:
        now = time.monotonic()
        if now - self._warned.get(what, -_WARN_SECONDS) >= _WARN_SECONDS:
            self._warned[what] = now
            _LOG.warning("%s", sentence)


def _widen(opened: socket.socket, polite: int, forced: int, size: int) -> None:
    """Set a buffer's size, whatever the machine's limit; without CAP_NET_ADMIN up to that limit."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, forced, size)
    except PermissionError:
        opened.setsockopt(socket.SOL_SOCKET, polite, size)
