"""The receiver's core: takes symbols in any order, hands out whole frames, and says again and again what it
lacks.

It starts anywhere in the stream. A chunk that went by with a few symbols missing is asked for symbol by
symbol; one with more than a tenth missing stays wanted and comes with a later turn of the sweep, so that a
bad receiver costs the others nothing. Symbols already here are kept as long as there is room. Whoever uses
the core answers each ChunkReceived with `got` or `reject`: no byte counts before its hash was right.
"""

import random
import struct
from dataclasses import dataclass
from typing import NamedTuple

from .assembly import Assembly, Partial
from .ranges import ChunkSet, encode_span
from .wire import (
    HEADER_SIZE,
    MAGIC,
    MAX_FRAME,
    REPORT_OVERHEAD,
    SINGLE_BLOCK,
    SYMBOL_SIZE,
    Announce,
    Data,
    Kind,
    ReceiverState,
    Repair,
    Report,
    SenderState,
    WireError,
    ahead,
    encode_repair,
    encode_report,
    kind_of,
    make_seal,
    parse_announce,
    parse_data,
    symbols_of,
)

_LONGEST_HINT = 1.0  # s


@dataclass(frozen=True)
class ReceiverSettings:
    """Times in seconds, sizes in bytes."""

    symbol_size: int = SYMBOL_SIZE
    report: float = 0.1  # shortest time between reports; the longest is twice that
    repair_limit: float = 0.10  # share of a chunk's symbols up to which they are asked for one by one
    repair_patience: float = 2.0  # then the chunk is wanted as a whole again
    passed: float = 0.25  # a chunk with no symbol for so long has gone by
    buffer: int = 64 << 20  # for unfinished chunks
    max_pending: int = 64  # frames handed out and not yet answered by got or reject
    max_rejects: int = 3  # of one chunk; then it is given up
    rejoin: float = 1.0
    silent: float = 3.0
    stalled: float = 10.0
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class ChunkReceived:
    """A whole stored frame, not yet verified; answer with `got` or `reject`."""

    index: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class ChunkLost:
    """This chunk will not come by multicast: fetch it otherwise."""

    index: int
    reason: str


class Rejoin(NamedTuple):
    """Nothing heard for a while: leave and join again, an IGMP-snooping switch may have forgotten us."""


class Silent(NamedTuple):
    """Nothing heard for so long that waiting alone would be a hang."""


class Resumed(NamedTuple):
    """Datagrams arrive again after Silent."""


class Stalled(NamedTuple):
    """Data comes, but too much of it gets lost here to finish any chunk."""


class Ended(NamedTuple):
    """The sender has stopped, or serves something else than we were told; the reason says which."""

    reason: str


Event = ChunkReceived | ChunkLost | Rejoin | Silent | Resumed | Stalled | Ended


