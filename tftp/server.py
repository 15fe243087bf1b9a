"""The TFTP server's shell: sockets and timers around `ReadTransfer`, one event loop, read-only.

Requests arrive on one socket; each transfer gets a socket of its own, bound to the address the request was
sent to (IP_PKTINFO), because a machine with two network cards would otherwise answer from the wrong one, and
a new port is the server's half of the transfer identifier (RFC 1350 section 4).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tftp.files import AccessViolation, Files, Peer
from tftp.packet import Error, ErrorCode, PacketError, ReadRequest, WriteRequest, parse
from tftp.transfer import Content, Limits, ReadTransfer, TransferEvent

__all__ = [
    "RequestIgnored",
    "RequestRefused",
    "Server",
    "ServerEvent",
    "ServerLimits",
    "TransferEnded",
    "TransferStarted",
]

log = logging.getLogger(__name__)

# Not in the socket module of Python 3.11; numbers of Linux's <linux/in.h> and <linux/udp.h>.
_IP_PKTINFO, _IP_RECVERR, _IP_MTU = 8, 11, 14
_UDP_SEGMENT = 103


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A peer reads `name`, of `size` octets."""

    peer: Peer
    name: str
    size: int
    blksize: int
    windowsize: int


@dataclass(frozen=True, slots=True)
class TransferEnded:
    """The transfer of `name` ended; `result` says how."""

    peer: Peer
    name: str
    result: TransferEvent


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request was answered with ERROR `code`. Code 1 is everyday: shim and iPXE ask for files that may be
    absent."""

    peer: Peer
    name: str
    code: ErrorCode
    reason: str


@dataclass(frozen=True, slots=True)
class RequestIgnored:
    """A request was left unanswered; the peer will repeat it."""

    peer: Peer
    name: str
    reason: str


ServerEvent: TypeAlias = TransferStarted | TransferEnded | RequestRefused | RequestIgnored


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """How much is served at once, and how each transfer behaves."""

    transfers: int = 1024
    transfers_per_peer: int = 16
    transfer: Limits = field(default_factory=Limits)


class Server:
    """A TFTP server on `address`:`port`. Port 0 takes a free one, told by `port` after `start`.

    `on_event` is called on the loop for every `ServerEvent` and must not raise or wait.
    """

    def __init__(
        self,
        files: Files,
        address: str,
        port: int = 69,
        limits: ServerLimits | None = None,
        on_event: Callable[[ServerEvent], None] = lambda event: None,
    ) -> None:
        self._files, self._address, self.port = files, address, port
        self._limits = limits or ServerLimits()
        self.on_event = on_event
        self._socket: socket.socket | None = None
        self._running: dict[tuple[Peer, str], _Transfer] = {}
        self._per_address: Counter[str] = Counter()

    async def start(self) -> None:
        """Bind and begin to serve. Raises OSError when the address or port cannot be had."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            # A room switched on at once is a few hundred requests in one burst.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.bind((self._address, self.port))
        except OSError:
            sock.close()
            raise
        self._socket, self.port = sock, sock.getsockname()[1]
        asyncio.get_running_loop().add_reader(sock, self._requests_ready, sock)

    async def stop(self) -> None:
        """Stop listening and end what is running with one ERROR each; returns at once."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for transfer in list(self._running.values()):
            transfer.cut("The server is stopping")

    def _requests_ready(self, sock: socket.socket) -> None:
        for _ in range(64):  # then let the transfers breathe
            try:
                datagram, ancillary, _flags, source = sock.recvmsg(2048, socket.CMSG_SPACE(12))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # an ICMP error about an ERROR we sent; the next datagram is fine
                log.debug("tftp: %s", error)
                continue
            local = self._address
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                    # struct in_pktinfo: interface, the local address of the packet, the header's destination.
                    # The second is right for broadcasts too.
                    local = socket.inet_ntoa(struct.unpack("=I4s4s", data)[1])
            try:
                self._handle_request(datagram, Peer(source[0], source[1]), local, sock)
            except OSError as error:  # no socket or no route for this peer: its own loss, not the server's
                log.warning("tftp: request of %s failed: %s", source[0], error)

    def _handle_request(self, datagram: bytes, peer: Peer, local: str, sock: socket.socket) -> None:
        try:
            request = parse(datagram)
        except PacketError as error:
            log.debug("tftp: %s from %s", error, peer.address)
            return
        if isinstance(request, WriteRequest):
            self._refuse(request.name, peer, local, ErrorCode.ACCESS_VIOLATION, "This server is read-only")
            return
        if not isinstance(request, ReadRequest):
            return  # never answer an ERROR, and a stray ACK to port 69 is nobody's transfer
        earlier = self._running.get((peer, local))
        if earlier is not None:
            if earlier.core.is_repeat(request, asyncio.get_running_loop().time()):
                return  # the peer repeats itself because our first answer was lost; our timer sees to that
            # Loaders begin at the same port after each reset, so a new request from it means a new boot.
            earlier.drop("The peer began a new transfer from the same port.")
        if len(self._running) >= self._limits.transfers:
            self.on_event(RequestIgnored(peer, request.name, "Too many transfers are running."))
            return
        if self._per_address[peer.address] >= self._limits.transfers_per_peer:
            self.on_event(RequestIgnored(peer, request.name, "This peer runs too many transfers already."))
            return
        try:
            content = self._files.open(request.name, peer, local)
        except AccessViolation as error:
            self._refuse(request.name, peer, local, ErrorCode.ACCESS_VIOLATION, str(error))
            return
        except Exception:
            # A fault of ours, for the loop's exception handler to report; the peer must not hang on it.
            self._refuse(
                request.name, peer, local, ErrorCode.NOT_DEFINED, "The server failed to make this file"
            )
            raise
        if content is None:
            # At once: shim looks for three optional files before GRUB and must not wait for each.
            self._refuse(request.name, peer, local, ErrorCode.FILE_NOT_FOUND, "File not found")
            return
        try:
            transfer = _Transfer(self, request, content, peer, local)
        except OSError:
            _close(content)
            raise
        self._running[peer, local] = transfer
        self._per_address[peer.address] += 1
        core = transfer.core
        self.on_event(TransferStarted(peer, request.name, core.size, core.blksize, core.windowsize))
        transfer.pump()

    def _refuse(self, name: str, peer: Peer, local: str, code: ErrorCode, reason: str) -> None:
        with _transfer_socket(local) as sock, contextlib.suppress(OSError):
            sock.sendto(Error(code, reason).to_bytes(), peer)
        self.on_event(RequestRefused(peer, name, code, reason))

    def transfer_limits(self, peer: Peer, local: str) -> Limits:
        """The limits of a transfer to `peer`, its MTU being what the kernel knows of the path now."""
        limits = self._limits.transfer
        with _transfer_socket(local) as sock:
            try:
                sock.connect(peer)
                return replace(limits, mtu=min(limits.mtu, sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)))
            except OSError:
                return limits

    def forget(self, transfer: _Transfer) -> None:
        """Called by a transfer that ended."""
        if self._running.get((transfer.peer, transfer.local)) is transfer:
            del self._running[transfer.peer, transfer.local]
        self._per_address[transfer.peer.address] -= 1
        if self._per_address[transfer.peer.address] <= 0:
            del self._per_address[transfer.peer.address]


class _Transfer:
    """One `ReadTransfer` with its socket and its timer."""

    def __init__(
        self, server: Server, request: ReadRequest, content: Content, peer: Peer, local: str
    ) -> None:
        self.request, self.peer, self.local = request, peer, local
        self._server, self._content = server, content
        self._loop = asyncio.get_running_loop()
        self._gso = True
        self._timer: asyncio.TimerHandle | None = None
        self.core = ReadTransfer(request, content, self._loop.time(), server.transfer_limits(peer, local))
        self._socket = _transfer_socket(local)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)  # tell us when the peer's port is closed
        self._loop.add_reader(self._socket, self._ready)

    def _ready(self) -> None:
        for turn in range(16):
            try:
                datagram, source = self._socket.recvfrom(2048)
            except OSError:
                # Readable without a datagram: the error queue alone woke us, and would go on waking us.
                if turn == 0:
                    self._read_errors()
                break
            if source != self.peer:
                # RFC 1350 section 4: tell the stranger, and let the transfer go on.
                with contextlib.suppress(OSError):
                    self._socket.sendto(
                        Error(ErrorCode.UNKNOWN_TID, "Unknown transfer ID").to_bytes(), source
                    )
                continue
            self.core.receive(datagram, self._loop.time())
            if self.core.finished:
                break
        self.pump()

    def _read_errors(self) -> None:
        """Empty the error queue; an ICMP error about our peer (not about a stranger) ends the transfer."""
        while True:
            try:
                _data, _ancillary, _flags, target = self._socket.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            if target == self.peer:
                self.core.abandon("The peer closed its port without a word.")

    def pump(self) -> None:
        """Send what is due, arm the timer, tell what happened."""
        now = self._loop.time()
        for batch in self.core.datagrams_to_send(now):
            self._send(batch)
        for event in self.core.events():
            self._server.on_event(TransferEnded(self.peer, self.request.name, event))
        if self.core.finished:
            for batch in self.core.datagrams_to_send(now):
                self._send(batch)
            self._close()
            return
        deadline = self.core.next_timer()
        # An ACK moves the deadline back thousands of times a second: let the old timer fire and look again.
        if deadline is not None and (self._timer is None or deadline < self._timer.when()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self.core.handle_timer(self._loop.time())
        self.pump()

    def _send(self, batch: list[bytes]) -> None:
        if len(batch) > 1 and self._gso:
            try:
                segment = struct.pack("=H", len(batch[0]))
                self._socket.sendmsg(batch, [(socket.IPPROTO_UDP, _UDP_SEGMENT, segment)], 0, self.peer)
                return
            except (BlockingIOError, ConnectionRefusedError):
                return  # as good as lost on the wire: the peer's ACK or our timer mends it
            except OSError:
                self._gso = False  # not every card and kernel can (EIO, EINVAL, EMSGSIZE): one by one then
        for datagram in batch:
            try:
                self._socket.sendto(datagram, self.peer)
            except (BlockingIOError, ConnectionRefusedError):
                return
            except OSError as error:
                if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENOBUFS):
                    return  # a link that flaps: lost like any other datagram
                self.core.abandon(f"The network refused to send: {error.strerror}.")
                return

    def cut(self, message: str) -> None:
        """End it from our side with an ERROR."""
        self.core.end_with_error(ErrorCode.NOT_DEFINED, message)
        self.pump()

    def drop(self, reason: str) -> None:
        """End it without a word to the peer, who has forgotten it."""
        self.core.abandon(reason)
        self.pump()

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        _close(self._content)
        self._server.forget(self)


def _transfer_socket(local: str) -> socket.socket:
    """A UDP socket on a new port of the address the request reached."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind((local, 0))
    except OSError:
        sock.close()
        raise
    return sock


def _close(content: Content) -> None:
    close = getattr(content, "close", None)
    if close is not None:
        close()
