"""What to ask whom next: pure, one instance per deploy. State and ``now`` go in, one request comes out.

Rarest first among the chunks a neighbour has and we lack, few requests at a time to each, the least busy
neighbour first. What no neighbour has is asked of the server, several candidates at once, so that the server
can pick one it has given to nobody yet. Whoever fails is left alone for a while, whoever lies for good.
"""

from __future__ import annotations

import enum
import random
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from imaging.peers.news import News

Address = tuple[str, int]

PER_PEER = 2  # requests at a time to one neighbour
CANDIDATES = 64  # chunks offered to the server at once
SAMPLE = 24  # chunks among which the rarest is looked for
BUSY_SECONDS = 0.25
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
GIVE_UP = 5  # failures in a row after which a neighbour is not asked any more
NEWS_SECONDS = 0.5  # how old the news of a neighbour may grow
SERVER_PAUSE = 0.3  # after the server had nothing for us


class Result(enum.Enum):
    """How a request ended."""

    OK = "ok"
    BUSY = "busy"  # it has too many requests
    MISSING = "missing"  # it does not hold this chunk
    FAILED = "failed"  # refused, cut off, too slow
    LIED = "lied"  # what came was not the chunk
    USELESS = "useless"  # somebody else brought it meanwhile


@dataclass(frozen=True)
class Ask:
    """One request: a chunk of a neighbour, or (``peer`` None) any one of these of the server."""

    peer: Address | None
    indexes: tuple[int, ...]
    epoch: int = 0
    position: int = 0  # what we know of the neighbour's log


@dataclass
class Neighbour:
    """What we know of one neighbour."""

    address: Address
    bits: bytearray
    epoch: int = 0
    position: int = 0
    flying: int = 0
    failures: int = 0
    retry_at: float = 0.0
    news_at: float = float("-inf")
    banned: str = ""  # why it is not asked any more
    lied: bool = False
    listed: bool = True  # the server still names it
    chunks: int = 0  # that came from it

    def usable(self, now: float) -> bool:
        return self.listed and not self.banned and now >= self.retry_at

    def sound(self) -> bool:
        """Whether what it has may be waited for."""
        return self.listed and not self.banned and self.failures < 2


