"""The receiver's core: takes symbols in any order, hands out whole frames, and says again and again what it
lacks.

It starts anywhere in the stream. For a chunk that went by with some symbols missing it asks for as many
parity symbols; one with more than a third of a block missing stays wanted and comes with a later turn of
the sweep. Symbols already here are kept as long as there is room. Whoever uses the core answers each
ChunkReceived with `got` or `reject`: no byte counts before its hash was right.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .asking import Asking
from .assembly import Assembly, Partial
from .cipher import CipherError, FrameCipher
from .events import (
    ChunkLost,
    ChunkReceived,
    Ended,
    ReceiverEvent,
    Rejoin,
    Resumed,
    Silent,
    Stalled,
)
from .fec import Codec
from .fec import codec as best_codec
from .fitness import Fitness
from .hearing import Hearing
from .reports import LONGEST_HINT, ReceiverState, Repair, Report, longest_wait
from .runs import Odd, Run, RunFinder
from .settings import ReceiverSettings
from .wire import (
    MAX_FRAME,
    Announce,
    Data,
    Kind,
    SenderState,
    WireError,
    kind_of,
    make_seal,
    parse_announce,
    parse_data,
    symbols_of,
)


@dataclass
class Counters:
    """Totals since the start."""

    bytes_received: int = 0  # UDP payload
    bytes_frames: int = 0  # of frames handed out
    duplicates: int = 0  # symbols that were here already, or parity that helped nothing
    rebuilt: int = 0  # chunks finished by parity
    spoiled: int = 0  # wanted chunks that went by with too many symbols missing
    refused: int = 0  # wanted chunks not begun for want of room
    rejected: int = 0
    bad: int = 0  # datagrams that were not of this session or broken


_POLLED = 0.01  # s


class Receiver:
    """One host in one session of `chunks` chunks. Times are seconds of a monotonic clock."""

    def __init__(
        self,
        session: int,
        receiver_id: int,
        chunks: int,
        now: float,
        settings: ReceiverSettings | None = None,
        manifest: bytes | None = None,
        rng: random.Random | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.settings = settings or ReceiverSettings()
        self.counters = Counters()
        self.fitness = Fitness()
        self.session, self.receiver_id, self.chunks = session, receiver_id, chunks
        self.scanning = False  # more wants may come: say so in reports instead of DONE
        self.ended = False
        self.announce: Announce | None = None
        self._manifest = manifest
        self._foreign = False  # the session serves another image
        # Jitter keeps thirty machines that booted together from reporting in step.
        self._rng = rng or random.Random(receiver_id)
        self._codec = codec or best_codec()
        self._seal = make_seal(self.settings.key)
        key = self.settings.key
        self._cipher = FrameCipher(key, session) if key and self.settings.encrypt else None
        # To check the seal of each datagram costs a slow machine a fifth of its time, with a key more than
        # all the rest. The hash of the chunk finds what is broken or forged as well: so seals are looked at
        # where a run of datagrams begins and ends (with a key), and each one once something was not right.
        self._keyed, self._strict = self.settings.key is not None, False
        self.hearing = Hearing(now, self.settings.rejoin, self.settings.silent, self._rng)
        self._asking = Asking(chunks, self.settings.symbol_size, self._seal)
        self._wanted = self._asking.wanted
        self._pending: set[int] = set()
        self._assembly = Assembly(self.settings.symbol_size, self.settings.buffer)
        self._current = -1  # chunk of the newest symbol
        self._rejects: dict[int, int] = {}
        self._events: list[ReceiverEvent] = []
        self._leaving = False
        self._number = self._rng.getrandbits(32)
        self._hint = 0.0
        self._next_report = now
        self._progress = now
        self._spoiled_since = 0
        self._finder = RunFinder(session, self.settings.symbol_size, self._seal)

    # -- what the user of the core says ----------------------------------------------------------------------

    def want(self, index: int, now: float) -> None:
        """Ask for this chunk. Raises IndexError outside the manifest."""
        if self._wanted.add(index):
            self._asking.asked.add(index)
            self._asking.welcome.discard(index)
            if self._wanted.count == 1:
                self._next_report = min(self._next_report, now)
                self._progress = now

    def welcome(self, index: int) -> None:
        """Take this chunk if it passes by, without asking for it (not scanned yet)."""
        if index not in self._wanted:
            self._asking.welcome.add(index)

    def got(self, index: int) -> None:
        """This chunk is here, verified, from wherever: want it no more."""
        self._pending.discard(index)
        self._drop(index)
        self._rejects.pop(index, None)

    def reject(self, index: int, now: float) -> None:
        """The frame handed out failed its hash: want it again, or give it up after `max_rejects`."""
        self._pending.discard(index)
        self.counters.rejected += 1
        self._strict = True
        times = self._rejects[index] = self._rejects.get(index, 0) + 1
        if times >= self.settings.max_rejects:
            self._lose(index, f"{times} copies received by multicast failed their hash")
        else:
            self.want(index, now)

    def leave(self) -> None:
        """From now on every report says LEAVING."""
        self._leaving = True

    @property
    def wanted(self) -> int:
        """Chunks still to come (not counting those handed out)."""
        return self._wanted.count

    @property
    def pending(self) -> int:
        """Frames handed out and not yet answered."""
        return len(self._pending)

    @property
    def silent(self) -> bool:
        """Nothing heard for some seconds."""
        return self.hearing.silent

    @property
    def backlog(self) -> int:
        """Permille of the buffers in use, the fuller of the two."""
        frames = len(self._pending) * 1000 // self.settings.max_pending
        return min(1000, max(frames, self._assembly.held * 1000 // self.settings.buffer))

    @property
    def state(self) -> ReceiverState:
        """What the reports say."""
        if self._leaving:
            return ReceiverState.LEAVING
        if self.scanning:
            return ReceiverState.SCANNING
        return ReceiverState.RECEIVING if self._wanted.count or self._pending else ReceiverState.DONE

    def events(self) -> list[ReceiverEvent]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    # -- what comes in ---------------------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview, now: float, segment: int = 0) -> None:
        """One datagram, or (with `segment`) several of that size end to end, the last may be shorter."""
        size, start = len(data), 0
        if segment == self._finder.segment:
            count = size // segment
            start = count * segment
            for found in self._finder.find(data, count, self._strict) if count else ():
                if isinstance(found, Odd):
                    if found.broken:
                        self.counters.bad += 1
                        self._strict = True
                    else:
                        self._one(found.datagram, now)
                elif self._sensible(found):
                    self._hear(now, found.first_sequence, found.last_sequence, len(found.payloads))
                    self._put(found.chunk, found.length, found.first, found.payloads, now)
                    self.counters.bytes_received += len(found.payloads) * segment
                else:
                    for place in range(found.place, found.place + len(found.payloads)):
                        self._one(bytes(data[place * segment : (place + 1) * segment]), now)
        while start < size:
            end = start + (segment or size)
            self._one(bytes(data[start:end]), now)
            start = end

    def _sensible(self, run: Run) -> bool:
        """Whether it can be what it says and contradicts nothing that is here."""
        if run.chunk >= self.chunks or not 0 < run.length <= MAX_FRAME:
            return False
        if run.first + len(run.payloads) > symbols_of(run.length, self.settings.symbol_size):
            return False
        partial = self._assembly.get(run.chunk)
        return partial is None or partial.length == run.length

    def _one(self, datagram: bytes, now: float) -> None:
        try:
            kind = kind_of(datagram, self.session)
            if kind in (Kind.DATA, Kind.PARITY):
                size = self.settings.symbol_size
                data = parse_data(datagram, self.session, size, self._seal, self._strict or self._keyed)
                if data.chunk >= self.chunks:
                    raise WireError("chunk beyond the manifest")
                self._data(data, datagram, now)
            elif kind is Kind.ANNOUNCE:
                self._announced(parse_announce(datagram, self.session, self._seal), now)
            self.counters.bytes_received += len(datagram)
        except WireError:
            self.counters.bad += 1

    def _data(self, data: Data, datagram: bytes, now: float) -> None:
        partial = self._assembly.get(data.chunk)
        if partial is not None and partial.length != data.length:
            # One of the two is broken: believe the seal.
            self._seal.check(datagram)
            self._spoil(data.chunk)
            partial = None
        self._hear(now, data.sequence, data.sequence, 1)
        if not data.parity:
            self._put(data.chunk, data.length, data.symbol, (data.payload,), now)
            return
        if partial is None:
            partial = self._open(data.chunk, data.length)
        if partial is not None:
            self.counters.duplicates += 1 - partial.add_parity(data.symbol, data.payload)
            partial.touched = now
            if partial.repair_since is not None:
                partial.repair_since = now
            if partial.complete:
                self._complete(data.chunk, partial, now)

    def _put(self, chunk: int, length: int, first: int, payloads: Sequence[bytes], now: float) -> None:
        """Consecutive source symbols of one chunk."""
        if chunk != self._current:
            self._pass(self._current, now)
            self._current = chunk
        partial = self._assembly.get(chunk) or self._open(chunk, length)
        if partial is None:
            return
        partial.touched = now
        self.counters.duplicates += len(payloads) - partial.add(first, payloads)
        if partial.complete:
            self._complete(chunk, partial, now)

    def _announced(self, announce: Announce, now: float) -> None:
        self._hear(now, announce.sequence, announce.sequence, 1)
        # A flipped bit must not silence us: whoever says nothing for 3 s is forgotten by the sender.
        self._hint = min(announce.hint / 1000, LONGEST_HINT)
        self.announce = announce
        reason = ""
        manifest = self._manifest or announce.manifest
        ours = (self.chunks, self.settings.symbol_size, manifest)
        self._foreign = (announce.chunks, announce.symbol_size, announce.manifest) != ours
        if self._foreign:
            reason = "the session serves another image than the task names"
        elif announce.state is SenderState.ENDED:
            reason = "the sender has stopped"
        if reason and not self.ended:
            self._events.append(Ended(reason))
        self.ended = bool(reason)
        for first, count in announce.unavailable:
            for index in range(first, first + count):
                if index in self._wanted:
                    self._lose(index, "the sender cannot read it from its store")
        if announce.poll:
            self._pass(self._current, now)
            self._current = -1
            if self._wanted.count:
                # Almost at once; thousands spread over as long as the sender needs to read them.
                soon = now + self._rng.uniform(0, _POLLED + max(0.0, self._hint - self.settings.report))
                self._next_report = min(self._next_report, soon)

    def _hear(self, now: float, first: int, last: int, count: int) -> None:
        if self.hearing.hear(first, last, count, now):
            self._events.append(Resumed())

    # -- unfinished chunks -----------------------------------------------------------------------------------

    def _open(self, chunk: int, length: int) -> Partial | None:
        """Begin this chunk; None if it is not wanted or there is no room."""
        if self._foreign or (chunk not in self._wanted and chunk not in self._asking.welcome):
            return None
        partial = None
        if len(self._pending) < self.settings.max_pending:
            partial, evicted = self._assembly.open(chunk, length)
            for other in evicted:
                self._spoil(other)
        if partial is None:
            self.counters.refused += 1
        return partial

    def _spoil(self, chunk: int) -> None:
        """Nothing is left of this chunk: if it is wanted, then as a whole."""
        self._assembly.close(chunk)
        self._asking.again(chunk)

    def _pass(self, chunk: int, now: float) -> None:
        """The stream went on to another chunk: ask for what is missing of this one, if it is little."""
        partial = self._assembly.get(chunk)
        if partial is None or partial.repair_since is not None:
            return
        if chunk not in self._wanted:
            self._spoil(chunk)
        elif partial.missing <= 4 or partial.worst_share() <= self.settings.repair_limit:
            partial.repair_since = now
            self._asking.asked.discard(chunk)
        else:
            self.counters.spoiled += 1
            self._spoiled_since += 1

    def _complete(self, chunk: int, partial: Partial, now: float) -> None:
        self.counters.rebuilt += partial.missing > 0
        frame = partial.frame(self._codec)
        self._drop(chunk)
        if self._cipher is not None:
            try:
                frame = self._cipher.open(chunk, frame)
            except CipherError:
                self.reject(chunk, now)
                return
        self._pending.add(chunk)
        self.counters.bytes_frames += len(frame)
        self._progress, self._spoiled_since = now, 0
        self._events.append(ChunkReceived(chunk, frame))
        if not self._wanted.count:
            self._next_report = min(self._next_report, now)

    def _drop(self, index: int) -> None:
        self._asking.drop(index)
        self._assembly.close(index)

    def _lose(self, index: int, reason: str) -> None:
        self._drop(index)
        self._events.append(ChunkLost(index, reason))

    # -- time ------------------------------------------------------------------------------------------------

    def next_timer(self) -> float:
        """When to call `handle_timer` and `datagrams_to_send` next, if nothing comes in before."""
        return min(self._next_report, self.hearing.next_timer())

    def handle_timer(self, now: float) -> None:
        """Silence, stalls, and repairs that did not come."""
        if self.hearing.fell_silent(now):
            self._events.append(Silent())
        if self.hearing.must_rejoin(now):
            self._events.append(Rejoin())
        current = self._assembly.get(self._current)
        if current is not None and now - current.touched >= self.settings.passed:
            self._pass(self._current, now)
            self._current = -1
        # In a room of thousands it may be seconds before it can ask at all.
        patience = max(self.settings.repair_patience, 3 * longest_wait(self._hint))
        for chunk, partial in self._assembly.partials.items():
            since = partial.repair_since
            if since is not None and now - since >= patience:
                partial.repair_since = None
                self._asking.asked.add(chunk)
        if self._spoiled_since >= 8 and now - self._progress >= self.settings.stalled:
            self._events.append(Stalled())
            self._progress, self._spoiled_since = now, 0

    def datagrams_to_send(self, now: float, most: int = 8) -> list[bytes]:
        """The reports that are due: at most `most` datagrams, each the truth for its span of chunks."""
        if now < self._next_report and not self._leaving:
            return []
        shortest = max(self.settings.report, self._hint)
        state, backlog, hearing = self.state, self.backlog, self.hearing
        wait = self._rng.uniform(shortest, 2 * shortest) if state is not ReceiverState.DONE else 1.0
        self._next_report = now + wait
        self.fitness.measure(hearing.received, hearing.lost, backlog, now)

        def report(first: int, count: int, repairs: tuple[Repair, ...]) -> Report:
            number, self._number = self._number, self._number + 1 & 0xFFFFFFFF
            return Report(
                self.session, self.receiver_id, number, hearing.highest or 0, hearing.received, hearing.lost,
                self._wanted.count, backlog, state, first, count, 0, repairs,
            )  # fmt: skip

        partials = self._assembly.partials.items()
        waiting = [(chunk, partial) for chunk, partial in partials if partial.repair_since is not None]
        return list(self._asking.reports(report, waiting, most))
