"""Files as they travel: cut into DATA packets, a stretch at a time, shared by everybody who reads them alike.

A room that boots reads the same few files at the same block size. So a stretch of packets, headers included,
is made once and kept in memory, and a window is a slice of it: nothing is copied or put together per reader.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol

from tftp.packet import Opcode

__all__ = ["Content", "Cut", "Shelf", "Train"]

_TRAIN = 65_000
"""Octets one UDP GSO call may carry: an IPv4 packet's 65,535 without its headers."""
_TRAIN_PACKETS = 64
"""Packets one UDP GSO call may carry (UDP_MAX_SEGMENTS of Linux before 6.9)."""

_ASKED = 8192
"""Stretches remembered as asked for once."""


class Content(Protocol):
    """What is sent: `len()` octets, read by slices. `bytes` is one; `tftp.files.OpenFile` another.

    Reading a slice raises OSError if the octets can no longer be had. An attribute `identity` (hashable) says
    that all contents with the same one hold the same octets.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> bytes: ...


class Train(NamedTuple):
    """Datagrams one behind the other: each `segment` octets long, only the last may be shorter."""

    segment: int
    octets: bytes | memoryview

    def datagrams(self) -> list[bytes]:
        """The datagrams one by one."""
        ends = range(0, len(self.octets), self.segment)
        return [bytes(self.octets[start : start + self.segment]) for start in ends]


class Shelf:
    """Stretches in memory, at most `bound` octets of them; what was not asked for longest goes first.

    Kept is what is asked for a second time: a large file with a single reader is not worth the memory, nor
    the time that the kernel takes to hand it out.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._asked: set[Hashable] = set()
        self.size = 0
        """Octets kept now."""

    def take(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """What is kept for `key`, made now if nothing is. Raises what `make` raises."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        made = make()
        if key not in self._asked:
            if len(self._asked) >= _ASKED:
                self._asked.clear()
            self._asked.add(key)
            return made
        self._asked.discard(key)
        self._kept[key] = made
        self.size += len(made)
        while self.size > self._bound:
            _, dropped = self._kept.popitem(last=False)
            self.size -= len(dropped)
        return made


class Cut:
    """`content` as blocks of `blksize` octets, counted from 1; a last one shorter than that ends the file.

    On the wire block n is n modulo 65536: after 65535 comes 0, as firmware expects. Reading raises OSError
    when the content fails.
    """

    def __init__(self, content: Content, blksize: int, shelf: Shelf | None = None) -> None:
        self._content, self._blksize, self._size = content, blksize, len(content)
        self._packet = blksize + 4
        # No longer than a train; a power of two like the windows people ask for, so that none lies in two.
        self._stretch = 1 << max(1, min(_TRAIN_PACKETS, _TRAIN // self._packet)).bit_length() - 1
        self._identity: Hashable = getattr(content, "identity", None)
        self._shelf = shelf if self._identity is not None else None
        self._held, self._held_from, self._held_to = memoryview(b""), 0, 0
        self.blocks = self._size // blksize + 1

    def window(self, first: int, end: int) -> memoryview | None:
        """The packets of blocks `first` to before `end` as one train; None if they lie in two stretches."""
        if not self._held_from <= first < self._held_to:
            self._hold(first)
        if end > self._held_to:
            return None
        start = first - self._held_from
        return self._held[start * self._packet : (end - self._held_from) * self._packet]

    def trains(self, first: int, end: int) -> list[Train]:
        """The packets of blocks `first` to before `end`, in order."""
        trains = []
        while first < end:
            stop = min(end, first - (first - 1) % self._stretch + self._stretch)
            octets = self.window(first, stop)
            assert octets is not None, "no further than the end of a stretch"
            trains.append(Train(self._packet, octets))
            first = stop
        return trains

    def _hold(self, block: int) -> None:
        """Have the stretch with this block in hand."""
        first = block - (block - 1) % self._stretch
        end = min(first + self._stretch, self.blocks + 1)
        if self._shelf is None:
            made = self._make(first, end)
        else:
            made = self._shelf.take((self._identity, self._blksize, first), lambda: self._make(first, end))
        self._held, self._held_from, self._held_to = memoryview(made), first, end

    def _make(self, first: int, end: int) -> bytes:
        size, start = self._blksize, (first - 1) * self._blksize
        stop = min((end - 1) * size, self._size)
        data = memoryview(self._content[start:stop])
        if len(data) != stop - start:
            raise OSError("the file became shorter while it was read")
        parts: list[bytes | memoryview] = []
        for block in range(first, end):
            parts.append(_header(Opcode.DATA, block & 0xFFFF))
            parts.append(data[(block - first) * size : (block - first + 1) * size])
        return b"".join(parts)


_header = struct.Struct("!HH").pack
