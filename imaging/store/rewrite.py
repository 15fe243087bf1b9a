"""Moving chunks to new packs so that at each moment every chunk is whole in one place that the index names.

The copy is synced before the index is switched, and the old pack is deleted after it: a crash costs space
that the next prune gives back. Readers that looked a place up before find the old bytes, or no file: then
they look again.
"""

from typing import NamedTuple

from imaging.store.intake import COMMIT_BYTES
from imaging.store.packs import RECORD, Place, record_head
from imaging.store.parts import Parts
from imaging.store.writer import PackWriter


class _Move(NamedTuple):
    hash: bytes
    old: Place
    new: Place


class Rewriter:
    """Not thread-safe; use it while ``parts.care`` is held. ``level`` marks its packs as recompressed."""

    def __init__(self, parts: Parts, level: int = 0) -> None:
        self._parts, self._level = parts, level
        self._writer = PackWriter(parts.packs, parts.index.highest)
        self._moves: list[_Move] = []
        self._bytes = 0

    @property
    def is_due(self) -> bool:
        """Whether enough is written to switch the index over."""
        return self._bytes >= COMMIT_BYTES

    @property
    def pack(self) -> int:
        """The pack written to, 0 for none."""
        return self._writer.pack

    def write(self, hash: bytes, old: Place, frame: bytes) -> None:
        """Append a checked frame of a chunk that now lies at ``old``. Raises StoreFull, StoreError."""
        head = record_head(hash, old.plain, frame)
        self._moves.append(_Move(hash, old, self._writer.append(head, frame, old.plain)))
        self._bytes += RECORD.size + len(frame)

    def switch(self) -> None:
        """Make the copies durable and let the index name them. Raises OSError, StoreError: nothing moved."""
        moves, self._moves, self._bytes = self._moves, [], 0
        unsynced = self._writer.unsynced()
        try:
            unsynced.sync()
        finally:
            unsynced.close()
        if not moves:
            return
        ends: dict[int, int] = {}
        for move in moves:
            ends[move.new.pack] = max(ends.get(move.new.pack, 0), move.new.end)
        levels = dict.fromkeys(ends, self._level) if self._level else None
        self._parts.index.change(move=moves, ends=ends, levels=levels)

    def forget(self) -> None:
        """Give up what was written since the last switch: the old places stay."""
        self._moves, self._bytes = [], 0

    def close(self) -> None:
        self._writer.close()


def retire(parts: Parts, number: int) -> int:
    """Delete a pack in which no chunk lies any more; the bytes freed. Raises StoreError.

    The file goes first: a row without a file is harmless, a file without a row would be read in again.
    """
    if number == parts.intake.growing() or parts.index.of_pack(number, limit=1):
        return 0
    freed = parts.packs.unlink(number)
    parts.index.change(drop_packs=[number])
    return freed
