"""The sender's core: repairs first, then a demand sweep over the union of what receivers want.

It walks the chunks in disk order, wraps round, sends each chunk that somebody wants, and idles when nobody
wants anything. It never needs to know who has what: after a restart the next reports rebuild the demand.
Nothing waits for a slow, dead or late receiver: a report older than three seconds counts no more, and a late
one makes demand behind the pointer. A chunk just sent is held out until reports in flight have had time to
arrive.
"""

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from .pacer import BURST_SEGMENTS, WIRE_OVERHEAD, TokenBucket
from .ranges import bit_ranges, next_bit
from .wire import (
    HEADER_SIZE,
    MAX_FRAME,
    SYMBOL_SIZE,
    Announce,
    ReceiverState,
    Report,
    SenderState,
    WireError,
    ahead,
    data_head,
    encode_announce,
    make_seal,
    parse_report,
    symbols_of,
)


class ChunkUnavailable(Exception):
    """Raised by a chunk source that cannot give a chunk; `str` is the reason."""


class Batch(NamedTuple):
    """Datagrams of equal size that go out in one send: `buffers` alternates header and symbol."""

    buffers: list[bytes | memoryview]
    size: int  # bytes of one datagram
    segments: int  # how many datagrams


@dataclass(frozen=True)
class SenderSettings:
    """Times in seconds, `rate` in bits per second on the wire (Ethernet framing included)."""

    rate: float = 950e6
    symbol_size: int = SYMBOL_SIZE
    gather: float = 10.0  # after the first report ...
    expected: int | None = None  # ... or until so many receivers have reported
    hold: float = 1.5  # a chunk just sent stays out of the sweep for so long
    forget: float = 3.0  # a receiver silent for so long counts no more
    # Half a second below the receivers' patience of 1 s, so that one lost announce makes nobody rejoin.
    announce: float = 0.4
    max_receivers: int = 4096
    reports_per_second: int = 2000  # what the sender is ready to read; spread over the receivers by the hint
    key: bytes | None = None


class ReceiverJoined(NamedTuple):
    """A receiver reported for the first time (or again after it was forgotten)."""

    receiver: int
    address: Hashable


class ReceiverLeft(NamedTuple):
    """A receiver counts no more; reason is `left` or `silent`."""

    receiver: int
    address: Hashable
    reason: str


class SweepStarted(NamedTuple):
    """The gather window is over."""

    receivers: int


class ChunkSkipped(NamedTuple):
    """The chunk source could not give this chunk; it is left out and announced as unavailable."""

    chunk: int
    reason: str


Event = ReceiverJoined | ReceiverLeft | SweepStarted | ChunkSkipped


@dataclass
class Peer:
    """What a receiver said last."""

    address: Hashable
    heard: float
    state: ReceiverState = ReceiverState.RECEIVING
    wants: int = 0
    wanted: int = 0
    received: int = 0
    lost: int = 0
    backlog: int = 0
    number: int = 0


@dataclass
class Counters:
    """Totals since the start."""

    chunks_sent: int = 0  # whole chunks, repeats included
    chunks_resent: int = 0  # of these, those that had been sent before
    symbols_repaired: int = 0
    datagrams: int = 0
    bytes_sent: int = 0  # UDP payload
    bad_reports: int = 0


