"""The shell around the responder: one UDP socket per interface, drained, committed, then answered.

Each wake-up takes up to 64 datagrams, commits their leases in one durable transaction and only then sends the
replies: an ACK that left is on disk, and the disk is waited for once per batch, not once per client.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from dhcp.actions import SERVER_PORT, Arrival, Noted, Send
from dhcp.leases import LeaseError, LeaseStore
from dhcp.neighbours import Neighbours
from dhcp.packet import BROADCAST, Packet, PacketError
from dhcp.responder import Responder

_LOG = logging.getLogger("dhcp")
_BATCH: Final = 64
_IN_PKTINFO: Final = struct.Struct("=i4s4s")  # interface index, our address, destination (ip(7))
_RECEIVE_BUFFER: Final = 4 << 20  # 200 machines switched on at once are 200 datagrams of 0.5 kB in a moment
_IP_PKTINFO: Final = getattr(socket, "IP_PKTINFO", 8)  # not in the socket module before Python 3.12


class DhcpServer:
    """DHCP on one interface.

    Attributes:
        responder: may be replaced while running (a new configuration); the lease table stays.
        counters: what happened since the start: `received`, `sent`, `malformed`, `unicast`, `broadcast`,
            `neighbour_failed`, `send_failed`, `commit_failed`, `crashed`, and one per kind of note.
    """

    def __init__(
        self,
        interface: str,
        responder: Responder,
        leases: LeaseStore,
        neighbours: Neighbours,
        notify: Callable[[Noted], None],
        *,
        clock: Callable[[], float] = time.time,
        port: int = SERVER_PORT,
    ) -> None:
        """Args: `notify` gets every note, on the event loop; it must not wait."""
        self.interface = interface
        self.responder = responder
        self.counters: Counter[str] = Counter()
        self._leases = leases
        self._neighbours = neighbours
        self._notify = notify
        self._clock = clock
        self._port = port
        self._socket: socket.socket | None = None

    async def start(self) -> None:
        """Bind and listen. Raises OSError: port taken, no such interface, not root."""
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
            # Each interface has its own socket on the same port; the device keeps them apart.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            opened.bind(("", self._port))
        except OSError:
            opened.close()
            raise
        self._socket = opened
        asyncio.get_running_loop().add_reader(opened.fileno(), self._readable)

    async def stop(self) -> None:
        """Stop listening. What was acknowledged is on disk already; clients ask again for the rest."""
        opened, self._socket = self._socket, None
        if opened is not None:
            asyncio.get_running_loop().remove_reader(opened.fileno())
            opened.close()

    def _readable(self) -> None:
        sends: list[Send] = []
        notes: list[Noted] = []
        for _ in range(_BATCH):
            if not self._receive(sends, notes):
                break
        try:
            self._leases.commit()
        except LeaseError as error:
            # Nobody was promised anything: the clients ask again, and hear from us when the disk can hold it.
            self.counters["commit_failed"] += 1
            _LOG.error("leases could not be written, %d answers withheld: %s", len(sends), error)
            return
        for send in sends:
            self._send(send)
        for note in notes:
            self.counters[note.kind] += 1
            self._notify(note)

    def _receive(self, sends: list[Send], notes: list[Noted]) -> bool:
        """Take one datagram and have it judged. False when there is none left."""
        assert self._socket is not None
        try:
            data, ancillary, _, source = self._socket.recvmsg(2048, 64)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:  # the interface went down or away
            self.counters["receive_failed"] += 1
            _LOG.warning("cannot receive on %s: %s", self.interface, error)
            return False
        self.counters["received"] += 1
        try:
            packet = Packet.parse(data)
            for action in self.responder.handle(packet, self._arrival(ancillary, source), self._clock()):
                if isinstance(action, Send):
                    sends.append(action)
                else:
                    notes.append(action)
        except PacketError as error:
            self.counters["malformed"] += 1
            _LOG.debug("malformed datagram from %s on %s: %s", source[0], self.interface, error)
        except Exception:  # a bug of ours: seen, counted, and one machine's problem only
            self.counters["crashed"] += 1
            _LOG.exception("failed on a datagram from %s on %s: %s", source[0], self.interface, data.hex())
        return True

    def _arrival(self, ancillary: list[tuple[int, int, bytes]], source: tuple[str, int]) -> Arrival:
        ours, destination = b"\0\0\0\0", b"\xff\xff\xff\xff"
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                _, ours, destination = _IN_PKTINFO.unpack(value)
        return Arrival(
            interface=self.interface,
            address=socket.inet_ntoa(ours),
            destination=socket.inet_ntoa(destination),
            source=source[0],
            source_port=source[1],
            port=self._port,
        )

    def _send(self, send: Send) -> None:
        assert self._socket is not None
        to = send.to
        if send.l2 is not None:
            try:
                self._neighbours.add(to, send.l2, self.interface)
            except OSError as error:
                # Every client hears a broadcast, whatever it asked for; it only wakes the others, too.
                self.counters["neighbour_failed"] += 1
                _LOG.debug("no neighbour entry for %s at %s, broadcasting: %s", to, send.l2, error)
                to = BROADCAST
        try:
            self._socket.sendto(send.data(), (to, send.port))
        except OSError as error:
            self.counters["send_failed"] += 1
            level = logging.DEBUG if error.errno == errno.EAGAIN else logging.WARNING
            _LOG.log(level, "cannot send to %s on %s: %s", to, self.interface, error)
        except Exception:
            self.counters["crashed"] += 1
            _LOG.exception("cannot write a reply to %s", to)
        else:
            self.counters["sent"] += 1
            self.counters["broadcast" if to == BROADCAST else "unicast"] += 1
