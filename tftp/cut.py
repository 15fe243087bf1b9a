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

_STRETCH = 96 << 10
"""Octets of data in a stretch, about; also what a transfer holds on to at most."""
_TRAIN = 65_000
"""Octets one UDP GSO call may carry: an IPv4 packet's 65,535 without its headers."""
_TRAIN_PACKETS = 64
"""Packets one UDP GSO call may carry (UDP_MAX_SEGMENTS of Linux before 6.9)."""


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
    """Stretches in memory, at most `bound` octets of them; what was not asked for longest goes first."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self.size = 0
        """Octets kept now."""

    def take(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """What is kept for `key`, made now if nothing is. Raises what `make` raises."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        made = self._kept[key] = make()
        self.size += len(made)
        while self.size > self._bound:
            _, dropped = self._kept.popitem(last=False)
            self.size -= len(dropped)
        return made


class Cut:
    """`content` as blocks of `blksize` octets, counted from 1; a last one shorter than that ends the file.

    On the wire block n is n modulo 65536: after 65535 comes 0, as firmware expects.
    """

    def __init__(self, content: Content, blksize: int, shelf: Shelf | None = None) -> None:
        self._content, self._blksize, self._size = content, blksize, len(content)
        self._packet = blksize + 4
        self._per_train = max(1, min(_TRAIN_PACKETS, _TRAIN // self._packet))
        # A power of two, like the windows people ask for: no window then lies in two stretches.
        self._shift = max(1, min(256, _STRETCH // blksize)).bit_length() - 1
        self._mask = (1 << self._shift) - 1
        self._identity: Hashable = getattr(content, "identity", None)
        self._shelf = shelf if self._identity is not None else None
        self._held, self._held_number = memoryview(b""), -1
        self.blocks = self._size // blksize + 1

    def trains(self, first: int, count: int) -> list[Train]:
        """The packets of `count` blocks from `first` on, in order. Raises OSError when the content fails."""
        offset = first - 1 & self._mask
        if count > self._per_train or offset + count > self._mask + 1:
            # More than one call can carry, or the end of one stretch and the beginning of the next.
            some = min(count, self._per_train, self._mask + 1 - offset)
            return self.trains(first, some) + (
                self.trains(first + some, count - some) if count > some else []
            )
        number = first - 1 >> self._shift
        if number != self._held_number:
            self._hold(number)
        start = offset * self._packet
        return [Train(self._packet, self._held[start : start + count * self._packet])]

    def _hold(self, number: int) -> None:
        if self._shelf is None:
            made = self._make(number)
        else:
            key = (self._identity, self._blksize, number)
            made = self._shelf.take(key, lambda: self._make(number))
        self._held, self._held_number = memoryview(made), number

    def _make(self, number: int) -> bytes:
        first = number << self._shift
        last = min(first + self._mask + 1, self.blocks)
        start, size = first * self._blksize, self._blksize
        stop = min(last * size, self._size)
        data = self._content[start:stop]
        if len(data) != stop - start:
            raise OSError("the file became shorter while it was read")
        parts: list[bytes | memoryview] = []
        view = memoryview(data)
        for block in range(first, last):
            parts.append(_HEADER.pack(Opcode.DATA, block + 1 & 0xFFFF))
            parts.append(view[(block - first) * size : (block - first + 1) * size])
        return b"".join(parts)


_HEADER = struct.Struct("!HH")