class Sender:
    """One session. `frame(index)` gives a stored zstd frame or raises ChunkUnavailable."""

    def __init__(
        self,
        session: int,
        manifest: bytes,
        chunks: int,
        frame: Callable[[int], bytes],
        settings: SenderSettings,
    ) -> None:
        self.session = session
        self.settings = settings
        self.chunks = chunks
        self.counters = Counters()
        self.peers: dict[int, Peer] = {}
        self.unavailable = 0  # bit set
        self.bucket = TokenBucket(settings.rate)
        self._manifest = manifest
        self._source = frame
        self._seal = make_seal(settings.key)
        self._events: list[Event] = []
        self._first_report: float | None = None
        self._sweeping = False
        self._ended = False
        self._union = 0
        self._union_stale = False
        self._pointer = 0
        self._held = 0
        self._holds: deque[tuple[float, int]] = deque()
        self._last: dict[int, tuple[int, float]] = {}  # chunk -> sequence of its last symbol, end of its hold
        self._ever = 0  # bit set of chunks sent at least once
        self._repairs: dict[int, int] = {}  # chunk -> bit set of symbols
        self._current: tuple[int, memoryview, int, list[int]] | None = (
            None  # chunk, frame, length, symbols to go
        )
        self._position = 0
        self._cache: dict[int, tuple[memoryview, int]] = {}
        self._sequence = 0
        self._next_announce = self._next_look = float("-inf")

    # -- what comes in ---------------------------------------------------------------------------------------

    def receive(self, datagram: bytes, address: Hashable, now: float) -> None:
        """A datagram from the report socket; one that is no report of this session is counted and dropped."""
        try:
            report = parse_report(datagram, self.session, self.chunks, self._seal)
        except WireError:
            self.counters.bad_reports += 1
            return
        peer = self.peers.get(report.receiver)
        if peer is None:
            if report.state is ReceiverState.LEAVING or len(self.peers) >= self.settings.max_receivers:
                return
            peer = self.peers[report.receiver] = Peer(address, now, number=report.number)
            self._events.append(ReceiverJoined(report.receiver, address))
        elif -1024 < ahead(report.number, peer.number) < 0:
            return  # overtaken on the way by a newer one
        if report.state is ReceiverState.LEAVING:
            self._forget(report.receiver, "left")
            return
        peer.address, peer.heard, peer.state, peer.number = address, now, report.state, report.number
        peer.received, peer.lost, peer.backlog = report.received, report.lost, report.backlog
        peer.wanted = report.wanted
        span = ((1 << report.count) - 1) << report.first
        wants = peer.wants & ~span | report.wants << report.first
        if wants != peer.wants:
            peer.wants = wants
            self._union_stale = True
        self._note_repairs(report, now)
        if self._first_report is None and report.wanted:
            self._first_report = now

    def _note_repairs(self, report: Report, now: float) -> None:
        current = self._current[0] if self._current else -1
        for chunk, missing in report.repairs:
            if chunk == current or self.unavailable >> chunk & 1:
                continue
            last = self._last.get(chunk)
            # The receiver had not yet seen the end of our last sending of this chunk: what it misses may be
            # on the way. Should that very end be lost, announces still move its `highest` on; the time is the
            # second net.
            if last and ahead(report.highest, last[0]) < 0 and now < last[1]:
                continue
            self._repairs[chunk] = self._repairs.get(chunk, 0) | missing

    def _forget(self, receiver: int, reason: str) -> None:
        peer = self.peers.pop(receiver)
        self._union_stale = True
        self._events.append(ReceiverLeft(receiver, peer.address, reason))

    # -- what goes out ---------------------------------------------------------------------------------------

    def datagrams_to_send(self, now: float, most: int = 64) -> list[Batch]:
        """What may go out now, at most `most` bursts. Calls the chunk source."""
        self._release(now)
        batches = []
        if now >= self._next_announce:
            self._next_announce = now + self.settings.announce
            batches.append(self._announce(now))
        if self._ended:
            return batches
        if not self._sweeping:
            self._maybe_start(now)
        while self._sweeping and len(batches) < most and self.bucket.ready(now):
            batch = self._burst(now)
            if batch is None:
                self.bucket.rest(now)
                break
            batches.append(batch)
            self.bucket.take(batch.segments * (batch.size + WIRE_OVERHEAD), now)
        return batches

    def next_timer(self, now: float) -> float:
        """When to call `handle_timer` and `datagrams_to_send` again, if nothing comes in before."""
        when = self._next_announce
        if not self._sweeping:
            if self._first_report is not None:
                when = min(when, self._first_report + self.settings.gather)
        elif self._current or self._repairs or self._next_wanted() >= 0:
            when = min(when, max(self.bucket.next_time(), now))
        elif self._holds and self.wanted():
            when = min(when, self._holds[0][0])
        return when

    def handle_timer(self, now: float) -> None:
        """Forget the silent."""
        if now < self._next_look:
            return
        self._next_look = now + 0.1
        for receiver in [r for r, p in self.peers.items() if now - p.heard >= self.settings.forget]:
            self._forget(receiver, "silent")

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def end(self) -> Batch:
        """The last announce: receivers need not wait for more."""
        self._ended = True
        return self._announce(0.0)

    def wanted(self) -> int:
        """Chunks somebody wants that can be sent."""
        return self._demand().bit_count() + len(self._repairs)

    @property
    def state(self) -> SenderState:
        """What the announce says."""
        if self._ended:
            return SenderState.ENDED
        if not self._sweeping:
            return SenderState.GATHERING
        return SenderState.SENDING if self._current or self.wanted() else SenderState.IDLE

    # -- inside ----------------------------------------------------------------------------------------------

    def _maybe_start(self, now: float) -> None:
        if self._first_report is None:
            return
        expected = self.settings.expected
        full = expected is not None and len(self.peers) >= expected
        if full or now - self._first_report >= self.settings.gather:
            self._sweeping = True
            self.bucket.rest(now)
            self._events.append(SweepStarted(len(self.peers)))

    def _demand(self) -> int:
        if self._union_stale:
            union = 0
            for peer in self.peers.values():
                union |= peer.wants
            self._union = union & ~self.unavailable
            self._union_stale = False
        return self._union

    def _next_wanted(self) -> int:
        free = self._demand() & ~self._held
        if not free:
            return -1
        chunk = next_bit(free, self._pointer)
        return chunk if chunk >= 0 else next_bit(free, 0)

    def _release(self, now: float) -> None:
        while self._holds and self._holds[0][0] <= now:
            _, chunk = self._holds.popleft()
            # Sent again in the meantime: a later entry of the queue ends this hold.
            if chunk in self._last and self._last[chunk][1] <= now:
                del self._last[chunk]
                self._held &= ~(1 << chunk)

    def _burst(self, now: float) -> Batch | None:
        """Up to 16 symbols: the chunk in hand to its end, then repairs, then the next of the sweep."""
        buffers: list[bytes | memoryview] = []
        size, hint = self.settings.symbol_size, self._hint()
        room = BURST_SEGMENTS
        while room:
            if self._current is None and not self._pick(now):
                break
            assert self._current is not None
            chunk, frame, length, symbols = self._current
            for symbol in symbols[self._position : self._position + room]:
                head = data_head(self.session, chunk, length, symbol, hint, self._sequence)
                payload = frame[symbol * size : (symbol + 1) * size]
                buffers += (head + self._seal(head, payload), payload)
                self._sequence = self._sequence + 1 & 0xFFFFFFFF
                room -= 1
                self._position += 1
            if self._position == len(symbols):
                self._current = None
                until = now + self.settings.hold
                self._last[chunk] = (self._sequence - 1 & 0xFFFFFFFF, until)
                self._holds.append((until, chunk))
                self._held |= 1 << chunk
        if not buffers:
            return None
        count = len(buffers) // 2
        self.counters.datagrams += count
        self.counters.bytes_sent += count * (HEADER_SIZE + size)
        return Batch(buffers, HEADER_SIZE + size, count)

    def _pick(self, now: float) -> bool:
        """Take the next piece of work in hand; False if there is none."""
        while self._repairs:
            chunk = next(iter(self._repairs))
            missing = self._repairs.pop(chunk)
            frame = self._frame(chunk)
            if frame is None:
                continue
            missing &= (1 << symbols_of(frame[1], self.settings.symbol_size)) - 1
            symbols = [s for first, run in bit_ranges(missing) for s in range(first, first + run)]
            if symbols:
                self.counters.symbols_repaired += len(symbols)
                self._current, self._position = (chunk, *frame, symbols), 0
                return True
        while (chunk := self._next_wanted()) >= 0:
            self._pointer = chunk + 1
            frame = self._frame(chunk)
            if frame is None:
                continue
            self._repairs.pop(chunk, None)
            self.counters.chunks_sent += 1
            self.counters.chunks_resent += self._ever >> chunk & 1
            self._ever |= 1 << chunk
            symbols = list(range(symbols_of(frame[1], self.settings.symbol_size)))
            self._current, self._position = (chunk, *frame, symbols), 0
            return True
        return False

    def _frame(self, chunk: int) -> tuple[memoryview, int] | None:
        """The stored frame, padded to whole symbols, and its true length."""
        if chunk in self._cache:
            return self._cache[chunk]
        try:
            frame = self._source(chunk)
            if not 0 < len(frame) <= MAX_FRAME:
                raise ChunkUnavailable(f"a stored frame of {len(frame)} bytes cannot be sent")
        except ChunkUnavailable as error:
            self.unavailable |= 1 << chunk
            self._union_stale = True
            # Told at once, so that receivers turn to HTTP for it instead of waiting.
            self._next_announce = float("-inf")
            self._events.append(ChunkSkipped(chunk, str(error)))
            return None
        length = len(frame)
        padding = -length % self.settings.symbol_size
        entry = (memoryview(frame + bytes(padding)), length)
        # Repairs come within a fraction of a second: the last few dozen chunks serve nearly all of them.
        if len(self._cache) >= 48:
            del self._cache[next(iter(self._cache))]
        self._cache[chunk] = entry
        return entry

    def _hint(self) -> int:
        """Milliseconds between two reports of one receiver: 100, more when there are very many."""
        return min(2000, max(100, 1000 * len(self.peers) // self.settings.reports_per_second))

    def _announce(self, now: float) -> Batch:
        announce = Announce(
            self.session, self.chunks, self.settings.symbol_size, self._hint(), self._sequence,
            self._manifest, self.state, int(self.bucket.rate / 1000), self.wanted(), len(self.peers),
            tuple(bit_ranges(self.unavailable)) if self.unavailable else (),
        )  # fmt: skip
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        self.counters.datagrams += 1
        datagram = encode_announce(announce, self._seal)
        self.counters.bytes_sent += len(datagram)
        return Batch([datagram], len(datagram), 1)
