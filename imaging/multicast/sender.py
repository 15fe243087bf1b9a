"""The sender's core: repairs first, then a demand sweep over the union of what receivers want.

It walks the chunks in disk order, wraps round, sends each chunk that somebody wants, and idles when nobody
wants anything. It never needs to know who has what: after a restart the next reports rebuild the demand.
Nothing waits for a slow, dead or late receiver: a report older than three seconds counts no more, and a late
one makes demand behind the pointer. A chunk just sent is held out until reports in flight have had time to
arrive.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import NamedTuple

from .bursts import BurstMaker
from .cipher import FrameCipher
from .controller import RateController
from .cutting import ChunkUnavailable, Cutter, Work
from .events import ChunkSkipped, ClassChanged, ReceiverJoined, ReceiverLeft, SenderEvent, SweepStarted
from .fec import Codec, blocks_of
from .fec import codec as best_codec
from .fitness import SLOW_LOSS
from .pacer import WIRE_OVERHEAD, TokenBucket, burst_of
from .peers import Peer, Peers
from .ranges import bit_ranges, next_bit
from .repairs import Repairs
from .reports import ReceiverState, Report, longest_wait, parse_report
from .settings import SenderSettings
from .wire import (
    Announce,
    Kind,
    SenderState,
    WireError,
    encode_announce,
    make_seal,
)

_SLACK = 0.002, 0.2  # s; bounds of the bucket's slack
_POLLS = 8  # in a row, when there is nothing to send and somebody waits
_POLL = 0.03  # s between two of them
_IN_FLIGHT = 0.5  # s that a report may take


class Batch(NamedTuple):
    """Datagrams of equal size that go out in one send: `buffers` alternates header and symbol."""

    buffers: list[bytes | memoryview]
    size: int  # bytes of one datagram
    segments: int  # how many datagrams


@dataclass
class Counters:
    """Totals since the start."""

    chunks_sent: int = 0  # whole chunks, repeats included
    chunks_resent: int = 0  # of these, those that had been sent before
    parity_sent: int = 0  # datagrams
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
        codec: Codec | None = None,
    ) -> None:
        self.session, self.settings, self.chunks = session, settings, chunks
        self.counters = Counters()
        self.peers = Peers()
        self.unavailable = 0  # bit set
        self.bucket = TokenBucket(settings.rate)
        self.controller = RateController(settings.rate)
        self._manifest = manifest
        self._seal = make_seal(settings.key)
        cipher = FrameCipher(settings.key, session) if settings.key and settings.encrypt else None
        self._cutter = Cutter(frame, settings.symbol_size, codec or best_codec(), cipher)
        self._data = BurstMaker(Kind.DATA, session, self._seal)
        self._parity = BurstMaker(Kind.PARITY, session, self._seal)
        self._size = self._seal.header + settings.symbol_size  # of a datagram
        self._events: list[SenderEvent] = []
        self._first_report: float | None = None  # of somebody who wants something
        self._last_join = float("-inf")
        self._sweeping = self._ended = False
        self._polls, self._next_poll = 0, float("-inf")
        self._pointer = 0
        self._repairs = Repairs(settings.hold)
        self._ever = 0  # bit set of chunks sent at least once
        self._work: Work | None = None
        self._position = 0
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
        peers = self.peers
        if report.receiver not in peers:
            if report.state is ReceiverState.LEAVING or len(peers) >= self.settings.max_receivers:
                return
            peers[report.receiver] = Peer(address, now, number=report.number)
            self._events.append(ReceiverJoined(report.receiver, address))
            self._last_join = now
        elif peers.overtaken(report):
            return
        if report.state is ReceiverState.LEAVING:
            self._forget(report.receiver, "left")
            return
        peer = peers[report.receiver]
        peer.address = address
        if peers.hear(report, now):
            event = ClassChanged(report.receiver, address, peer.slow, peer.loss, peer.backlog)
            self._events.append(event)
        self._note_repairs(report, peer, now)
        if self._first_report is None and report.wanted:
            self._first_report = now

    def _note_repairs(self, report: Report, peer: Peer, now: float) -> None:
        # What one lacks beyond the others' lot is not to be paid by all: it will want the chunk again later.
        if peer.slow or (peer.loss > SLOW_LOSS and self.peers.usual_loss() < SLOW_LOSS / 2):
            return
        whole = self._work.chunk if self._work and not self._work.parity else -1
        for chunk, missing in report.repairs:
            if chunk != whole and not self.unavailable >> chunk & 1:
                self._repairs.ask(chunk, missing, report.highest, now)
                self._polls = 0

    def _forget(self, receiver: int, reason: str) -> None:
        peer = self.peers.forget(receiver)
        self._events.append(ReceiverLeft(receiver, peer.address, reason))

    # -- what goes out ---------------------------------------------------------------------------------------

    def datagrams_to_send(self, now: float, most: int = 64) -> list[Batch]:
        """What may go out now, at most `most` bursts. Calls the chunk source."""
        self._repairs.release(now)
        batches = []
        if now >= self._next_announce:
            batches.append(self._announce(now))
        if self._ended:
            return batches
        if not self._sweeping:
            self._maybe_start(now)
        while self._sweeping and len(batches) < most and self.bucket.ready(now):
            batch = self._burst(now)
            if batch is None:
                self.bucket.rest(now)
                if now >= self._poll_at(now):
                    self._polls += 1
                    self._next_poll = now + max(_POLL, self.hint() / 2000)
                    batches.append(self._announce(now, poll=True))
                break
            self._polls = 0
            batches.append(batch)
            self.bucket.take(batch.segments * (batch.size + WIRE_OVERHEAD), now)
        return batches

    def next_timer(self, now: float) -> float:
        """When to call `handle_timer` and `datagrams_to_send` again, if nothing comes in before."""
        when = self._next_announce
        if not self._sweeping:
            if self._first_report is not None:
                when = min(when, self._gathered_at())
        elif self._work or self._repairs or self._repairs.exhausted or self._next_wanted(now) >= 0:
            when = min(when, max(self.bucket.next_time(), now))
        else:
            when = min(when, max(self._poll_at(now), self.bucket.next_time()))
            if self._repairs.next_release is not None and self.wanted(now):
                when = min(when, self._repairs.next_release)
        return when

    def handle_timer(self, now: float) -> None:
        """Forget the silent; judge the rate."""
        if now < self._next_look:
            return
        self._next_look = now + 0.1
        # In a room of thousands a receiver reports so seldom that it must be waited for.
        wait = longest_wait(self.hint() / 1000)
        self._repairs.hold = max(self.settings.hold, wait + _IN_FLIGHT)
        for receiver in self.peers.silent(now, max(self.settings.forget, 2 * wait + _IN_FLIGHT)):
            self._forget(receiver, "silent")
        if self.settings.adapt and self._sweeping:
            congestions = self.controller.congestions
            self.controller.look(self.peers.values(), now)
            self.bucket.rate = self.controller.rate
            if self.controller.congestions != congestions:
                self.bucket.slack = max(self.bucket.slack / 2, _SLACK[0])
            elif self.bucket.behind > self.bucket.slack:
                # Kept from the processor for longer than that: more at once, as long as nothing gets lost.
                self.bucket.slack = min(self.bucket.slack * 1.5, _SLACK[1])
            self.bucket.behind = 0.0

    def set_rate(self, rate: float) -> None:
        """Another rate at most, in bits per second. Raises ValueError unless above 0."""
        self.bucket.rate = rate
        self.controller.limit(rate)
        self.bucket.rate = self.controller.rate

    def events(self) -> list[SenderEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    def end(self) -> Batch:
        """The last announce: receivers need not wait for more."""
        self._ended = True
        return self._announce(0.0)

    def wanted(self, now: float) -> int:
        """Chunks somebody wants that can be sent."""
        return self._demand(now).bit_count() + len(self._repairs)

    def state(self, now: float) -> SenderState:
        """What the announce says."""
        if self._ended:
            return SenderState.ENDED
        if not self._sweeping:
            return SenderState.GATHERING
        return SenderState.SENDING if self._work or self.wanted(now) else SenderState.IDLE

    # -- inside ----------------------------------------------------------------------------------------------

    def _maybe_start(self, now: float) -> None:
        if self._first_report is None:
            return
        expected = self.settings.expected
        full = expected is not None and len(self.peers) >= expected
        if full or now >= self._gathered_at():
            self._sweeping = True
            self.bucket.rest(now)
            self._events.append(SweepStarted(len(self.peers)))

    def _gathered_at(self) -> float:
        """When to begin without those who are not there: machines that boot one after the other would make
        the sweep wrap for each of them.
        """
        if self._first_report is None:
            return float("inf")
        gather = self.settings.gather
        return min(max(self._first_report, self._last_join) + gather, self._first_report + 3 * gather)

    def _demand(self, now: float) -> int:
        healthy, slow = self.peers.demand(now)
        return (healthy | slow) & ~self.unavailable

    def _awaited(self, now: float) -> bool:
        """Whether a receiver wants something, be it that we have just sent it."""
        return bool(self._demand(now) or any(peer.waiting for peer in self.peers.values()))

    def _poll_at(self, now: float) -> float:
        """There is nothing to send: when to ask the receivers for what is missing, instead of waiting."""
        return self._next_poll if self._polls < _POLLS and self._awaited(now) else float("inf")

    def _next_wanted(self, now: float) -> int:
        for wants in self.peers.demand(now):
            free = wants & ~self._repairs.held & ~self.unavailable
            if free:
                chunk = next_bit(free, self._pointer)
                return chunk if chunk >= 0 else next_bit(free, 0)
        return -1

    def _burst(self, now: float) -> Batch | None:
        """A few symbols: the chunk in hand to its end, then repairs, then the next of the sweep."""
        buffers: list[bytes | memoryview] = []
        room = burst_of(self.bucket.rate, self._size)
        while room:
            if self._work is None and not self._pick(now):
                break
            assert self._work is not None
            chunk, length, numbers, payloads, parity = self._work
            end = min(self._position + room, len(numbers))
            part = slice(self._position, end)
            make = self._parity if parity else self._data
            buffers += make.buffers(chunk, length, numbers[part], payloads[part], self._sequence)
            self._sequence = self._sequence + end - self._position & 0xFFFFFFFF
            room -= end - self._position
            self._position = end
            if end == len(numbers):
                self._work = None
                last = self._sequence - 1 & 0xFFFFFFFF
                if not parity:
                    self._repairs.whole_sent(chunk, end, blocks_of(end), last, now)
        if not buffers:
            return None
        count = len(buffers) // 2
        self.counters.datagrams += count
        self.counters.bytes_sent += count * self._size
        return Batch(buffers, self._size, count)

    def _pick(self, now: float) -> bool:
        """Take the next piece of work in hand; False if there is none."""
        self._position = 0
        while repair := self._repairs.take(self._shape, self._sequence, now):
            self._work = self._cut(*repair)
            if self._work is not None:
                self.counters.parity_sent += len(self._work.numbers)
                return True
        while True:
            exhausted = self._repairs.exhausted
            chunk = min(exhausted) if exhausted else self._next_wanted(now)
            if chunk < 0:
                return False
            if not exhausted:
                self._pointer = chunk + 1
            self._repairs.discard(chunk)
            self._work = self._cut(chunk)
            if self._work is not None:
                self.counters.chunks_sent += 1
                self.counters.chunks_resent += self._ever >> chunk & 1
                self._ever |= 1 << chunk
                return True

    def _cut(self, chunk: int, numbers: list[int] | None = None) -> Work | None:
        """The chunk, or parity of it, as symbols; None if the source cannot give it."""
        try:
            return self._cutter.whole(chunk) if numbers is None else self._cutter.parity(chunk, numbers)
        except ChunkUnavailable as error:
            self._skip(chunk, str(error))
            return None

    def _shape(self, chunk: int) -> tuple[int, int] | None:
        try:
            return self._cutter.shape(chunk)
        except ChunkUnavailable as error:
            self._skip(chunk, str(error))
            return None

    def _skip(self, chunk: int, reason: str) -> None:
        self.unavailable |= 1 << chunk
        # Told at once, so that receivers turn to HTTP for it instead of waiting.
        self._next_announce = float("-inf")
        self._events.append(ChunkSkipped(chunk, reason))

    def hint(self) -> int:
        """Milliseconds between two reports of one receiver: 100, more when there are very many."""
        return min(2000, max(100, 1000 * len(self.peers) // self.settings.reports_per_second))

    def _announce(self, now: float, poll: bool = False) -> Batch:
        self._next_announce = now + self.settings.announce
        announce = Announce(
            self.session, self.chunks, self.settings.symbol_size, self._sequence, self._manifest,
            self.state(now), poll, self.hint(), int(self.bucket.rate / 1000), self.wanted(now),
            len(self.peers), tuple(bit_ranges(self.unavailable)) if self.unavailable else (),
        )  # fmt: skip
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        self.counters.datagrams += 1
        datagram = encode_announce(announce, self._seal)
        self.counters.bytes_sent += len(datagram)
        return Batch([datagram], len(datagram), 1)