@dataclass
class Chooser:
    """See the module. Not thread-safe: its owner holds a lock."""

    count: int
    rng: random.Random
    server_connections: int = 1
    neighbours: dict[Address, Neighbour] = field(default_factory=dict)
    reports: list[tuple[Address, str]] = field(default_factory=list)
    """Neighbours that were given up, and why; whoever tells the server empties it."""

    def __post_init__(self) -> None:
        self._wanted = bytearray(-(-self.count // 8))
        self._flying: set[int] = set()
        self._offered: set[int] = set()
        self._copies = array("H", bytes(2 * self.count))
        self._server_flying = 0
        self._server_at = 0.0
        self._cursor = self.rng.randrange(self.count) if self.count else 0

    # -- what is wanted --------------------------------------------------------------------------------------

    def want(self, indexes: Iterable[int]) -> None:
        """These are wanted and nobody works on them."""
        for index in indexes:
            self._wanted[index >> 3] |= 1 << (index & 7)

    def settled(self, index: int) -> None:
        """This one is here, or somebody else has it in hand (it is wanted again if that comes to nothing)."""
        self._wanted[index >> 3] &= ~(1 << (index & 7))

    # -- neighbours ------------------------------------------------------------------------------------------

    def listed(self, addresses: Iterable[Address]) -> None:
        """The server names these; others are asked no more. One that is named again starts anew, unless it
        lied."""
        names = set(addresses)
        for address in names - set(self.neighbours):
            self.neighbours[address] = Neighbour(address, bytearray(-(-self.count // 8)))
        for address, peer in self.neighbours.items():
            if address in names and not peer.listed and not peer.lied:
                peer.banned, peer.failures, peer.retry_at = "", 0, 0.0
            peer.listed = address in names

    def heard(self, address: Address, news: News, now: float) -> None:
        """What a neighbour told of itself."""
        peer = self.neighbours.get(address)
        if peer is None:
            return
        peer.news_at = now
        if news.epoch != peer.epoch:
            self._forget(peer)
            peer.epoch = news.epoch
        elif news.position < peer.position:
            return  # two answers overtook each other
        if news.bitmap is not None:
            self._forget(peer)
            peer.bits[:] = news.bitmap
            for index in _indexes(int.from_bytes(news.bitmap, "little")):
                self._copies[index] += 1
        for index in news.indexes:
            if not _has(peer.bits, index):
                peer.bits[index >> 3] |= 1 << (index & 7)
                self._copies[index] += 1
        peer.position = news.position

    def _forget(self, peer: Neighbour) -> None:
        for index in _indexes(int.from_bytes(peer.bits, "little")):
            self._copies[index] -= 1
        peer.bits[:] = bytes(len(peer.bits))
        peer.position = 0

    def stale(self, now: float) -> list[Neighbour]:
        """Neighbours whose news are due."""
        return [
            peer
            for peer in self.neighbours.values()
            if peer.usable(now) and now - peer.news_at >= NEWS_SECONDS
        ]

    # -- requests --------------------------------------------------------------------------------------------

    def next(self, now: float) -> Ask | None:
        """The next request, to be answered by :meth:`ended`; None when there is nothing to ask now."""
        wanted = int.from_bytes(self._wanted, "little")
        for index in self._flying:
            wanted &= ~(1 << index)
        if not wanted:
            return None
        return self._of_server(wanted, now) or self._of_neighbour(wanted, now)

    def _of_server(self, wanted: int, now: float) -> Ask | None:
        if self._server_flying >= self.server_connections or now < self._server_at:
            return None
        for peer in self.neighbours.values():
            if peer.sound():
                wanted &= ~int.from_bytes(peer.bits, "little")
        # Which of its candidates a request gets is known when it ends: no two requests may share one.
        for index in self._offered:
            wanted &= ~(1 << index)
        share = -(-wanted.bit_count() // (self.server_connections - self._server_flying))
        candidates = _some(wanted, self._cursor, min(share, CANDIDATES))
        if not candidates:
            return None
        self._server_flying += 1
        self._offered.update(candidates)
        return Ask(None, tuple(candidates))

    def _of_neighbour(self, wanted: int, now: float) -> Ask | None:
        free = [peer for peer in self.neighbours.values() if peer.usable(now) and peer.flying < PER_PEER]
        self.rng.shuffle(free)
        for peer in sorted(free, key=lambda peer: peer.flying):
            useful = wanted & int.from_bytes(peer.bits, "little")
            sample = _some(useful, self.rng.randrange(self.count), SAMPLE)
            if sample:
                self.rng.shuffle(sample)
                index = min(sample, key=lambda index: self._copies[index])
                peer.flying += 1
                self._flying.add(index)
                return Ask(peer.address, (index,), peer.epoch, peer.position)
        return None

    def ended(self, ask: Ask, result: Result, now: float, why: str = "", index: int = -1) -> None:
        """How a request ended; ``index`` is the chunk that the server chose."""
        if ask.peer is None:
            self._server_flying -= 1
            self._offered.difference_update(ask.indexes)
            if result in (Result.OK, Result.USELESS):
                self._cursor = index + 1
            else:
                # BUSY: all of these are on their way to neighbours; FAILED: it is away.
                pause = SERVER_PAUSE if result is Result.BUSY else FIRST_PAUSE
                self._server_at = now + pause * self.rng.uniform(0.5, 1.5)
            return
        (chunk,) = ask.indexes
        self._flying.discard(chunk)
        peer = self.neighbours[ask.peer]
        peer.flying -= 1
        if result in (Result.OK, Result.USELESS):
            peer.failures = 0
            peer.chunks += result is Result.OK
        elif result is Result.BUSY:
            peer.retry_at = now + BUSY_SECONDS * self.rng.uniform(0.5, 1.5)
        elif result is Result.MISSING:
            if _has(peer.bits, chunk):
                peer.bits[chunk >> 3] &= ~(1 << (chunk & 7))
                self._copies[chunk] -= 1
        else:
            self.failed(peer, now, why or result.value, lied=result is Result.LIED)

    def failed(self, peer: Neighbour, now: float, why: str, *, lied: bool = False) -> None:
        """A neighbour did not answer, or answered wrongly."""
        peer.failures += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (peer.failures - 1))
        peer.retry_at = now + pause * self.rng.uniform(0.75, 1.25)
        if not peer.banned and (lied or peer.failures >= GIVE_UP):
            peer.banned, peer.lied = why, lied
            self.reports.append((peer.address, why))


def _has(bits: bytearray, index: int) -> bool:
    return bool(bits[index >> 3] >> (index & 7) & 1)


def _indexes(bits: int) -> list[int]:
    """The set bits of a number."""
    return [
        at * 8 + bit
        for at, byte in enumerate(bits.to_bytes(-(-bits.bit_length() // 8), "little"))
        if byte
        for bit in range(8)
        if byte >> bit & 1
    ]


def _some(bits: int, start: int, most: int) -> list[int]:
    """At most ``most`` set bits of a number, from the first one at or after ``start`` on, wrapping once."""
    found: list[int] = []
    for shift, part in ((start, bits >> start), (0, bits & ((1 << start) - 1))):
        while part and len(found) < most:
            skip = (part & -part).bit_length() - 1
            part >>= skip
            shift += skip
            window = part & ((1 << 256) - 1)
            for bit in range(window.bit_length()):
                if window >> bit & 1:
                    found.append(shift + bit)
                    if len(found) == most:
                        break
            part >>= 256
            shift += 256
    return found