@dataclass
class Counters:
    """Totals since the start."""

    received: int = 0  # datagrams of the session
    lost: int = 0  # by their sequence numbers, since the first one heard
    bytes_received: int = 0  # UDP payload
    bytes_frames: int = 0  # of frames handed out
    duplicates: int = 0  # symbols that were here already
    spoiled: int = 0  # wanted chunks that went by with too many symbols missing
    refused: int = 0  # wanted chunks not begun for want of room
    rejected: int = 0
    bad: int = 0  # datagrams that were not of this session or broken


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
    ) -> None:
        self.settings = settings or ReceiverSettings()
        self.counters = Counters()
        self.session, self.receiver_id, self.chunks = session, receiver_id, chunks
        self.scanning = False  # more wants may come: say so in reports instead of DONE
        self.silent = self.ended = False
        self.announce: Announce | None = None
        self._manifest = manifest
        self._foreign = False  # the session serves another image
        # Jitter keeps thirty machines that booted together from reporting in step.
        self._rng = rng or random.Random(receiver_id)
        self._seal = make_seal(self.settings.key)
        # Without a key the seal only finds accidents, which the hash of the chunk finds as well; to check it
        # costs a slow machine a fifth of its time. So it is checked once a hash has failed.
        self._strict = self.settings.key is not None
        self._wanted = ChunkSet(chunks)  # wanted, in whatever state
        self._asked = ChunkSet(chunks)  # of these, those reported as whole chunks
        self._welcome = ChunkSet(chunks)  # taken when they pass, never asked for
        self._pending: set[int] = set()
        self._assembly = Assembly(self.settings.symbol_size, self.settings.buffer)
        self._current = -1  # chunk of the newest symbol
        self._rejects: dict[int, int] = {}
        self._events: list[Event] = []
        self._highest: int | None = None
        self._leaving = False
        self._number = self._rng.getrandbits(32)
        self._span = 0
        self._hint = 0.0
        self._next_report = now
        self._heard = now
        self._next_rejoin = now + self.settings.rejoin
        self._progress = now
        self._spoiled_since = 0
        self._prefix = MAGIC << 48 | Kind.DATA << 40 | SINGLE_BLOCK << 32 | session
        self._segment = HEADER_SIZE + self.settings.symbol_size
        self._structs: dict[int, struct.Struct] = {}

    # -- what the user of the core says ----------------------------------------------------------------------

    def want(self, index: int, now: float) -> None:
        """Ask for this chunk. Raises IndexError outside the manifest."""
        if self._wanted.add(index):
            self._asked.add(index)
            self._welcome.discard(index)
            if self._wanted.count == 1:
                self._next_report = min(self._next_report, now)
                self._progress = now

    def welcome(self, index: int) -> None:
        """Take this chunk if it passes by, without asking for it (not scanned yet)."""
        if index not in self._wanted:
            self._welcome.add(index)

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

    def events(self) -> list[Event]:
        """What happened since the last call."""
        events, self._events = self._events, []
        return events

    # -- what comes in ---------------------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview, now: float, segment: int = 0) -> None:
        """One datagram, or (with `segment`) several of that size end to end, the last may be shorter."""
        size = len(data)
        if segment == self._segment and size >= 2 * segment:
            count, rest = divmod(size, segment)
            if self._run(data, count, now):
                if rest:
                    self._one(bytes(data[size - rest :]), now)
                return
        for start in range(0, size, segment or size or 1):
            self._one(bytes(data[start : start + (segment or size)]), now)

    def _run(self, data: bytes | memoryview, count: int, now: float) -> bool:
        """The fast path, without a Python step per datagram: consecutive symbols of one chunk, else False."""
        parser = self._structs.get(count)
        if parser is None:
            # prefix, chunk and length, symbol, hint, sequence, seal, payload
            form = f"QQHHI8s{self.settings.symbol_size}s"
            parser = self._structs[count] = struct.Struct(">" + form * count)
        fields = parser.unpack_from(data)
        which, first = fields[1], fields[2]
        if (
            self._strict
            or fields[0::7] != (self._prefix,) * count
            or fields[1::7] != (which,) * count
            or fields[2::7] != tuple(range(first, first + count))
        ):
            return False
        chunk, length = which >> 32, which & 0xFFFFFFFF
        symbols = symbols_of(length, self.settings.symbol_size)
        if chunk >= self.chunks or not 0 < length <= MAX_FRAME or first + count > symbols:
            return False
        partial = self._assembly.get(chunk)
        if partial is not None and partial.length != length:
            return False
        self._hear(now, fields[4], fields[-3], count, fields[3])
        self.counters.bytes_received += count * self._segment
        partial = self._partial_of(chunk, length, now)
        if partial is None:
            return True
        self.counters.duplicates += count - partial.add(first, fields[6::7])
        if not partial.missing:
            self._complete(chunk, partial, now)
        return True

    def _one(self, datagram: bytes, now: float) -> None:
        try:
            kind = kind_of(datagram, self.session)
            if kind is Kind.DATA:
                data = parse_data(
                    datagram, self.session, self.settings.symbol_size, self._seal if self._strict else None
                )
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
            parse_data(datagram, self.session, self.settings.symbol_size, self._seal)
            self._spoil(data.chunk)
        self._hear(now, data.sequence, data.sequence, 1, data.hint)
        partial = self._partial_of(data.chunk, data.length, now)
        if partial is None:
            return
        self.counters.duplicates += 1 - partial.add(data.symbol, (data.payload,))
        if not partial.missing:
            self._complete(data.chunk, partial, now)

    def _announced(self, announce: Announce, now: float) -> None:
        self._hear(now, announce.sequence, announce.sequence, 1, announce.hint)
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

    def _hear(self, now: float, first: int, last: int, count: int, hint: int) -> None:
        self.counters.received += count
        self._heard = now
        self._next_rejoin = now + self.settings.rejoin
        # Unsealed bits may have flipped: whoever is silent for 3 s is forgotten by the sender.
        self._hint = min(hint / 1000, _LONGEST_HINT)
        if self.silent:
            self.silent = False
            self._events.append(Resumed())
        step = 1 if self._highest is None else ahead(first, self._highest)
        if -1024 < step <= 0:  # overtaken on the way: it was counted as lost
            self.counters.lost = max(0, self.counters.lost - count)
            return
        # A step beyond belief is a sender that was started again, not four million lost datagrams.
        gap = step - 1 if 0 < step < 1 << 22 else 0
        self.counters.lost += gap + max(0, ahead(last, first) + 1 - count)
        self._highest = last

    # -- unfinished chunks -----------------------------------------------------------------------------------

    def _partial_of(self, chunk: int, length: int, now: float) -> Partial | None:
        """Where this chunk's symbols go; None if it is not wanted or there is no room."""
        if chunk != self._current:
            self._pass(self._current, now)
            self._current = chunk
        partial = self._assembly.get(chunk)
        if partial is None:
            if self._foreign or (chunk not in self._wanted and chunk not in self._welcome):
                return None
            if len(self._pending) < self.settings.max_pending:
                partial, evicted = self._assembly.open(chunk, length)
                for other in evicted:
                    self._spoil(other)
            if partial is None:
                self.counters.refused += 1
                return None
        partial.touched = now
        return partial

    def _spoil(self, chunk: int) -> None:
        """Nothing is left of this chunk: if it is wanted, then as a whole."""
        self._assembly.close(chunk)
        if chunk in self._wanted:
            self._asked.add(chunk)

    def _pass(self, chunk: int, now: float) -> None:
        """The stream went on to another chunk: ask for what is missing of this one, if it is little."""
        partial = self._assembly.get(chunk)
        if partial is None or partial.repair_since is not None:
            return
        if chunk not in self._wanted:
            self._spoil(chunk)
        elif partial.missing <= max(4, len(partial.parts) * self.settings.repair_limit):
            partial.repair_since = now
            self._asked.discard(chunk)
        else:
            self.counters.spoiled += 1
            self._spoiled_since += 1

    def _complete(self, chunk: int, partial: Partial, now: float) -> None:
        frame = partial.frame()
        self._drop(chunk)
        self._pending.add(chunk)
        self.counters.bytes_frames += len(frame)
        self._progress, self._spoiled_since = now, 0
        self._events.append(ChunkReceived(chunk, frame))
        if not self._wanted.count:
            self._next_report = min(self._next_report, now)

    def _drop(self, index: int) -> None:
        self._wanted.discard(index)
        self._asked.discard(index)
        self._welcome.discard(index)
        self._assembly.close(index)

    def _lose(self, index: int, reason: str) -> None:
        self._drop(index)
        self._events.append(ChunkLost(index, reason))

    # -- time ------------------------------------------------------------------------------------------------

    def next_timer(self) -> float:
        """When to call `handle_timer` and `datagrams_to_send` next, if nothing comes in before."""
        when = min(self._next_report, self._next_rejoin)
        return when if self.silent else min(when, self._heard + self.settings.silent)

    def handle_timer(self, now: float) -> None:
        """Silence, stalls, and repairs that did not come."""
        if not self.silent and now >= self._heard + self.settings.silent:
            self.silent = True
            self._events.append(Silent())
        if now >= self._next_rejoin:
            # Every second until Silent, then every five to ten: a switch may come back, a storm of joins
            # helps nobody.
            again = self._rng.uniform(5, 10) if self.silent else self.settings.rejoin
            self._next_rejoin = now + again
            self._events.append(Rejoin())
        current = self._assembly.get(self._current)
        if current is not None and now - current.touched >= self.settings.passed:
            self._pass(self._current, now)
            self._current = -1
        for chunk, partial in self._assembly.partials.items():
            if (
                partial.repair_since is not None
                and now - partial.repair_since >= self.settings.repair_patience
            ):
                partial.repair_since = None
                self._asked.add(chunk)
        if self._spoiled_since >= 8 and now - self._progress >= self.settings.stalled:
            self._events.append(Stalled())
            self._progress, self._spoiled_since = now, 0

    def datagrams_to_send(self, now: float, most: int = 8) -> list[bytes]:
        """The reports that are due: at most `most` datagrams, each the truth for its span of chunks."""
        if now < self._next_report and not self._leaving:
            return []
        shortest = max(self.settings.report, self._hint)
        state = self.state
        wait = self._rng.uniform(shortest, 2 * shortest) if state is not ReceiverState.DONE else 1.0
        self._next_report = now + wait
        repairs = self._repairs()
        datagrams = []
        while True:
            chosen, room = [], HEADER_SIZE + self.settings.symbol_size - REPORT_OVERHEAD
            while repairs and room - len(encode_repair(repairs[-1])) >= 64:
                room -= len(encode_repair(repairs[-1]))
                chosen.append(repairs.pop())
            count, encoding, wants = encode_span(self._asked, self._span, room)
            report = Report(
                self.session, self.receiver_id, state, self._highest or 0, self._number,
                self.counters.received, self.counters.lost, self._wanted.count, self.backlog,
                self._span, count, 0, tuple(chosen),
            )  # fmt: skip
            datagrams.append(encode_report(report, encoding, wants, self._seal))
            self._number = self._number + 1 & 0xFFFFFFFF
            # A want set too long for `most` datagrams is told in turns; each report goes on where the last
            # one ended.
            self._span += count
            if self._span >= self.chunks:
                self._span = 0
                if not repairs:
                    break
            if len(datagrams) >= most:
                break
        return datagrams

    def _repairs(self) -> list[Repair]:
        """What is asked for symbol by symbol, the longest waiting last."""
        waiting = [(c, p) for c, p in self._assembly.partials.items() if p.repair_since is not None]
        return [Repair(chunk, partial.missing_bits()) for chunk, partial in reversed(waiting)]
