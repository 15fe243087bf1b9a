"""The write cache of a drive: what was not flushed is partly on the medium and partly only here."""

from __future__ import annotations

import os
import random

BLOCK = 4096
#: Blocks that the cache holds (8 MiB); with more of them the oldest are written back.
ROOM = 2048


class Cache:
    """Reads and writes of a ``medium`` (an open file) through a cache that dies with the process.

    Each block that is written goes to the medium at once or stays here, by dice, as a drive writes back when
    it likes to and in any order; it must when it is full. ``state`` is an open file whose first 8 bytes
    always say how many blocks a power cut would lose.
    """

    def __init__(self, medium: int, state: int, seed: int) -> None:
        self._medium, self._state = medium, state
        self._dice = random.Random(seed)
        self._blocks: dict[int, bytes] = {}
        self._tell()

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._medium, length, offset)
        if not self._blocks:
            return data
        seen, end = bytearray(data), offset + len(data)
        for number in range(offset // BLOCK, -(-end // BLOCK)):
            if (block := self._blocks.get(number)) is not None:
                begin, stop = max(offset, number * BLOCK), min(end, (number + 1) * BLOCK)
                seen[begin - offset : stop - offset] = block[begin - number * BLOCK : stop - number * BLOCK]
        return bytes(seen)

    def write(self, offset: int, data: bytes) -> None:
        at, end = offset, offset + len(data)
        while at < end:
            number = at // BLOCK
            stop = min(end, (number + 1) * BLOCK)
            block = data[at - offset : stop - offset]
            if len(block) < BLOCK:
                place = number * BLOCK
                old = self.read(place, BLOCK)
                block = old[: at - place] + block + old[stop - place :]
            if self._dice.random() < 0.5:
                self._blocks.pop(number, None)
                os.pwrite(self._medium, block, number * BLOCK)
            else:
                self._blocks.pop(number, None)
                self._blocks[number] = block  # the newest
                if len(self._blocks) > ROOM:
                    oldest = next(iter(self._blocks))
                    os.pwrite(self._medium, self._blocks.pop(oldest), oldest * BLOCK)
            at = stop
        self._tell()

    def flush(self) -> None:
        for number, block in self._blocks.items():
            os.pwrite(self._medium, block, number * BLOCK)
        self._blocks.clear()
        self._tell()

    def _tell(self) -> None:
        os.pwrite(self._state, len(self._blocks).to_bytes(8, "little"), 0)
