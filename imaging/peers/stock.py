"""What a host can give its neighbours: frames in memory as they came, and whatever its disk holds.

From the disk a chunk is read, checked against its hash and compressed again, fast: so a host that was killed
and came back serves what it had, a large image needs no memory, and what the disk has lost is never sent.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from imaging.chunks import compress
from imaging.manifest import ChunkRef
from imaging.peers.news import Holdings

#: Level of frames made again: fast enough for 1 Gbit/s on one core.
LEVEL = 1

Reader = Callable[[ChunkRef], "memoryview | None"]


class Stock:
    """Frames by index; every method is safe from any thread."""

    def __init__(self, chunks: Sequence[ChunkRef], holdings: Holdings, memory: int) -> None:
        """``memory``: bytes of frames that are kept at most."""
        self.holdings = holdings
        self.sent_chunks = self.sent_bytes = 0
        self._chunks = chunks
        self._memory = memory
        self._frames: OrderedDict[int, bytes] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()
        self._reader: Reader | None = None

    def read_with(self, reader: Reader | None) -> None:
        """How to read a chunk from the disk, None when the disk must be left alone; the reader returns None
        for a chunk that the disk does not hold (any more)."""
        self._reader = reader

    def keep(self, index: int, frame: bytes) -> None:
        """A checked frame; the oldest go when there is no room."""
        with self._lock:
            if index in self._frames or len(frame) > self._memory:
                return
            self._frames[index] = frame
            self._held += len(frame)
            while self._held > self._memory:
                _, old = self._frames.popitem(last=False)
                self._held -= len(old)

    def frame(self, index: int) -> bytes | None:
        """The frame of a chunk; None when this host cannot give it."""
        with self._lock:
            frame = self._frames.get(index)
            if frame is not None:
                return frame
        reader = self._reader
        if reader is None or index not in self.holdings:
            return None
        data = reader(self._chunks[index])
        if data is None:
            self.holdings.remove(index)
            return None
        return compress(data, LEVEL)

    def sent(self, size: int) -> None:
        """Count a frame that a neighbour has got."""
        with self._lock:
            self.sent_chunks += 1
            self.sent_bytes += size

    def clear(self) -> None:
        """Forget all frames."""
        with self._lock:
            self._frames.clear()
            self._held = 0
