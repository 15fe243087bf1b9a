"""What carries one transfer: its socket, its timer, and the way of its datagrams to the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import socket
import sys
import time
from collections.abc import Callable

from tftp.packet import Error, ErrorCode
from tftp.poller import Poller
from tftp.transfer import ReadTransfer

__all__ = ["Carrier", "path_mtu", "transfer_socket"]

# Not in the socket module of Python 3.11; numbers of Linux's <linux/in.h> and <linux/udp.h>.
_IP_RECVERR, _IP_MTU = 11, 14
_UDP_SEGMENT = 103
_SHORTEST_SEGMENT = 512
"""Octets below which no train is built: a socket that cuts would cut our OACK and ERROR too."""
_ERROR = b"\0\5"
_PASSING = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENOBUFS,
    errno.EAGAIN,
    errno.EPERM,
    errno.ECONNREFUSED,
}
"""A link that flaps, a full queue, a firewall that drops: lost like any other datagram, and mended so."""


class Carrier:
    """Runs `core` with the peer at `target` until it is finished; then calls `ended` once.

    `stranger` is called for each datagram that came from somebody else. The socket is the carrier's from now
    on, and gets closed.
    """

    def __init__(
        self,
        core: ReadTransfer,
        sock: socket.socket,
        target: tuple[str, int],
        poller: Poller,
        ended: Callable[[], None],
        stranger: Callable[[], None] = lambda: None,
    ) -> None:
        self.core = core
        self._socket, self._target, self._poller = sock, tuple(target), poller
        self._ended, self._stranger = ended, stranger
        self._loop = asyncio.get_running_loop()
        self._cuts: bool | None = None  # whether the kernel cuts trains for us; None: not tried yet
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)  # tell us when the peer's port is closed
        poller.add(sock, self._ready)

    def _ready(self) -> None:
        receive, core = self._socket.recvfrom, self.core
        for turn in range(16):
            try:
                datagram, source = receive(2048)
            except OSError:
                # Readable without a datagram: the error queue alone woke us, and would go on waking us.
                if turn == 0:
                    self._read_errors()
                break
            if source != self._target:
                self._answer_stranger(datagram, source)
            elif core.receive(datagram, time.monotonic()):
                break
        self.pump()

    def _answer_stranger(self, datagram: bytes, source: tuple[str, int]) -> None:
        """RFC 1350 section 4: tell the stranger, and let the transfer go on."""
        self._stranger()
        if not datagram.startswith(_ERROR):  # or two servers could tell each other so for ever
            with contextlib.suppress(OSError):
                self._socket.sendto(Error(ErrorCode.UNKNOWN_TID, "Unknown transfer ID").to_bytes(), source)

    def _read_errors(self) -> None:
        """Empty the error queue. That our peer's port is closed ends the transfer; that a datagram was too
        long for the path, or its way is broken for now, is a loss that the timer mends.
        """
        while True:
            try:
                _data, ancillary, _flags, target = self._socket.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            refused = any(
                (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR)
                # struct sock_extended_err begins with the errno.
                and int.from_bytes(data[:4], sys.byteorder) == errno.ECONNREFUSED
                for level, kind, data in ancillary
            )
            if refused and target == self._target:
                self.core.abandon("The peer closed its port without a word.")

    def pump(self) -> None:
        """Send what is due, arm the timer, and see whether this was the end."""
        core, now = self.core, time.monotonic()
        for segment, octets in core.datagrams_to_send(now):
            if len(octets) <= segment:
                self._send(octets)
            else:
                self._send_train(segment, octets)
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

    def _send_train(self, segment: int, octets: bytes | memoryview) -> None:
        if self._cuts is None:
            self._cuts = segment >= _SHORTEST_SEGMENT and self._let_kernel_cut(segment)
        if self._cuts:
            try:
                self._socket.sendto(octets, self._target)
                return
            except OSError as error:
                if error.errno in _PASSING:
                    return
            # Not every card and kernel can (EIO), and no path that is narrower than a segment (EMSGSIZE,
            # EINVAL): one by one then.
            self._cuts = self._let_kernel_cut(0)
        for start in range(0, len(octets), segment):
            if not self._send(octets[start : start + segment]):
                return

    def _let_kernel_cut(self, segment: int) -> bool:
        """Make the kernel cut what we send into datagrams of this length; whether it does."""
        try:
            self._socket.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, segment)
        except OSError:
            return False
        return segment > 0

    def _send(self, datagram: bytes | memoryview) -> bool:
        """Whether the next one may follow."""
        try:
            self._socket.sendto(datagram, self._target)
        except OSError as error:
            if error.errno not in _PASSING:
                self.core.abandon(f"The network refused to send: {error.strerror}.")
            return False
        return True

    def _close(self, now: float) -> None:
        for _, octets in self.core.datagrams_to_send(now):  # a last word
            self._send(octets)
        if self._timer is not None:
            self._timer.cancel()
        self._poller.remove(self._socket)
        self._socket.close()
        self._ended()


def transfer_socket(local: str) -> socket.socket:
    """A UDP socket on a new port of `local`, our address that the request reached. Raises OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind((local, 0))
    except OSError:
        sock.close()
        raise
    return sock


def path_mtu(local: str, target: tuple[str, int]) -> int | None:
    """What the kernel knows now of the narrowest link on the way to `target`, in octets; None without a
    route."""
    with transfer_socket(local) as sock:
        try:
            sock.connect(target)
            return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError:
            return None
