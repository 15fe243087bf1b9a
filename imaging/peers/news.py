"""What a host tells its neighbours of the chunks it holds: a log that only grows, told from where one was.

Encoded (big-endian): epoch u64, position u32 (length of the log after this), kind u8, then for kind 1 the
whole set as a bitmap (bit i mod 8 of byte i div 8), for kind 2 the indexes (u32 each) appended since the
position that was asked for. Whichever is shorter is sent. An epoch that changed means: forget what you knew.
"""

from __future__ import annotations

import struct
import threading
from array import array
from typing import NamedTuple

BITMAP, INDEXES = 1, 2
_HEAD = struct.Struct(">QIB")


class News(NamedTuple):
    """What one answer says: in ``epoch``, up to ``position``; ``indexes`` are new, ``bitmap`` is all."""

    epoch: int
    position: int
    indexes: tuple[int, ...] = ()
    bitmap: bytes | None = None


class NewsError(ValueError):
    """Bytes that are no news."""


def parse(data: bytes | memoryview, count: int) -> News:
    """News about an image of ``count`` chunks. Raises NewsError; never allocates more than a bitmap."""
    if len(data) < _HEAD.size:
        raise NewsError("news of a neighbour are cut off")
    epoch, position, kind = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if kind == BITMAP:
        if len(body) != -(-count // 8) or (count % 8 and body[-1] >> count % 8):
            raise NewsError("a neighbour's bitmap is of another image")
        return News(epoch, position, bitmap=bytes(body))
    if kind != INDEXES or len(body) % 4 or len(body) > 4 * count:
        raise NewsError("news of a neighbour make no sense")
    indexes = struct.unpack(f">{len(body) // 4}I", body)
    if any(index >= count for index in indexes):
        raise NewsError("a neighbour has a chunk that the image has not")
    return News(epoch, position, indexes)


class Holdings:
    """The chunks of one image that this host holds; every method is safe from any thread."""

    def __init__(self, count: int, epoch: int) -> None:
        self.count = count
        self.epoch = epoch
        self._bits = bytearray(-(-count // 8))
        self._log = array("I")
        self._lock = threading.Lock()

    def add(self, index: int) -> None:
        """This chunk is on the disk."""
        with self._lock:
            if not self._bits[index >> 3] >> (index & 7) & 1:
                self._bits[index >> 3] |= 1 << (index & 7)
                self._log.append(index)

    def __contains__(self, index: int) -> bool:
        return 0 <= index < self.count and bool(self._bits[index >> 3] >> (index & 7) & 1)

    def __len__(self) -> int:
        return len(self._log)

    def remove(self, index: int) -> None:
        """The disk no longer holds it. Neighbours who ask for it hear so; the log is not rewritten."""
        with self._lock:
            self._bits[index >> 3] &= ~(1 << (index & 7))

    def since(self, epoch: int, position: int) -> bytes:
        """Encoded news for a neighbour who knew ``position`` entries of ``epoch``."""
        with self._lock:
            end = len(self._log)
            start = position if epoch == self.epoch and position <= end else 0
            if 4 * (end - start) > len(self._bits):
                return _HEAD.pack(self.epoch, end, BITMAP) + self._bits
            fresh = self._log[start:end]
            return _HEAD.pack(self.epoch, end, INDEXES) + struct.pack(f">{len(fresh)}I", *fresh)
