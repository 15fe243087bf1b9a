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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tftp.packet import (
    BLKSIZE_MAX,
    BLKSIZE_MIN,
    DEFAULT_BLKSIZE,
    Ack,
    Data,
    Error,
    ErrorCode,
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

HEADERS = 20 + 8 + 4
"""IPv4, UDP and TFTP headers, in octets: a block of MTU - 32 travels unfragmented."""


class Content(Protocol):
    """What is sent: `len()` octets, read by slices. `bytes` is one; `tftp.files.OpenFile` another.

    Reading a slice raises OSError if the octets can no longer be had.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a transfer goes along with its peer; times in seconds."""

    mtu: int = 1500
    """Path MTU to the peer in octets: many boot ROMs cannot put fragments together."""
    windowsize: int = 64
    """Largest window granted, in blocks; 64 is also what one UDP GSO call can carry."""
    timeout: float = 1.0
    """First wait for an acknowledgement when the peer asked for no other; doubles with each try."""
    timeout_max: float = 8.0
    """Longest wait between two tries."""
    timeout_option_max: int = 30
    """A timeout option above this is not granted: a dead peer must not hold a socket for minutes."""
    tries: int = 6
    """How often a window is sent before the peer counts as gone."""
    netascii_max: int = 16 << 20
    """Largest file converted to netascii, in octets; conversion happens in memory."""

    @property
    def blksize(self) -> int:
        """Largest block that fits the MTU, in octets, within RFC 2348's range."""
        return max(BLKSIZE_MIN, min(BLKSIZE_MAX, self.mtu - HEADERS))


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


TransferEvent: TypeAlias = TransferCompleted | TransferAborted | TransferFailed


def to_netascii(data: bytes) -> bytes:
    """Return `data` with line ends as CR LF and a bare CR as CR NUL (RFC 764 by way of RFC 1350 section
    1)."""
    return data.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


def agree(request: ReadRequest, size: int, limits: Limits) -> dict[str, tuple[str, int]]:
    """Return the options we grant: lower-case name → (the request's spelling, value).

    Only what was asked is answered, never with a larger number, and timeout only with the number asked: EDK2
    ends the transfer with ERROR 4 or 8 otherwise (`Mtftp4RrqOackValid`). A value that is no number in its
    RFC's range is left out, as if we did not know the option (RFC 2347).
    """
    granted: dict[str, tuple[str, int]] = {}
    for spelling, text in request.options:
        if not (text.isascii() and text.isdigit() and len(text) <= 20):
            continue
        value = int(text)
        match spelling.lower():
            case "blksize" if value >= BLKSIZE_MIN:
                granted["blksize"] = spelling, min(value, limits.blksize)
            case "tsize":
                granted["tsize"] = spelling, size
            case "timeout" if 1 <= value <= min(255, limits.timeout_option_max):
                granted["timeout"] = spelling, value
            case "windowsize" if 1 <= value <= 65535:
                granted["windowsize"] = spelling, min(value, limits.windowsize)
    return granted


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
    ) -> None:
        self._limits = limits or Limits()
        self._jitter = jitter
        self._request, self._started = request, now
        self._events: list[TransferEvent] = []
        self._farewell: list[bytes] = []
        self._deadline: float | None = None
        self._tries = 0
        self.finished = False
        self._base = 1  # oldest block not acknowledged
        self._next = 1  # first block of the window not sent yet
        self._sent_up_to = 0  # highest block ever sent
        self._excused = 0  # repeated ACKs that our own repeats explain
        self._resent = 0
        self._window_sent = now
        self._round_trip = float("inf")  # the shortest one seen, in seconds
        self.blksize, self.windowsize, self._blocks = DEFAULT_BLKSIZE, 1, 0
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
        self._blocks = (
            len(self._content) // self.blksize + 1
        )  # a last block shorter than blksize ends the file
        if granted:
            self._opening = OptionAck(tuple((s, str(v)) for s, v in granted.values())).to_bytes()
            self._opening_due = self._had_options = True

    @property
    def size(self) -> int:
        """Octets of the file as they travel (in netascii, after conversion)."""
        return len(self._content)

    @property
    def acknowledged(self) -> int:
        """Octets the peer has acknowledged."""
        return min((self._base - 1) * self.blksize, self.size)

    def is_repeat(self, request: ReadRequest, now: float) -> bool:
        """Whether a request from the same peer and port is this one sent again, because our answer was late
        or lost.

        If the peer already answered us, it is so only for two seconds: loaders start at the same port after
        each reset, and a rebooted one must get a new OACK rather than blocks of a size it did not agree to.
        """
        if request != self._request:
            return False
        unanswered = self._base == 1 and (self._opening is not None or not self._had_options)
        return unanswered or now - self._started < 2.0

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a datagram from the peer's address and port. Garbage is ignored: the timer mends what it
        spoilt."""
        if self.finished:
            return
        try:
            packet = parse(datagram)
        except PacketError:
            return
        if isinstance(packet, Ack):
            self._acknowledge(packet.block, now)
        elif isinstance(packet, Error):
            normal = packet.code in (ErrorCode.NOT_DEFINED, ErrorCode.OPTION_REFUSED)
            self._end(TransferAborted(packet.code, packet.message, normal, self.acknowledged))
        elif isinstance(packet, Data | OptionAck):
            self.end_with_error(
                ErrorCode.ILLEGAL_OPERATION, "Only the server sends DATA and OACK when reading"
            )

    def datagrams_to_send(self, now: float) -> list[list[bytes]]:
        """Return batches to put on the wire, in order.

        Within a batch all datagrams have one length except that the last may be shorter, and their sum stays
        below 64 KiB, so a shell may hand a batch to the kernel as one UDP GSO train.
        """
        if self._farewell:
            farewell, self._farewell = self._farewell, []
            return [farewell]
        if self.finished:
            return []
        if self._opening is not None:
            if not self._opening_due:
                return []
            self._opening_due = False
            self._window_sent = now
            self._arm(now)
            return [[self._opening]]
        end = min(self._base + self.windowsize, self._blocks + 1)
        if self._next >= end:
            return []
        try:
            window = [self._data(block) for block in range(self._next, end)]
        except OSError as error:
            self._unreadable(error)
            return self.datagrams_to_send(now)
        self._resent += max(0, min(self._sent_up_to, end - 1) - self._next + 1)
        self._sent_up_to = max(self._sent_up_to, end - 1)
        self._window_sent = now
        self._next = end
        self._arm(now)
        per_batch = max(1, 65000 // (self.blksize + 4))
        return [window[i : i + per_batch] for i in range(0, len(window), per_batch)]

    def next_timer(self) -> float | None:
        """When to call `handle_timer`, or None when nothing is awaited."""
        return self._deadline

    def handle_timer(self, now: float) -> None:
        """Send again what was not acknowledged in time, or give up after `Limits.tries`."""
        if self.finished or self._deadline is None or now < self._deadline:
            return
        if self._tries >= self._limits.tries:
            what = "the options" if self._opening is not None else f"block {self._base} of {self._blocks}"
            reason = f"The peer did not acknowledge {what} in {self._tries} tries."
            # Say so, in case only the return path is broken (RFC 1350 section 7 lets a lone ERROR be lost).
            self._farewell = [Error(ErrorCode.NOT_DEFINED, "No acknowledgement; giving up").to_bytes()]
            self._end(TransferFailed(reason, self.acknowledged))
            return
        if self._opening is not None:
            self._opening_due = True
            self._deadline = None
        else:
            self._resend()

    def abandon(self, reason: str) -> None:
        """End the transfer without a word to the peer: its port is closed, or it has begun anew."""
        if not self.finished:
            self._end(TransferFailed(reason, self.acknowledged))

    def end_with_error(self, code: ErrorCode, message: str) -> None:
        """End the transfer from our side: one ERROR to the peer and a `TransferFailed` event."""
        if not self.finished:
            self._farewell = [Error(code, message).to_bytes()]
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
            self._measure(now)
            self._base += ahead
            self._next = max(self._next, self._base)
            self._tries = 0
            if self._base > self._blocks:
                self._end(TransferCompleted(self.size, now - self._started, self._resent))
                return
            # RFC 7440 section 4: an ACK inside the window means the block after it was lost; go on from
            # there.
            if self._next > self._base:
                self._resend()
        elif self.windowsize > 1 and self._next > self._base and self._tries < self._limits.tries:
            if now - self._window_sent < self._round_trip < float("inf"):
                return
            if self._excused:
                self._excused -= 1
            else:
                self._resend()

    def _measure(self, now: float) -> None:
        if self._tries == 1:  # sent once, so this ACK answers it and nothing older (Karn's rule)
            self._round_trip = min(self._round_trip, now - self._window_sent)

    def _resend(self) -> None:
        """Let the window start over at the oldest block not acknowledged."""
        self._excused = self._next - self._base  # each repeat may draw one more repeated ACK
        self._next = self._base
        self._deadline = None

    def _data(self, block: int) -> bytes:
        start = (block - 1) * self.blksize
        payload = self._content[start : start + self.blksize]
        if len(payload) != min(self.blksize, self.size - start):
            raise OSError("the file became shorter while it was read")
        return Data(block & 0xFFFF, payload).to_bytes()

    def _arm(self, now: float) -> None:
        if self._fixed_timeout is not None:  # RFC 2349: the peer's wish is the wait, not its start
            wait = self._fixed_timeout
        else:
            wait = min(self._limits.timeout * 2**self._tries, self._limits.timeout_max)
        self._tries += 1
        # A room that lost the same burst must not come back as the same burst.
        self._deadline = now + wait * (1 + 0.1 * self._jitter())

    def _unreadable(self, error: OSError) -> None:
        self.end_with_error(ErrorCode.NOT_DEFINED, f"The file cannot be read: {error.strerror or error}")

    def _end(self, event: TransferEvent) -> None:
        self.finished, self._deadline = True, None
        self._events.append(event)
