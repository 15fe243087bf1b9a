"""The shell around the responder: one UDP socket per interface, drained, committed, then answered.

Each wake-up takes up to 64 datagrams. When they changed leases, the answers wait until a durable transaction
holds them all: an ACK that left is on disk. A thread waits for the disk, so the event loop never does; what
arrives meanwhile makes the next transaction, which so grows with the load and the slowness of the disk.
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
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from dhcp.actions import SERVER_PORT, Arrival, Noted, Probe, Send
from dhcp.leases import LeaseError, LeaseStore
from dhcp.neighbours import Neighbours
from dhcp.packet import BROADCAST, Packet, PacketError
from dhcp.responder import Responder

_LOG = logging.getLogger("dhcp")
_BATCH: Final = 64
_MOST_WAITING: Final = 2048  # notes, of which every datagram gives one
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
        self._stopping = False
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="leases")
        self._writing: asyncio.Future[None] | None = None
        self._waiting_sends: list[Send] = []
        self._waiting_notes: list[Noted] = []

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
        """Stop listening, answer what is being written, close. At most as long as the disk takes."""
        if self._socket is None:
            return
        self._stopping = True
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        while self._writing is not None:
            await asyncio.wait({self._writing})
            await asyncio.sleep(0)  # let its callback run: it may start the next one
        self._socket.close()
        self._socket = None
        self._disk.shutdown()

    def _readable(self) -> None:
        sends: list[Send] = []
        notes: list[Noted] = []
        for _ in range(_BATCH):
            if not self._receive(sends, notes):
                break
        self._waiting_sends += sends
        self._waiting_notes += notes
        if self._writing is None:
            self._write()
        elif len(self._waiting_notes) >= _MOST_WAITING and self._socket is not None:
            # The disk hangs: leave the rest in the socket's buffer, which is bounded.
            asyncio.get_running_loop().remove_reader(self._socket.fileno())

    def _write(self) -> None:
        """Have the disk hold what was promised so far, then answer; at once when nothing changed."""
        sends, self._waiting_sends = self._waiting_sends, []
        notes, self._waiting_notes = self._waiting_notes, []
        try:
            changed = self._leases.prepare()
        except LeaseError as error:
            self._withhold(len(sends), error)
            return
        if not changed:
            self._answer(sends, notes)
            return
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._disk, self._leases.finish)
        self._writing.add_done_callback(lambda written: self._written(written, sends, notes))

    def _written(self, written: asyncio.Future[None], sends: list[Send], notes: list[Noted]) -> None:
        self._writing = None
        try:
            written.result()
        except LeaseError as error:
            self._withhold(len(sends) + len(self._waiting_sends), error)
            # What came in meanwhile was judged by a table that is void now.
            self._waiting_sends, self._waiting_notes = [], []
            try:
                self._leases.abandon()
            except LeaseError as second:
                _LOG.error("%s", second)
        else:
            self._answer(sends, notes)
        if self._waiting_notes:
            self._write()
        if self._socket is not None and not self._stopping:
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)

    def _withhold(self, count: int, error: LeaseError) -> None:
        # Nobody was promised anything: the clients ask again, and hear from us when the disk can hold it.
        self.counters["commit_failed"] += 1
        _LOG.error("leases could not be written, %d answers withheld: %s", count, error)

    def _answer(self, sends: list[Send], notes: list[Noted]) -> None:
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
            actions = self.responder.handle(packet, self._arrival(ancillary, source), self._clock())
            for action in actions:
                if isinstance(action, Probe):  # nobody looks yet: the address counts as free
                    actions.extend(self.responder.probed(action, False, self._clock()))
                elif isinstance(action, Send):
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
