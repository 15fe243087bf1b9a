"""Chunks on their way in: appended and readable at once, durable and indexed with the next commit."""

import os
import threading
from collections.abc import Sequence

from imaging.errors import StoreError
from imaging.store.index import Index
from imaging.store.packs import RECORD, Place, pack_numbers, pack_path, record_head
from imaging.store.writer import FULL, PackDirectory, PackWriter

#: Uncommitted bytes after which add() commits by itself, so that a crash costs little.
COMMIT_BYTES = 128 << 20


class Intake:
    """Thread-safe. ``commit_lock`` keeps commits, manifests and the beginning of a prune apart."""

    def __init__(self, packs: PackDirectory, index: Index) -> None:
        self._packs, self._index = packs, index
        self.commit_lock = threading.RLock()  # taken before _lock
        self._lock = threading.Lock()  # the open pack and what is pending
        self._pending: dict[bytes, Place] = {}
        self._pending_bytes = 0
        self._committing: dict[bytes, Place] = {}
        self._writer = PackWriter(packs, index.highest)
        self._may_resume = True

    def find(self, hash: bytes) -> Place | None:
        """Where a chunk is, committed or not."""
        with self._lock:
            place = self._pending.get(hash) or self._committing.get(hash)
        return place or self._index.find(hash)

    def missing(self, hashes: Sequence[bytes]) -> list[bool]:
        """True for each chunk that is not here, or known to be damaged."""
        # First what is pending, then the index: a chunk only ever moves in this direction.
        with self._lock:
            pending = [hash in self._pending or hash in self._committing for hash in hashes]
        lengths = self._index.healthy(hashes)
        return [length is None and not held for length, held in zip(lengths, pending, strict=True)]

    def add(self, hash: bytes, frame: bytes, plain: int) -> bool:
        """Append a frame that was checked; False when it is pending already. Raises StoreFull, StoreError."""
        head = record_head(hash, plain, frame)
        with self._lock:
            if hash in self._pending or hash in self._committing:
                return False
            if self._may_resume:
                self._resume()
            self._pending[hash] = self._writer.append(head, frame, plain)
            self._pending_bytes += RECORD.size + len(frame)
            commit = self._pending_bytes >= COMMIT_BYTES
        if commit:
            self.commit()
        return True

    def _resume(self) -> None:
        """Once after opening: go on with the last pack if all its bytes are indexed, as they were added."""
        self._may_resume = False
        numbers = pack_numbers(self._packs.path)
        if not numbers or self._writer.pack:
            return
        last = numbers[-1]
        try:
            size = pack_path(self._packs.path, last).stat().st_size
            whole = self._index.ends().get(last) == size and last >= self._index.highest()
            if whole and size < self._packs.size and last not in self._index.recompressed():
                self._writer.resume(last, size)
        except OSError as error:
            raise StoreError(f"The pack {last} cannot be opened: {error.strerror}.") from error

    def commit(self) -> None:
        """Make everything added so far durable. Raises StoreError: then add again what was pending."""
        with self.commit_lock:
            with self._lock:
                if not self._pending:
                    return
                self._committing, self._pending, self._pending_bytes = self._pending, {}, 0
                unsynced = self._writer.unsynced()
            try:
                unsynced.sync()
                ends: dict[int, int] = {}
                for place in self._committing.values():
                    ends[place.pack] = max(ends.get(place.pack, 0), place.end)
                self._index.change(add=self._committing.items(), ends=ends)
            except (OSError, StoreError) as error:
                # After a failed fsync nobody knows what is on the disk: forget all of it, go on in a new
                # pack.
                with self._lock:
                    self._pending, self._pending_bytes = {}, 0
                    self._writer.leave()
                if isinstance(error, StoreError):
                    raise
                if error.errno in FULL:
                    raise self._packs.full(0) from error
                raise StoreError(
                    f"The store {self._packs.path.parent} cannot be made durable "
                    f"({os.strerror(error.errno or 0)}): check its disk."
                ) from error
            finally:
                unsynced.close()
                with self._lock:
                    self._committing = {}

    def retreat(self) -> int:
        """Before a prune: let go of the open pack if nothing is pending; the number still written to, or 0.

        ``commit_lock`` is held.
        """
        with self._lock:
            self._may_resume = False
            if not self._pending:
                self._writer.leave()
            return self._writer.pack

    def growing(self) -> int:
        """Number of the pack being written, 0 for none."""
        with self._lock:
            return self._writer.pack

    def close(self) -> None:
        with self.commit_lock, self._lock:
            self._writer.close()
