"""What carries one transfer: its socket, its timer, and the way of its datagrams to the kernel.

The socket is connected to the peer: that spares the kernel a look at its routes and us a look at the source
for each datagram. What others send to the same port arrives at a second socket, which tells them so.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import socket
import struct
import time
from collections.abc import Callable

from tftp.packet import Error, ErrorCode
from tftp.poller import Poller
from tftp.transfer import ReadTransfer

__all__ = ["Carrier", "free_port"]

# Not in the socket module of Python 3.11; numbers of Linux's <linux/in.h> and <linux/udp.h>.
_IP_MTU_DISCOVER, _IP_PMTUDISC_WANT, _IP_PMTUDISC_DO, _IP_MTU = 10, 1, 2, 14
_UDP_SEGMENT = 103
_SHORTEST_SEGMENT = 512
"""Octets below which no train is built: a socket that cuts would cut our OACK and ERROR too."""
_NOW = socket.MSG_DONTWAIT
_A_MOMENT = struct.pack("ll", 0, 4000)
"""struct timeval: 4 ms, which the kernel makes one or two of its ticks."""
_PASSING = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENOBUFS, errno.EAGAIN, errno.EPERM}
"""A link that flaps, a full queue, a firewall that drops: lost like any other datagram, and mended so."""
_LONGEST = 400
"""Octets read of a datagram: what Python allocates at the least cost, and far more than an ACK has."""
_ERROR = b"\0\5"


class Carrier:
    """Runs a transfer with `peer` from a free port of `local` until it is finished; then calls `ended` once.

    `begin` makes the transfer, told the path MTU to the peer in octets; `stranger` is called for each
    datagram from somebody else. Raises OSError when no socket or route can be had, and what `begin` raises.
    """

    def __init__(
        self,
        peer: tuple[str, int],
        local: str,
        poller: Poller,
        begin: Callable[[int], ReadTransfer],
        ended: Callable[[ReadTransfer], None],
        stranger: Callable[[], None] = lambda: None,
    ) -> None:
        self._poller, self._ended, self._stranger = poller, ended, stranger
        self._loop = asyncio.get_running_loop()
        self._cuts: bool | None = None  # whether the kernel cuts trains for us; None: not tried yet
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        with contextlib.ExitStack() as opened:
            self._socket = opened.enter_context(free_port(local))
            self._socket.connect(peer)
            # By default trains leave without "don't fragment", and nobody would learn of a narrow path.
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _A_MOMENT)
            # Only now, so that the kernel gave us a port that nobody has.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._others = opened.enter_context(_socket())
            self._others.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._others.bind(self._socket.getsockname())
            self.core = begin(self._socket.getsockopt(socket.IPPROTO_IP, _IP_MTU))
            opened.pop_all()
        poller.add(self._socket, self._ready, self._stay)
        poller.add(self._others, self._answer_stranger)

    def _ready(self) -> None:
        try:
            datagram = self._socket.recv(_LONGEST, _NOW)
        except OSError as error:
            self._broken(error)
            return
        octets = self.core.answer(datagram, time.monotonic())
        if octets is None:
            self._take(datagram)
        elif not self._send(self.core.segment, octets):
            self.pump()

    def _stay(self, until: float) -> int:
        """See `Poller.add`. As `_ready`, in the fewest steps."""
        receive, answer, send = self._socket.recv, self.core.answer, self._socket.send
        segment, served, now = self.core.segment, 0, 0.0
        while now < until:
            try:
                datagram = receive(_LONGEST)
            except OSError as error:
                if error.errno != errno.EAGAIN:  # else SO_RCVTIMEO is over
                    self._broken(error)
                break
            now = time.monotonic()
            served += 1
            octets = answer(datagram, now)
            if octets is None:
                self._take(datagram)
                if self.core.finished:
                    break
            elif self._cuts or len(octets) <= segment:
                try:
                    send(octets, _NOW)
                except OSError:  # once more, in the way that looks why
                    if not self._send(segment, octets):
                        self.pump()
                        break
            elif not self._send(segment, octets):
                self.pump()
                break
        return served

    def _take(self, datagram: bytes) -> None:
        """What is no plain ACK: look at all that has come before saying anything."""
        try:
            for _ in range(16):
                if self.core.receive(datagram, time.monotonic()):
                    break
                datagram = self._socket.recv(_LONGEST, _NOW)
        except BlockingIOError:
            pass
        except OSError as error:
            self._broken(error)
            return
        self.pump()

    def _broken(self, error: OSError) -> None:
        """An ICMP error has come. That the peer's port is closed ends the transfer, unless its last ACK waits
        behind. A datagram too long for the path is sent again: the kernel knows the path better now. A way
        that is broken for a while is a loss like any other.
        """
        if error.errno == errno.ECONNREFUSED:
            with contextlib.suppress(OSError):
                while not self.core.finished:
                    self.core.receive(self._socket.recv(_LONGEST, _NOW), time.monotonic())
            self.core.abandon("The peer closed its port without a word.")
        elif error.errno == errno.EMSGSIZE:
            self.core.lost()
        self.pump()

    def _answer_stranger(self) -> None:
        """RFC 1350 section 4: tell the stranger, and let the transfer go on."""
        with contextlib.suppress(OSError):
            datagram, source = self._others.recvfrom(2048, _NOW)
            self._stranger()
            if not datagram.startswith(_ERROR):  # or two servers could tell each other so for ever
                error = Error(ErrorCode.UNKNOWN_TID, "Unknown transfer ID")
                self._others.sendto(error.to_bytes(), _NOW, source)

    def pump(self) -> None:
        """Send what is due, arm the timer, and see whether this was the end."""
        core, now = self.core, time.monotonic()
        for segment, octets in core.datagrams_to_send(now):
            if not self._send(segment, octets):
                break
        if core.finished:
            self._close(now)
            return
        deadline = core.next_timer()
        # An ACK moves the deadline back thousands of times a second: let the old timer fire and look again.
        if deadline is not None and deadline < self._rings_at:
            if self._timer is not None:
                self._timer.cancel()
            self._rings_at = deadline
            self._timer = self._loop.call_at(deadline, self._timer_fired)

    def cut(self, message: str) -> None:
        """End it from our side with an ERROR."""
        self.core.end_with_error(ErrorCode.NOT_DEFINED, message)
        self.pump()

    def drop(self, reason: str) -> None:
        """End it without a word to the peer, who has forgotten it."""
        self.core.abandon(reason)
        self.pump()

    def _timer_fired(self) -> None:
        self._timer, self._rings_at = None, math.inf
        self.core.handle_timer(time.monotonic())
        self.pump()

    def _send(self, segment: int, octets: bytes | memoryview) -> bool:
        """Hand a train to the kernel. False: lost, or the transfer is over (see `core.finished`)."""
        if len(octets) > segment and not self._kernel_cuts(segment):
            return all(
                self._send(segment, octets[start : start + segment])
                for start in range(0, len(octets), segment)
            )
        for attempt in (1, 2):
            try:
                self._socket.send(octets, _NOW)
                return True
            except OSError as error:
                if error.errno in _PASSING:
                    return False  # mended by the peer's ACK or by our timer
                if error.errno == errno.ECONNREFUSED:
                    self.core.abandon("The peer closed its port without a word.")
                    return False
                if error.errno == errno.EMSGSIZE:
                    # The path is narrower than the blocks agreed on: from now on in fragments. (Or it is the
                    # news of an earlier datagram that was too long; then the next line does no harm.)
                    self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_WANT)
                if self._cuts and len(octets) > segment:
                    # Not every card and kernel can (EIO), and no path narrower than a segment: one by one.
                    self._cuts = False
                    self._socket.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)
                    return self._send(segment, octets)
                if attempt == 2:
                    self.core.abandon(f"The network refused to send: {error.strerror}.")
        return False

    def _kernel_cuts(self, segment: int) -> bool:
        if self._cuts is None:
            self._cuts = segment >= _SHORTEST_SEGMENT
            if self._cuts:
                try:
                    self._socket.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, segment)
                except OSError:
                    self._cuts = False
        return self._cuts

    def _close(self, now: float) -> None:
        for segment, octets in self.core.datagrams_to_send(now):  # a last word
            self._send(segment, octets)
        if self._timer is not None:
            self._timer.cancel()
        for sock in (self._socket, self._others):
            self._poller.remove(sock)
            sock.close()
        self._ended(self.core)


def _socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def free_port(local: str) -> socket.socket:
    """A UDP socket on a new port of `local`, our address that the request reached. Raises OSError."""
    sock = _socket()
    try:
        sock.bind((local, 0))
    except OSError:
        sock.close()
        raise
    return sock
