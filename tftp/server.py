"""The TFTP server: requests in, transfers begun or refused; on one event loop, read-only.

Requests arrive on one socket; each transfer gets a socket of its own, bound to the address the request was
sent to (IP_PKTINFO), because a machine with two network cards would otherwise answer from the wrong one, and
a new port is the server's half of the transfer identifier (RFC 1350 section 4).
"""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from tftp.carrier import Carrier, free_port
from tftp.cut import Content, Shelf
from tftp.files import AccessViolation, Files, Peer
from tftp.options import Limits
from tftp.packet import Error, ErrorCode, PacketError, ReadRequest, WriteRequest, parse
from tftp.poller import Poller
from tftp.transfer import ReadTransfer, TransferAborted, TransferCompleted, TransferEvent, TransferFailed

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

# Not in the socket module of Python 3.11; numbers of Linux's <linux/in.h> and <asm/socket.h>.
_IP_PKTINFO, _SO_RCVBUFFORCE = 8, 33


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
    transfers_per_peer: int = 128
    """By address: a whole room may sit behind one that translates (NAT)."""
    transfer: Limits = field(default_factory=Limits)
    cache: int = 64 << 20
    """Octets of files kept in memory, ready to be sent."""


class Server:
    """A TFTP server on UDP `port` of one address or several. Port 0 takes a free one, told by `port` after
    `start`.

    `on_event` is called on the loop for every `ServerEvent` and must not raise or wait. `limits_for` may
    narrow the limits of one peer's transfers (a card that chokes on large blocks, say); None: the usual ones.
    """

    def __init__(
        self,
        files: Files,
        addresses: str | Sequence[str],
        port: int = 69,
        limits: ServerLimits | None = None,
        on_event: Callable[[ServerEvent], None] = lambda event: None,
        limits_for: Callable[[Peer], Limits | None] = lambda peer: None,
    ) -> None:
        self._files, self.port = files, port
        self._addresses = (addresses,) if isinstance(addresses, str) else tuple(addresses)
        self._limits, self._limits_for = limits or ServerLimits(), limits_for
        self.on_event = on_event
        self.counters: Counter[str] = Counter()
        """Since the start: requests garbage transfers completed aborted failed refused ignored strangers,
        octets (acknowledged) and resent (blocks)."""
        self._poller: Poller | None = None
        self._sockets: list[socket.socket] = []
        self._shelf = Shelf(self._limits.cache)
        self._running: dict[tuple[Peer, str], Carrier] = {}
        self._per_address: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """Transfers under way."""
        return len(self._running)

    async def start(self) -> None:
        """Bind and begin to serve. Raises OSError, its `filename` being the address that could not be had."""
        _allow_descriptors(_DESCRIPTORS * self._limits.transfers)
        for address in self._addresses:
            try:
                self._sockets.append(_request_socket(address, self.port))
            except OSError as error:
                await self.stop()
                raise OSError(error.errno, error.strerror, address) from error
            self.port = self._sockets[-1].getsockname()[1]
        self._poller = Poller()
        for sock, address in zip(self._sockets, self._addresses, strict=True):
            self._poller.add(sock, partial(self._requests_ready, sock, address))

    async def stop(self) -> None:
        """Stop listening and end what is running with one ERROR each; returns at once."""
        poller, self._poller = self._poller, None
        for sock in self._sockets:
            if poller is not None:
                poller.remove(sock)
            sock.close()
        self._sockets.clear()
        for transfer in list(self._running.values()):
            transfer.cut("The server is stopping")
        if poller is not None:
            poller.close()

    def _requests_ready(self, sock: socket.socket, local: str) -> None:
        for _ in range(16):  # then let the transfers breathe
            try:
                datagram, ancillary, _flags, source = sock.recvmsg(2048, socket.CMSG_SPACE(12))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:  # an ICMP error about an ERROR we sent; the next datagram is fine
                log.debug("tftp: %s", error)
                continue
            for level, kind, data in ancillary:
                if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
                    # struct in_pktinfo: interface, the local address of the packet, the header's destination.
                    # The second is right for broadcasts too.
                    local = socket.inet_ntoa(data[4:8])
            try:
                self._handle_request(datagram, Peer(source[0], source[1]), local)
            except OSError as error:  # no socket or no route for this peer: its own loss, not the server's
                log.warning("tftp: request of %s failed: %s", source[0], error)

    def _handle_request(self, datagram: bytes, peer: Peer, local: str) -> None:
        try:
            request = parse(datagram)
        except PacketError as error:
            self.counters["garbage"] += 1
            log.debug("tftp: %s from %s", error, peer.address)
            return
        if isinstance(request, WriteRequest):
            self._refuse(request.name, peer, local, ErrorCode.ACCESS_VIOLATION, "This server is read-only")
            return
        if not isinstance(request, ReadRequest):
            self.counters["garbage"] += 1
            return  # never answer an ERROR, and a stray ACK to port 69 is nobody's transfer
        self.counters["requests"] += 1
        earlier = self._running.get((peer, local))
        if earlier is not None:
            if earlier.core.is_repeat(request, time.monotonic()):
                return  # the peer repeats itself because our first answer was lost; our timer sees to that
            # Loaders begin at the same port after each reset, so a new request from it means a new boot.
            earlier.drop("The peer began a new transfer from the same port.")
        if len(self._running) >= self._limits.transfers and not self._make_room():
            self._ignore(request, peer, "Too many transfers are running.")
            return
        if self._per_address[peer.address] >= self._limits.transfers_per_peer:
            self._ignore(request, peer, "This peer runs too many transfers already.")
            return
        try:
            content = self._files.open(request.name, peer, local)
        except AccessViolation as error:
            self._refuse(request.name, peer, local, ErrorCode.ACCESS_VIOLATION, str(error))
            return
        except OSError as error:  # no descriptor left for now: the peer asks again
            self._ignore(request, peer, f"The file cannot be opened now: {error.strerror or error}.")
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
            self._begin(request, content, peer, local)
        except BaseException:
            _close(content)
            raise

    def _make_room(self) -> bool:
        """End the oldest transfer whose peer never answered: perhaps nobody ever asked for it."""
        now = time.monotonic()
        idle = next((one for one in self._running.values() if one.core.is_idle(now)), None)
        if idle is not None:
            idle.drop("The peer did not answer, and others wait.")
        return idle is not None

    def _begin(self, request: ReadRequest, content: Content, peer: Peer, local: str) -> None:
        assert self._poller is not None, "requests come only while we listen"
        limits = self._limits_for(peer) or self._limits.transfer

        def core(mtu: int) -> ReadTransfer:
            known = limits if mtu >= limits.mtu else replace(limits, mtu=mtu)
            return ReadTransfer(request, content, time.monotonic(), known, shelf=self._shelf)

        carrier = Carrier(
            peer,
            local,
            self._poller,
            core,
            ended=lambda core: self._ended(request, content, peer, local, core),
            stranger=lambda: self.counters.update(("strangers",)),
        )
        self._running[peer, local] = carrier
        self._per_address[peer.address] += 1
        self.counters["transfers"] += 1
        begun = carrier.core
        self.on_event(TransferStarted(peer, request.name, begun.size, begun.blksize, begun.windowsize))
        carrier.pump()

    def _ended(
        self, request: ReadRequest, content: Content, peer: Peer, local: str, core: ReadTransfer
    ) -> None:
        del self._running[peer, local]
        self._per_address[peer.address] -= 1
        if not self._per_address[peer.address]:
            del self._per_address[peer.address]
        _close(content)
        self.counters["octets"] += core.acknowledged
        self.counters["resent"] += core.resent
        for event in core.events():
            self.counters[_RESULTS[type(event)]] += 1
            self.on_event(TransferEnded(peer, request.name, event))

    def _ignore(self, request: ReadRequest, peer: Peer, reason: str) -> None:
        self.counters["ignored"] += 1
        self.on_event(RequestIgnored(peer, request.name, reason))

    def _refuse(self, name: str, peer: Peer, local: str, code: ErrorCode, reason: str) -> None:
        self.counters["refused"] += 1
        with free_port(local) as sock, contextlib.suppress(OSError):
            sock.sendto(Error(code, reason).to_bytes(), peer)
        self.on_event(RequestRefused(peer, name, code, reason))


_RESULTS = {TransferCompleted: "completed", TransferAborted: "aborted", TransferFailed: "failed"}


_DESCRIPTORS = 4
"""Of a transfer: two sockets, its file, and one to spare for the rest of the process."""


def _allow_descriptors(wanted: int) -> None:
    """Let this process have so many descriptors, as far as it may: systemd's default is 1024 for a start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < more:
        resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))


def _request_socket(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        # A room switched on at once is a few hundred requests in one burst. By force, where we may: the usual
        # bound of 208 KiB holds some 250.
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 20)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def _close(content: Content) -> None:
    close = getattr(content, "close", None)
    if close is not None:
        close()
