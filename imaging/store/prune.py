"""Giving back what no version needs: mark by reading all manifests and holds, sweep and rewrite pack by pack.

It may end at any moment, by kill -9 too. Each step deletes index rows first, a pack when no row names it any
more, and moves chunks by copy, switch, delete. Captures go on meanwhile: what they ask for, add or name
after the mark began is spared (imaging.store.holds).
"""

import contextlib
import time
from collections.abc import Callable, Collection

from imaging.errors import ChunkInvalid, ManifestMissing, StoreError, StoreFull
from imaging.store.index import Row
from imaging.store.packs import RECORD, read_frame
from imaging.store.parts import Parts
from imaging.store.references import named
from imaging.store.rewrite import Rewriter, retire
from imaging.store.values import Progress, Pruned, Stop


def prune(
    parts: Parts,
    keep: Collection[str] | None,
    grace: float,
    progress: Progress,
    stop: Stop,
    now: Callable[[], float] = time.time,
) -> Pruned:
    """See ChunkStore.prune."""
    assert parts.holds is not None
    with parts.care("prune it"):
        deleted = 0 if keep is None else _delete_others(parts, set(keep), now() - grace)
        with parts.intake.commit_lock:
            # No manifest is on its way in now: each later one tells the holds before it counts its
            # chunks.
            parts.intake.commit()
            growing = parts.intake.retreat()
            parts.holds.begin()
        try:
            return _Sweep(parts, growing, grace, progress, stop).run()._replace(manifests=deleted)
        finally:
            parts.holds.end()


def _delete_others(parts: Parts, keep: set[str], before: float) -> int:
    deleted = 0
    for id in parts.manifests.list():
        # A version that was completed a moment ago may not be in the caller's list yet.
        if id not in keep and parts.manifests.written(id) < before:
            with parts.intake.commit_lock, contextlib.suppress(ManifestMissing):
                parts.manifests.delete(id)
                deleted += 1
    return deleted


class _Sweep:
    """One prune, after the mark was begun."""

    def __init__(self, parts: Parts, growing: int, grace: float, progress: Progress, stop: Stop) -> None:
        self._parts, self._growing, self._grace = parts, growing, grace
        self._progress, self._stop = progress, stop
        self._chunks = self._freed = self._packs = self._rewritten = self._left = self._held = 0
        self._done = self._total = 0

    def run(self) -> Pruned:
        ends = {n: end for n, end in self._parts.index.ends().items() if n != self._growing}
        numbers = sorted({*ends, *self._parts.index.packs_named(), *([self._growing] * bool(self._growing))})
        manifests = len(self._parts.manifests.list())
        self._total = manifests + 2 * len(numbers)
        assert self._parts.holds is not None
        held = self._parts.holds.held(self._grace)
        live = named(self._parts.manifests, lambda done, _: self._step(done), self._stop)
        if live is None:
            return self._result(stopped=True)
        self._held = len(held - live)
        live |= held
        sparse: list[tuple[int, int]] = []  # (bytes alive, pack) of packs less than half alive
        for place, number in enumerate(numbers):
            if self._stop():
                return self._result(stopped=True)
            alive = self._sweep(number, live)
            if number in ends:
                if not alive:
                    self._retire(number)
                elif alive * 2 < ends[number]:
                    sparse.append((alive, number))
            self._step(manifests + place + 1)
        return self._result(stopped=not self._rewrite(sorted(sparse), manifests + len(numbers)))

    def _step(self, done: int) -> None:
        self._done = max(self._done, done)
        self._progress(self._done, self._total)

    def _sweep(self, number: int, live: set[bytes]) -> int:
        """Forget the dead chunks of a pack; bytes alive in it, record heads included."""
        alive = 0
        holds = self._parts.holds
        assert holds is not None
        for page in self._parts.index.pages(number):
            dead: list[Row] = []
            for row in page:
                if row.hash in live:
                    alive += RECORD.size + row.place.length
                else:
                    dead.append(row)
            if not dead:
                continue
            with holds.lock:
                # Whoever asks for a chunk from here on waits for the lock and then reads the index.
                gone = [row for row in dead if not holds.is_new(row.hash)]
                self._parts.index.change(remove=[(row.hash, row.place) for row in gone])
            self._chunks += len(gone)
            alive += sum(RECORD.size + r.place.length for r in dead) - sum(
                RECORD.size + r.place.length for r in gone
            )
        return alive

    def _retire(self, number: int) -> None:
        if freed := retire(self._parts, number):
            self._freed += freed
            self._packs += 1

    def _rewrite(self, sparse: list[tuple[int, int]], done: int) -> bool:
        """Rewrite packs less than half alive, the emptiest first; False when it was stopped."""
        writer = Rewriter(self._parts)
        try:
            for position, (alive, number) in enumerate(sparse):
                if self._stop():
                    self._left += len(sparse) - position
                    return False
                try:
                    moved = self._move(writer, number)
                except StoreFull:
                    # The emptiest came first, so the others will not fit either.
                    self._left += len(sparse) - position
                    writer.forget()
                    break
                if moved:
                    self._rewritten += 1
                    self._retire(number)
                    self._freed -= alive
                else:
                    self._left += 1
                self._step(done + position + 1)
        finally:
            writer.close()
        self._step(self._total)
        return True

    def _move(self, writer: Rewriter, number: int) -> bool:
        """Copy what is alive; False when a chunk of the pack is damaged: it stays until that is healed."""
        whole = True
        for page in self._parts.index.pages(number):
            for row in page:
                try:
                    writer.write(row.hash, row.place, read_frame(self._parts.packs.path, row.hash, row.place))
                except (ChunkInvalid, FileNotFoundError):
                    self._parts.index.change(damaged=[(row.hash, row.place)])
                    whole = False
                if writer.is_due:
                    self._switch(writer)
        self._switch(writer)
        return whole

    @staticmethod
    def _switch(writer: Rewriter) -> None:
        try:
            writer.switch()
        except OSError as error:
            raise StoreError(
                f"The store's packs cannot be synced: {error.strerror}. Check the disk."
            ) from error

    def _result(self, *, stopped: bool) -> Pruned:
        return Pruned(
            self._chunks,
            self._freed,
            self._packs,
            self._rewritten,
            self._left,
            held=self._held,
            stopped=stopped,
        )
