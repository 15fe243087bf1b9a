"""One read transfer as a conversation without a socket: datagrams and time in, datagrams and events out.

`ReadTransfer` speaks RFC 1350 with the options blksize (RFC 2348), tsize and timeout (RFC 2349) and
windowsize (RFC 7440). Its verbs are those of every core here: `receive`, `datagrams_to_send`, `next_timer`,
`handle_timer`, `events`.

Two rules deserve a word, because careless servers get them wrong:

* *Sorcerer's Apprentice* (RFC 1123 section 4.2.3.1): a repeated ACK must not cause repeated DATA, or each
  late packet doubles everything after it for the rest of the transfer. With a window of one, only the timer
  resends.
* With a larger window a repeated ACK is also how a receiver says "the first block of your window is missing"
  (RFC 7440 section 4), and EDK2 says it once per block that came out of order. So a repeated ACK may resend
  the window, unless it arrived sooner after the window than any answer yet (then it is about an older one),
  and first each block that we ourselves sent twice excuses one repeated ACK.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tftp.cut import Content, Cut, Shelf, Train
from tftp.options import Limits, agree
from tftp.packet import (
    DEFAULT_BLKSIZE,
    Ack,
    Data,
    Error,
    ErrorCode,
    Opcode,
    OptionAck,
    PacketError,
    ReadRequest,
    parse,
)

__all__ = [
    "Content",
    "Limits",
    "ReadTransfer",
    "TransferAborted",
    "TransferCompleted",
    "TransferEvent",
    "TransferFailed",
    "to_netascii",
]


@dataclass(frozen=True, slots=True)
class TransferCompleted:
    """The peer acknowledged the last block."""

    size: int
    seconds: float
    resent: int
    """Blocks sent more than once."""


@dataclass(frozen=True, slots=True)
class TransferAborted:
    """The peer sent ERROR. `normal` is true for codes 0 and 8: firmware ends its tsize probe that way."""

    code: int
    message: str
    normal: bool
    acknowledged: int
    """Octets it had acknowledged."""


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """We gave up: the sentence says why."""

    reason: str
    acknowledged: int


_ACK_0 = Opcode.ACK << 16
_ack = struct.Struct("!I").pack

TransferEvent: TypeAlias = TransferCompleted | TransferAborted | TransferFailed


def to_netascii(data: bytes) -> bytes:
    """Return `data` with line ends as CR LF and a bare CR as CR NUL (RFC 764 by way of RFC 1350 section
    1)."""
    return data.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


class ReadTransfer:
    """The server's side of one RRQ.

    `now` is seconds on any clock that does not go back, the same for every call. Blocks are counted from 1
    without wrapping inside; on the wire block n is n modulo 65536 (after 65535 comes 0, as firmware expects).
    Ends with exactly one event; `finished` is true from then on.
    """

    def __init__(
        self,
        request: ReadRequest,
        content: Content,
        now: float,
        limits: Limits | None = None,
        jitter: Callable[[], float] = random.random,
        shelf: Shelf | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._jitter = jitter
        self._request, self._started = request, now
        self._events: list[TransferEvent] = []
        self._farewell = b""
        self._awaited: bytes | None = None  # the ACK of all that is on its way, if that was sent once
        self._deadline: float | None = None
        self._tries = 0
        self.finished = False
        self._base = 1  # oldest block not acknowledged
        self._next = 1  # first block of the window not sent yet
        self._sent_up_to = 0  # highest block ever sent
        self._excused = 0  # repeated ACKs that our own repeats explain
        self._resent = 0
        self._window_sent = now
        self._first_wait = 0.0
        self._round_trip = float("inf")  # the shortest one seen, in seconds
        self.blksize, self.windowsize = DEFAULT_BLKSIZE, 1
        self._stop = 1  # the block after the last
        self._opening: bytes | None = None  # the OACK, while it waits for ACK 0
        self._opening_due = False
        self._had_options = False
        self._fixed_timeout: float | None = None
        self._content: Content = content
        if request.mode == "netascii":
            if len(content) > self._limits.netascii_max:
                self.end_with_error(
                    ErrorCode.NOT_DEFINED, "The file is too large for netascii; use octet mode"
                )
                return
            try:
                self._content = to_netascii(content[0 : len(content)])
            except OSError as error:
                self._unreadable(error)
                return
        elif request.mode != "octet":
            self.end_with_error(
                ErrorCode.ILLEGAL_OPERATION, f"Mode {request.mode[:20]!r} is not served; use octet"
            )
            return
        granted = agree(request, len(self._content), self._limits)
        self.blksize = granted.get("blksize", ("", DEFAULT_BLKSIZE))[1]
        self.windowsize = granted.get("windowsize", ("", 1))[1]
        if "timeout" in granted:
            self._fixed_timeout = float(granted["timeout"][1])
        self._cut = Cut(self._content, self.blksize, shelf)
        self._stop = self._cut.blocks + 1
        if granted:
            self._opening = OptionAck(tuple((s, str(v)) for s, v in granted.values())).to_bytes()
            self._opening_due = self._had_options = True

    @property
    def size(self) -> int:
        """Octets of the file as they travel (in netascii, after conversion)."""
        return len(self._content)

    @property
    def segment(self) -> int:
        """Octets of a whole DATA packet."""
        return self.blksize + 4

    @property
    def acknowledged(self) -> int:
        """Octets the peer has acknowledged."""
        return min((self._base - 1) * self.blksize, self.size)

    @property
    def resent(self) -> int:
        """Blocks sent more than once."""
        return self._resent

    def is_repeat(self, request: ReadRequest, now: float) -> bool:
        """Whether a request from the same peer and port is this one sent again, because our answer was late
        or lost.

        If the peer already answered us, it is so only for two seconds: loaders start at the same port after
        each reset, and a rebooted one must get a new OACK rather than blocks of a size it did not agree to.
        """
        return request == self._request and (self._unheard or now - self._started < 2.0)

    def is_idle(self, now: float) -> bool:
        """Whether the peer has said nothing yet although it had the time of two tries."""
        return self._unheard and now - self._started > 2 * self._limits.timeout

    @property
    def _unheard(self) -> bool:
        return self._base == 1 and (self._opening is not None or not self._had_options)

    def answer(self, datagram: bytes, now: float) -> memoryview | None:
        """The short way, which nearly every datagram takes: if it acknowledges all that is on its way and was
        sent once, return the next window, one train of segments of `segment` octets. None: nothing has
        happened yet, `receive` it.
        """
        if datagram != self._awaited:
            return None
        first = self._next
        end = first + self.windowsize
        if end > self._stop:
            end = self._stop
        if first == end:
            return None
        try:
            octets = self._cut.window(first, end)
        except OSError:
            return None
        if octets is None:
            return None
        waited = now - self._window_sent
        if waited < self._round_trip:
            self._round_trip = waited
        self._base = first
        self._next = end
        self._sent_up_to = end - 1
        self._window_sent = now
        self._awaited = _ack(_ACK_0 | end - 1 & 0xFFFF)
        self._deadline = now + self._first_wait
        return octets

    def receive(self, datagram: bytes, now: float) -> bool:
        """Take a datagram from the peer's address and port. Garbage is ignored: the timer mends what it
        spoilt.

        True: what follows is clear, send it at once. False: read first what else has arrived, because a later
        ACK may make a resending needless.
        """
        if datagram == self._awaited:
            self._advance(self._next, now)
            return True
        if self.finished:
            return True
        try:
            packet = parse(datagram)
        except PacketError:
            return False
        if isinstance(packet, Ack):
            self._acknowledge(packet.block, now)
        elif isinstance(packet, Error):
            normal = packet.code in (ErrorCode.NOT_DEFINED, ErrorCode.OPTION_REFUSED)
            self._end(TransferAborted(packet.code, packet.message, normal, self.acknowledged))
        elif isinstance(packet, Data | OptionAck):
            self.end_with_error(
                ErrorCode.ILLEGAL_OPERATION, "Only the server sends DATA and OACK when reading"
            )
        return self.finished

    def datagrams_to_send(self, now: float) -> list[Train]:
        """Return what to put on the wire, in order; a shell may hand each train to the kernel as one UDP GSO
        call.
        """
        if self._farewell:
            farewell, self._farewell = self._farewell, b""
            return [Train(len(farewell), farewell)]
        if self.finished:
            return []
        if self._opening is not None:
            if not self._opening_due:
                return []
            self._opening_due = False
            self._window_sent = now
            self._arm(now)
            return [Train(len(self._opening), self._opening)]
        first, end = self._next, min(self._base + self.windowsize, self._stop)
        if first >= end:
            return []
        try:
            window = self._cut.trains(first, end)
        except OSError as error:
            self._unreadable(error)
            return self.datagrams_to_send(now)
        if first <= self._sent_up_to:
            self._resent += min(self._sent_up_to, end - 1) - first + 1
        self._sent_up_to = end - 1
        self._window_sent = now
        self._next = end
        self._arm(now)
        self._awaited = _ack(_ACK_0 | end - 1 & 0xFFFF) if self._tries == 1 else None
        return window

    def next_timer(self) -> float | None:
        """When to call `handle_timer`, or None when nothing is awaited."""
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """Send again what was not acknowledged in time, or give up after `Limits.tries`."""
        if self.finished or self._deadline is None or now < self._deadline:
            return
        if self._tries >= self._limits.tries:
            what = "the options" if self._opening is not None else f"block {self._base} of {self._stop - 1}"
            reason = f"The peer did not acknowledge {what} in {self._tries} tries."
            # Say so, in case only the return path is broken (RFC 1350 section 7 lets a lone ERROR be lost).
            self._farewell = Error(ErrorCode.NOT_DEFINED, "No acknowledgement; giving up").to_bytes()
            self._end(TransferFailed(reason, self.acknowledged))
            return
        if self._opening is not None:
            self._opening_due = True
            self._deadline = None
        else:
            self._resend()

    def lost(self) -> None:
        """What is on its way is known not to arrive: let it be sent again, within `Limits.tries`."""
        if not self.finished and 0 < self._tries < self._limits.tries:
            if self._opening is not None:
                self._opening_due = True
            else:
                self._resend()

    def abandon(self, reason: str) -> None:
        """End the transfer without a word to the peer: its port is closed, or it has begun anew."""
        if not self.finished:
            self._end(TransferFailed(reason, self.acknowledged))

    def end_with_error(self, code: ErrorCode, message: str) -> None:
        """End the transfer from our side: one ERROR to the peer and a `TransferFailed` event."""
        if not self.finished:
            self._farewell = Error(code, message).to_bytes()
            self._end(TransferFailed(f"Answered with error {int(code)}: {message}.", self.acknowledged))

    def events(self) -> list[TransferEvent]:
        """Return what happened since the last call."""
        happened, self._events = self._events, []
        return happened

    def _acknowledge(self, number: int, now: float) -> None:
        if self._opening is not None:
            if number == 0:  # anything else is not an answer to an OACK
                self._measure(now)
                self._opening, self._tries = None, 0
            return
        # The window is far smaller than 65536, so only one block in it can wear this number.
        ahead = (number - (self._base - 1)) & 0xFFFF
        if ahead > self._sent_up_to - (self._base - 1):
            return  # an old or an impossible block
        if ahead:
            self._advance(self._base + ahead, now)
            # RFC 7440 section 4: an ACK inside the window means the block after it was lost; go on from
            # there.
            if self._next > self._base and not self.finished:
                self._resend()
        elif self.windowsize > 1 and self._next > self._base and self._tries < self._limits.tries:
            if now - self._window_sent < self._round_trip < float("inf"):
                return
            if self._excused:
                self._excused -= 1
            else:
                self._resend()

    def _advance(self, base: int, now: float) -> None:
        """All before block `base` is acknowledged."""
        self._measure(now)
        self._base = base
        if self._next < base:
            self._next = base
        self._awaited = None
        self._tries = 0
        if base == self._stop:
            self._end(TransferCompleted(self.size, now - self._started, self._resent))

    def _measure(self, now: float) -> None:
        # Sent once, so this ACK answers it and nothing older (Karn's rule).
        if self._tries == 1 and now - self._window_sent < self._round_trip:
            self._round_trip = now - self._window_sent

    def _resend(self) -> None:
        """Let the window start over at the oldest block not acknowledged."""
        self._excused = self._next - self._base  # each repeat may draw one more repeated ACK
        self._next = self._base
        self._awaited = None
        self._deadline = None

    def _arm(self, now: float) -> None:
        if self._fixed_timeout is not None:  # RFC 2349: the peer's wish is the wait, not its start
            wait = self._fixed_timeout
        else:
            wait = min(self._limits.timeout * 2**self._tries, self._limits.timeout_max)
        # A room that lost the same burst must not come back as the same burst.
        wait *= 1 + 0.1 * self._jitter()
        if self._tries == 0:
            self._first_wait = wait
        self._tries += 1
        self._deadline = now + wait

    def _unreadable(self, error: OSError) -> None:
        self.end_with_error(ErrorCode.NOT_DEFINED, f"The file cannot be read: {error.strerror or error}")

    def _end(self, event: TransferEvent) -> None:
        self.finished, self._deadline, self._awaited = True, None, None
        self._events.append(event)
