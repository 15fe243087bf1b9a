"""A content-addressed store that survives kill -9, power cuts, full disks and flipped bits.

What is promised: a frame is served only as it was added; after :meth:`ChunkStore.commit` returns, a power cut
takes nothing back; a manifest is visible only when all its chunks are here and durable. How: pack files are
fsynced before the index commits, whatever lies behind the index's end of a pack is checked record by record
on opening (whole records are kept, the rest is not), and manifests appear by rename.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from imaging.chunks import content_size, open_frame, open_in_place
from imaging.errors import (
    ChunkInvalid,
    ChunkMissing,
    ManifestError,
    ManifestIncomplete,
    StoreBusy,
    StoreError,
)
from imaging.manifest import Manifest
from imaging.store import diff as differences
from imaging.store import outline, prune, recompress, references, scrub
from imaging.store.holds import HOLD_SECONDS, Holds
from imaging.store.index import Index
from imaging.store.intake import Intake
from imaging.store.manifests import SIGNATURE_SIZE, ManifestFiles
from imaging.store.pace import Pace
from imaging.store.packs import Place, pack_numbers, pack_path, read_frame
from imaging.store.parts import Parts, ReaderLock
from imaging.store.recovery import recover
from imaging.store.values import (
    BadChunk,
    Progress,
    Pruned,
    Recompressed,
    ScrubReport,
    Statistics,
    Stop,
    StoreTotals,
    Usage,
    never,
    no_progress,
)
from imaging.store.writer import PackDirectory

#: Packs grow to this size; pruning works pack by pack.
PACK_SIZE = 1 << 30
#: Free space that chunks never take: the index, the database and the logs live here too.
RESERVE = 256 << 20
#: Level that recompress() aims at: on a Debian's /usr it takes 7 % off level 3, at 48 MiB/s of one core
#: (level 19: 17 %, at 3 MiB/s).
ARCHIVE_LEVEL = 9


class ChunkStore:
    """Thread-safe. One process writes (a lock file sees to it), any number read with ``readonly=True``.

    ``holder`` names the capture on whose behalf chunks are asked for and added: its chunks are safe from
    prune until its manifest is put, it is released, or nobody used it for a day.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        readonly: bool = False,
        reserve: int = RESERVE,
        pack_size: int = PACK_SIZE,
    ) -> None:
        """Open, and for writing make if need be. Raises StoreBusy, StoreError."""
        self.path = Path(path)
        self._readonly = readonly
        packs = PackDirectory(self.path / "packs", reserve, pack_size)
        manifests = ManifestFiles(self.path / "manifests", packs)
        self._lock_file = -1
        try:
            if not readonly:
                for directory in (self.path, packs.path, manifests.path):
                    directory.mkdir(parents=True, exist_ok=True)
                self._lock_file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif not (self.path / "index.sqlite").exists():
                raise StoreError(f"There is no chunk store in {self.path}.")
            holds = None if readonly else Holds(self.path / "holds")
            self._readers = ReaderLock(self.path / "readers", shared=readonly)
            index = Index(self.path / "index.sqlite", readonly=readonly)
        except BlockingIOError:
            self._unlock()
            raise StoreBusy(f"Another process writes to the store {self.path}: stop it first.") from None
        except OSError as error:
            self._unlock()
            raise StoreError(f"The store {self.path} cannot be opened: {error.strerror}.") from error
        except StoreError:
            self._unlock()
            raise
        self._parts = Parts(self.path, packs, index, manifests, Intake(packs, index), holds)
        if not readonly:
            try:
                recover(packs, index)
                manifests.recover()
            except StoreError:
                index.close()
                self._unlock()
                raise

    def _unlock(self) -> None:
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def close(self) -> None:
        """Commit what is pending and let go of the store."""
        if self._lock_file >= 0:
            try:
                self.commit()
            finally:
                self._parts.intake.close()
                self._parts.index.close()
                self._readers.close()
                self._unlock()
        elif self._readonly:
            self._parts.index.close()
            self._readers.close()

    def __enter__(self) -> "ChunkStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- chunks ---

    def missing(self, hashes: Sequence[bytes], holder: str = "") -> list[bool]:
        """True for each chunk that should be sent: not here, or here but known to be damaged."""
        if self._parts.holds is not None:
            self._parts.holds.note(holder, hashes)  # before the answer is made: from now on they stay
        return self._parts.intake.missing(hashes)

    def add_frame(self, hash: bytes, frame: bytes, holder: str = "", *, own: bool = False) -> bool:
        """Check a frame and append it; False when the chunk was here already.

        ``own``: this process itself hashed and compressed the plain bytes; the frame is not opened again.
        Raises ChunkInvalid (nothing is stored), StoreFull (nothing is stored, the store stays usable),
        StoreError. Durable only after :meth:`commit`.
        """
        if self._parts.holds is None:
            raise StoreError("This process opened the store for reading only.")
        plain = content_size(hash, frame) if own else len(open_in_place(hash, frame))
        self._parts.holds.note(holder, [hash])
        if not self._parts.intake.missing([hash])[0]:
            return False
        return self._parts.intake.add(hash, frame, plain)

    def commit(self) -> None:
        """Make everything added so far durable. Raises StoreError: then add again what was pending."""
        self._parts.intake.commit()

    def release(self, holder: str) -> None:
        """A capture was given up: the next prune may take what it brought."""
        if self._parts.holds is not None and holder:
            self._parts.holds.release(holder)

    def frame(self, hash: bytes) -> bytes:
        """The stored zstd frame, checked. Raises ChunkMissing, ChunkInvalid."""
        place, reason = None, "its pack is gone"
        for _ in range(3):
            found = self._parts.intake.find(hash)
            if found is None:
                raise ChunkMissing(hash)
            if found == place:
                break
            # A prune may have moved the chunk since the lookup: look again.
            place = found
            try:
                return read_frame(self._parts.packs.path, hash, place)
            except FileNotFoundError:
                continue
            except ChunkInvalid as error:
                reason = error.reason
        if place is not None:
            self._mark(hash, place)
        raise ChunkInvalid(hash, reason)

    def _mark(self, hash: bytes, place: Place) -> None:
        """From now on missing() asks for it again, so the next capture heals the store."""
        if not self._readonly:
            with contextlib.suppress(StoreError):
                self._parts.index.change(damaged=[(hash, place)])

    def get(self, hash: bytes) -> bytes:
        """The plain chunk, checked against its hash. Raises ChunkMissing, ChunkInvalid."""
        return open_frame(hash, self.frame(hash))

    # --- manifests ---

    def put_manifest(self, data: bytes, signature: bytes, holder: str = "") -> str:
        """Keep a manifest (canonical bytes, 64-byte Ed25519 signature) and return its identity.

        Raises ManifestError, ManifestIncomplete when a chunk is not here, StoreFull, StoreError. The
        signature is the caller's to make and to check; putting a manifest again replaces it.
        """
        manifest = Manifest.from_bytes(data)
        if len(signature) != SIGNATURE_SIZE:
            raise ManifestError("An Ed25519 signature has 64 bytes.")
        if self._parts.holds is None:
            raise StoreError("This process opened the store for reading only.")
        lengths = [pair for disk in outline.outline(data) for pair in disk.lengths()]
        hashes = list(dict.fromkeys(hash for hash, _ in lengths))
        with self._parts.intake.commit_lock:
            self._parts.holds.protect(hashes)
            self.commit()
            stored = dict(zip(hashes, self._parts.index.healthy(hashes), strict=True))
            lacking = 0
            for number, (hash, length) in enumerate(lengths):
                if (size := stored[hash]) is None:
                    lacking += 1
                elif size != length:
                    raise ManifestError(f"Chunk {number} is {size} bytes long, the manifest says {length}.")
            if lacking:
                raise ManifestIncomplete(lacking, len(lengths))
            self._parts.manifests.put(manifest.id, data, signature)
        self._parts.holds.release(holder, hashes)
        return manifest.id

    def manifest(self, id: str) -> tuple[bytes, bytes]:
        """(bytes, signature). Raises ManifestMissing; ManifestError when the stored bytes have changed."""
        return self._parts.manifests.get(id)

    def manifests(self) -> list[str]:
        """Identities of all manifests kept, sorted."""
        return self._parts.manifests.list()

    def delete_manifest(self, id: str) -> None:
        """Forget a manifest; its chunks stay until :meth:`prune`. Raises ManifestMissing."""
        with self._parts.intake.commit_lock:
            self._parts.manifests.delete(id)

    # --- numbers ---

    def room(self, needed: int) -> int:
        """Bytes left above the reserve once ``needed`` came; ask before a capture or an import starts.

        Raises StoreFull with the numbers.
        """
        return self._parts.packs.room(needed)

    def totals(self) -> StoreTotals:
        """Counts and sizes, for people and for alarms."""
        sums = self._parts.index.totals()
        packs = self._parts.packs
        return StoreTotals(sums.chunks, sums.stored, sums.damaged, packs.free(), packs.reserve)

    def statistics(self) -> Statistics:
        """Everything countable: reads the manifests, a few seconds for a thousand. Raises ManifestError."""
        index, packs = self._parts.index, self._parts.packs
        sums, ids, packed, files = index.totals(), self.manifests(), 0, 0
        for number in pack_numbers(packs.path):
            with contextlib.suppress(OSError):  # pruned meanwhile
                packed += pack_path(packs.path, number).stat().st_size
                files += 1
        return Statistics(
            manifests=len(ids),
            chunks=sums.chunks,
            named=references.plain_size(self._parts.manifests, ids),
            plain=sums.plain,
            stored=sums.stored,
            packs=files,
            packed=packed,
            damaged=sums.damaged,
            free=packs.free(),
            reserve=packs.reserve,
            last_scrub=self._last_scrub(),
        )

    def _last_scrub(self) -> float:
        try:
            return float(json.loads(self._parts.index.note(scrub.FINISHED) or "{}").get("at", 0))
        except (StoreError, ValueError, TypeError, AttributeError):
            return 0.0  # the index of an older version has no notes

    def usage_of(self, id: str) -> Usage:
        """What only this version takes, and what it shares. Raises ManifestMissing, ManifestError."""
        return self.usage([id])[id]

    def usage(self, ids: Sequence[str], stop: Stop = never) -> dict[str, Usage]:
        """The same for several versions in one pass over all manifests: milliseconds for each of them."""
        return references.usage(self._parts.manifests, self._parts.index, list(dict.fromkeys(ids)), stop)

    def diff(self, a: str, b: str) -> differences.Diff:
        """What changed from version ``a`` to ``b``. Raises ManifestMissing, ManifestError."""
        first, second = (Manifest.from_bytes(self.manifest(id)[0]) for id in (a, b))
        return differences.diff(first, second, self._parts.index)

    # --- care ---

    def verify(self, id: str | None = None, progress: Progress | None = None) -> Iterator[BadChunk]:
        """Decompress and hash every chunk of a manifest (without ``id`` of the store); yield the bad ones.

        ``progress(done, total)`` counts chunks. Chunks found damaged are asked for again by the next capture.
        """
        if not self._readonly:
            self.commit()
        if id is None:
            total = self._parts.index.totals().chunks
            hashes: Iterator[bytes] = (hash for hash, _ in self._parts.index.all())
        else:
            unique = dict.fromkeys(outline.names(self.manifest(id)[0]))
            total, hashes = len(unique), iter(unique)
        for done, hash in enumerate(hashes, 1):
            try:
                self.get(hash)
            except (ChunkMissing, ChunkInvalid) as error:
                yield BadChunk(hash, error)
            if progress is not None:
                progress(done, total)

    def prune(
        self,
        keep: Iterable[str] | None = None,
        *,
        grace: float = HOLD_SECONDS,
        progress: Progress = no_progress,
        stop: Stop = never,
    ) -> Pruned:
        """Forget chunks that nothing names, delete packs without live chunks, rewrite those half dead.

        With ``keep`` manifests not in it are deleted first, if they are older than ``grace`` seconds (so
        that a version completed a moment ago stays). Captures go on meanwhile and lose nothing; holds that
        were not used for ``grace`` seconds end. ``progress`` counts manifests and packs. Raises StoreBusy,
        StoreError; ManifestError when a manifest cannot be read (then no chunk is forgotten).
        """
        self._may_care()
        return prune.prune(self._parts, None if keep is None else frozenset(keep), grace, progress, stop)

    def scrub(
        self,
        rate: float | None = None,
        progress: Progress = no_progress,
        stop: Stop = never,
        *,
        check_signature: scrub.CheckSignature | None = None,
        restart: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> ScrubReport:
        """Read everything at ``rate`` bytes a second; find, mark and where possible mend what has changed.

        ``check_signature(manifest bytes, signature)`` is False for a wrong one. A scrub that was stopped
        goes on there, also after a restart, unless ``restart``. ``progress`` counts bytes. Raises StoreError.
        """
        self._may_care()
        pace = Pace(rate, stop, clock, sleep)
        return scrub.scrub(self._parts, pace, progress, check_signature=check_signature, restart=restart)

    def recompress(
        self,
        level: int = ARCHIVE_LEVEL,
        progress: Progress = no_progress,
        stop: Stop = never,
        *,
        rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Recompressed:
        """Give chunks smaller frames, at ``rate`` stored bytes a second; for hours in which nothing happens.

        Ends at once while another process has the store open (a multicast sender must see the same frames).
        ``progress`` counts packs; what was stopped goes on with the next call. Raises StoreBusy, StoreFull,
        StoreError.
        """
        self._may_care()
        pace = Pace(rate, stop, clock, sleep)
        return recompress.recompress(self._parts, self._readers, level, progress, pace)

    def _may_care(self) -> None:
        if self._readonly:
            raise StoreError("This process opened the store for reading only.")
