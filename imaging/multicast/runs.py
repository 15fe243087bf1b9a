"""The receiver's fast path: many datagrams end to end, found to be runs of consecutive symbols.

With next to no Python per datagram; that is what lets a machine follow a gigabit a second.
"""

import struct
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from .wire import HEAD, KEYED_SEAL, Kind, Seal, prefix_of


class Run(NamedTuple):
    """Consecutive symbols of one chunk; of the rest, no more was checked than what `find` says."""

    place: int  # of the first of these datagrams
    chunk: int
    length: int
    first: int  # symbol
    payloads: tuple[bytes, ...]
    first_sequence: int
    last_sequence: int


class Odd(NamedTuple):
    """A datagram that is something else; `broken` if its seal was looked at and does not fit."""

    datagram: bytes
    broken: bool


class RunFinder:
    """For one session, whose DATA datagrams are `segment` bytes long."""

    def __init__(self, session: int, symbol_size: int, seal: Seal) -> None:
        self.segment = seal.header + symbol_size
        self._seal = seal
        self._keyed = seal.size == KEYED_SEAL
        prefix = int.from_bytes(prefix_of(Kind.DATA, session), "big")
        self._kind, self._session = prefix >> 32, prefix & 0xFFFFFFFF
        # kind, session; chunk and length in 2 + 4 bytes; symbol, sequence, seal, payload
        self._form = f"HIHIHI{seal.size}s{symbol_size}s"
        self._structs: dict[int, struct.Struct] = {}

    def find(self, data: bytes | memoryview, count: int, sealed: bool) -> Iterator[Run | Odd]:
        """The first `count` datagrams of `data` in order; `sealed`: believe no broken seal.

        Otherwise, in a session with a key, the seals at both ends of each run are checked, and of all that
        follow once one of them is broken.
        """
        parser = self._structs.get(count)
        if parser is None:
            parser = self._structs[count] = struct.Struct(">" + self._form * count)
        fields = parser.unpack_from(data)
        kinds, sessions, highs, lows, symbols, sequences, payloads = (
            fields[place::8] for place in (0, 1, 2, 3, 4, 5, 7)
        )
        broken: Container[int] = self._broken(data, range(count)) if sealed else ()
        kind, session = self._kind, self._session
        start = 0
        while start < count:
            high, low, first = highs[start], lows[start], symbols[start]
            end = start
            if not start and not broken and symbols[-1] == first + count - 1:
                # The usual case, without a turn of Python per datagram.
                alike = (
                    kinds.count(kind)
                    == sessions.count(session)
                    == highs.count(high)
                    == lows.count(low)
                    == count
                )
                if alike and symbols == tuple(range(first, first + count)):
                    end = count
            while (
                end < count
                and symbols[end] == first + end - start
                and lows[end] == low
                and highs[end] == high
                and kinds[end] == kind
                and sessions[end] == session
                and end not in broken
            ):
                end += 1
            if end > start and self._keyed and not sealed and self._broken(data, (start, end - 1)):
                broken, sealed = self._broken(data, range(start, count)), True
                continue
            if end > start:
                chunk, length = high << 8 | low >> 24, low & 0xFFFFFF
                found = payloads[start:end]
                yield Run(start, chunk, length, first, found, sequences[start], sequences[end - 1])
            else:
                end = start + 1
                datagram = bytes(data[start * self.segment : end * self.segment])
                yield Odd(datagram, start in broken)
            start = end

    def _broken(self, data: bytes | memoryview, places: Iterable[int]) -> set[int]:
        """Which of these have a broken seal."""
        broken = set()
        size, header, seal = self.segment, self._seal.header, self._seal.of
        for place in places:
            datagram = bytes(data[place * size : (place + 1) * size])
            if seal(datagram[:HEAD], memoryview(datagram)[header:]) != datagram[HEAD:header]:
                broken.add(place)
        return broken
