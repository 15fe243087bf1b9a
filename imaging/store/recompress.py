"""Smaller frames for what is kept for long: packs are rewritten at a higher zstd level in quiet hours.

A chunk's name does not depend on its frame, so nothing else changes. Each frame is opened and hashed before
it is compressed again. Where it stopped it goes on: packs remember the level they were brought to.
"""

import itertools
from collections.abc import Iterator

from imaging.chunks import compress, open_frame
from imaging.errors import ChunkInvalid, StoreError
from imaging.store.index import Row
from imaging.store.pace import Pace
from imaging.store.packs import read_frame
from imaging.store.parts import Parts, ReaderLock
from imaging.store.rewrite import Rewriter, retire
from imaging.store.values import Progress, Recompressed

#: Every 16th chunk of a pack is tried first, at least 8; the pack is left if that saves less than 3 %:
#: rewriting 1 GiB for less wears the disk for nothing.
SAMPLE, SAMPLE_LEAST, WORTH = 16, 8, 0.03
_AT_WORK = "recompressing"


def recompress(parts: Parts, readers: ReaderLock, level: int, progress: Progress, pace: Pace) -> Recompressed:
    """See ChunkStore.recompress."""
    if not 1 <= level <= 22:
        raise ValueError(f"zstd has levels 1 to 22, not {level}")
    with parts.care("recompress it"):
        with parts.intake.commit_lock:
            parts.intake.commit()
            growing = parts.intake.retreat()
        reached = parts.index.recompressed()
        work = [n for n in sorted(parts.index.ends()) if n != growing and reached.get(n, 0) < level]
        run = _Run(parts, readers, level, pace)
        try:
            for done, number in enumerate(work):
                progress(done, len(work))
                if not run.pack(number):
                    return run.result(stopped=True)
        finally:
            run.close()
        progress(len(work), len(work))
        return run.result(stopped=False)


class _Run:
    def __init__(self, parts: Parts, readers: ReaderLock, level: int, pace: Pace) -> None:
        self._parts, self._readers, self._level, self._pace = parts, readers, level, pace
        self._writer = Rewriter(parts, level)
        self._chunks = self._before = self._after = self._packs = self._freed = 0
        self._new: list[tuple[int, int]] = []  # frame bytes before and after, since the last switch
        self._met_readers = False

    def pack(self, number: int) -> bool:
        """Bring a pack to the level, or note that it is not worth it; False when it must stop."""
        with self._readers.alone() as alone:
            self._met_readers = not alone
        if self._met_readers:
            return False
        # A pack that was left in the middle is finished in any case: half of it is dead bytes.
        if self._parts.index.note(_AT_WORK) != str(number):
            worth = self._is_worth_it(number)
            if worth is None:
                return False
            if not worth:
                self._parts.index.change(levels={number: self._level})
                return True
            self._parts.index.change(notes={_AT_WORK: str(number)})
        whole = True
        for row in self._rows(number):
            frame = self._smaller(row)
            if frame is None:
                whole = False
                continue
            if not frame:  # asked to stop: what is done so far counts
                self._switch()
                return False
            self._writer.write(row.hash, row.place, frame)
            if self._writer.is_due and not self._switch():
                return False
        if not self._switch():
            return False
        if whole:
            self._packs += 1
            self._freed += retire(self._parts, number)
        else:
            self._parts.index.change(levels={number: self._level})  # a damaged chunk keeps it alive
        return True

    def _rows(self, number: int) -> Iterator[Row]:
        return itertools.chain.from_iterable(self._parts.index.pages(number))

    def _is_worth_it(self, number: int) -> bool | None:
        """Whether a sample of the pack becomes smaller by enough; None when it must stop."""
        count = self._parts.index.live(number)[0]
        every = max(1, min(SAMPLE, count // SAMPLE_LEAST))
        before = after = 0
        for row in itertools.islice(self._rows(number), 0, None, every):
            if not self._pace.take(row.place.length):
                return None
            try:
                frame = read_frame(self._parts.packs.path, row.hash, row.place)
                before += len(frame)
                after += min(len(frame), len(compress(open_frame(row.hash, frame), self._level)))
            except (ChunkInvalid, FileNotFoundError):
                continue
        return before - after >= before * WORTH and before > after

    def _smaller(self, row: Row) -> bytes | None:
        """The frame to keep, smaller or as it was; b"" to stop, None for damage."""
        if not self._pace.take(row.place.length):
            return b""
        try:
            frame = read_frame(self._parts.packs.path, row.hash, row.place)
            again = compress(open_frame(row.hash, frame), self._level)
        except (ChunkInvalid, FileNotFoundError):
            self._parts.index.change(damaged=[(row.hash, row.place)])
            return None
        if len(again) < len(frame):
            self._new.append((len(frame), len(again)))
            return again
        return frame

    def _switch(self) -> bool:
        """Let the index name the new frames, if no other process reads; else the old ones stay."""
        with self._readers.alone() as alone:
            if not alone:
                self._met_readers = True
                self._writer.forget()
                self._new = []
                return False
            try:
                self._writer.switch()
            except OSError as error:
                raise StoreError(
                    f"The store's packs cannot be synced: {error.strerror}. Check the disk."
                ) from error
        self._chunks += len(self._new)
        self._before += sum(before for before, _ in self._new)
        self._after += sum(after for _, after in self._new)
        self._new = []
        return True

    def result(self, *, stopped: bool) -> Recompressed:
        return Recompressed(
            self._chunks, self._before, self._after, self._packs, self._freed, stopped, self._met_readers
        )

    def close(self) -> None:
        self._writer.close()
