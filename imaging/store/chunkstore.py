"""A content-addressed store that survives kill -9, power cuts, full disks and flipped bits.

What is promised: a frame is served only as it was added; after :meth:`ChunkStore.commit` returns, a power cut
takes nothing back; a manifest is visible only when all its chunks are here and durable. How: pack files are
fsynced before the index commits, whatever lies behind the index's end of a pack is checked record by record
on opening (whole records are kept, a torn tail is cut off), and manifests appear by rename.
"""

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from imaging.chunks import open_frame
from imaging.errors import (
    ChunkInvalid,
    ChunkMissing,
    ImagingError,
    ManifestError,
    ManifestIncomplete,
    StoreBusy,
    StoreError,
    StoreFull,
)
from imaging.manifest import Manifest
from imaging.store.index import Index
from imaging.store.manifests import ManifestFiles
from imaging.store.packs import (
    PACK_HEAD,
    PACK_MAGIC,
    PACK_VERSION,
    RECORD,
    Place,
    pack_numbers,
    pack_path,
    read_frame,
    record_head,
    scan,
    sync_directory,
)

#: Packs grow to this size; pruning works pack by pack.
PACK_SIZE = 1 << 30
#: Free space that chunks never take: the index, the database and the logs live here too.
RESERVE = 256 << 20
#: Uncommitted bytes after which add_frame commits by itself, so that a crash costs little.
COMMIT_BYTES = 128 << 20


class BadChunk(NamedTuple):
    """What verify() found: the chunk, and ChunkMissing or ChunkInvalid with the reason."""

    hash: bytes
    error: ImagingError


class Pruned(NamedTuple):
    """What prune() gave back: chunks forgotten and bytes freed on disk."""

    chunks: int
    bytes: int


class StoreTotals(NamedTuple):
    """Sizes in bytes; ``free`` is what the file system has left, ``reserve`` what chunks may not take."""

    chunks: int
    stored: int
    damaged: int
    free: int
    reserve: int


class ChunkStore:
    """Thread-safe. One process writes (a lock file sees to it), any number read with ``readonly=True``."""

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
        self._packs, self._manifests = self.path / "packs", ManifestFiles(self.path / "manifests")
        self._readonly, self._reserve, self._pack_size = readonly, reserve, pack_size
        self._lock = threading.Lock()  # the open pack and what is pending
        self._commit_lock = (
            threading.RLock()
        )  # one commit, prune or put_manifest at a time; taken before _lock
        self._pending: dict[bytes, Place] = {}
        self._pending_bytes = 0
        self._committing: dict[bytes, Place] = {}
        self._pack_fd, self._pack, self._end = -1, 0, 0
        self._may_resume = True
        self._to_sync: list[int] = []
        self._lock_file = -1
        try:
            if not readonly:
                for directory in (self.path, self._packs, self._manifests.path):
                    directory.mkdir(parents=True, exist_ok=True)
                self._lock_file = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            elif not (self.path / "index.sqlite").exists():
                raise StoreError(f"There is no chunk store in {self.path}.")
        except BlockingIOError:
            os.close(self._lock_file)
            raise StoreBusy(f"Another process writes to the store {self.path}: stop it first.") from None
        except OSError as error:
            raise StoreError(f"The store {self.path} cannot be opened: {error.strerror}.") from error
        self._index = Index(self.path / "index.sqlite", readonly=readonly)
        if not readonly:
            self._recover()

    def _recover(self) -> None:
        """Index whole records that a crash left behind the index's end of a pack; cut off the rest."""
        ends = self._index.ends()
        for number in pack_numbers(self._packs):
            path = pack_path(self._packs, number)
            size, end = path.stat().st_size, ends.get(number, 0)
            if size <= end:
                continue  # shorter means damage: frame() says so when it meets it
            found: dict[bytes, Place] = {}
            for hash, place in scan(self._packs, number, end):
                found[hash] = place
                end = place.offset + RECORD.size + place.length
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.ftruncate(fd, end)
                os.fsync(fd)
            finally:
                os.close(fd)
            if end:
                self._index.change(add=found.items(), ends={number: end})
            else:
                path.unlink()
        self._manifests.recover()

    def close(self) -> None:
        """Commit what is pending and let go of the store."""
        if self._lock_file >= 0:
            try:
                self.commit()
            finally:
                with self._commit_lock, self._lock:
                    for fd in {*self._to_sync, self._pack_fd} - {-1}:
                        os.close(fd)
                    self._pack_fd, self._to_sync = -1, []
                self._index.close()
                os.close(self._lock_file)
                self._lock_file = -1
        elif self._readonly:
            self._index.close()

    def __enter__(self) -> "ChunkStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- chunks ---

    def missing(self, hashes: Sequence[bytes]) -> list[bool]:
        """True for each chunk that should be sent: not here, or here but known to be damaged."""
        # First what is pending, then the index: a chunk only ever moves in this direction.
        with self._lock:
            pending = [hash in self._pending or hash in self._committing for hash in hashes]
        lengths = self._index.healthy(hashes)
        return [length is None and not held for length, held in zip(lengths, pending, strict=True)]

    def add_frame(self, hash: bytes, frame: bytes) -> bool:
        """Check a frame and append it; False when the chunk was here already.

        Raises ChunkInvalid (nothing is stored), StoreFull (nothing is stored, the store stays usable),
        StoreError. Durable only after :meth:`commit`.
        """
        if self._readonly:
            raise StoreError("This process opened the store for reading only.")
        plain = len(open_frame(hash, frame))
        if not self.missing([hash])[0]:
            return False
        head = record_head(hash, plain, frame)
        with self._lock:
            if hash in self._pending or hash in self._committing:
                return False
            place = self._append(head, frame, plain)
            self._pending[hash] = place
            self._pending_bytes += RECORD.size + len(frame)
            commit = self._pending_bytes >= COMMIT_BYTES
        if commit:
            self.commit()
        return True

    def _append(self, head: bytes, frame: bytes, plain: int) -> Place:
        """Write one record at the end of the open pack; the lock is held."""
        size = len(head) + len(frame)
        stat = os.statvfs(self._packs)
        free = stat.f_bavail * stat.f_frsize
        if free - size < self._reserve:
            raise StoreFull(str(self.path), size, free, self._reserve)
        try:
            if self._pack_fd < 0 or self._end + size > self._pack_size:
                self._open_pack()
            written = os.pwritev(self._pack_fd, [head, frame], self._end)
            if written != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # What was written in part lies behind the end: the next record overwrites it, recovery cuts it
            # off.
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFull(str(self.path), size, free, self._reserve) from error
            raise StoreError(f"The store {self.path} cannot be written: {error.strerror}.") from error
        place = Place(self._pack, self._end, len(frame), plain)
        self._end += size
        return place

    def _open_pack(self) -> None:
        """Start a new pack, or go on with the last one while it has room."""
        if self._pack_fd >= 0:
            self._to_sync.append(self._pack_fd)
            self._pack_fd = -1
        numbers = pack_numbers(self._packs)
        number = numbers[-1] if numbers else 0
        # Only a pack whose every byte is indexed may grow: after a failed fsync nobody knows what is on the
        # disk.
        size = pack_path(self._packs, number).stat().st_size if number else 0
        resume = self._may_resume and bool(number) and number != self._pack and size < self._pack_size
        resume = resume and self._index.ends().get(number) == size
        if not resume:
            number, size = max(number, self._pack) + 1, 0
        flags = os.O_RDWR | os.O_CLOEXEC | (0 if resume else os.O_CREAT | os.O_EXCL)
        fd = os.open(pack_path(self._packs, number), flags, 0o600)
        try:
            if not resume:
                os.write(fd, PACK_HEAD.pack(PACK_MAGIC, PACK_VERSION, 0))
                sync_directory(self._packs)
                size = PACK_HEAD.size
        except BaseException:
            os.close(fd)
            raise
        self._pack_fd, self._pack, self._end = fd, number, size

    def commit(self) -> None:
        """Make everything added so far durable. Raises StoreError: then add again what was pending."""
        with self._commit_lock:
            with self._lock:
                if not self._pending:
                    return
                self._committing, self._pending, self._pending_bytes = self._pending, {}, 0
                full, self._to_sync = self._to_sync, []
                current, ends = self._pack_fd, {self._pack: self._end}
            try:
                for fd in (*full, current):
                    os.fsync(fd)
                for place in self._committing.values():
                    end = place.offset + RECORD.size + place.length
                    ends[place.pack] = max(ends.get(place.pack, 0), end)
                self._index.change(add=self._committing.items(), ends=ends)
            except (OSError, StoreError) as error:
                # After a failed fsync nobody knows what is on the disk: forget all of it, go on in a new
                # pack.
                with self._lock:
                    self._pending, self._pending_bytes = {}, 0
                    if self._pack_fd >= 0:
                        os.close(self._pack_fd)
                        self._pack_fd = -1
                if isinstance(error, StoreError):
                    raise
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise StoreFull(str(self.path), 0, self.totals().free, self._reserve) from error
                raise StoreError(
                    f"The store {self.path} cannot be made durable ({error.strerror}): check its disk."
                ) from error
            finally:
                for fd in full:
                    os.close(fd)
                with self._lock:
                    self._committing = {}

    def _find(self, hash: bytes) -> Place | None:
        with self._lock:
            place = self._pending.get(hash) or self._committing.get(hash)
        return place or self._index.find(hash)

    def frame(self, hash: bytes) -> bytes:
        """The stored zstd frame, checked. Raises ChunkMissing, ChunkInvalid."""
        try:
            return self._read(hash)
        except ChunkInvalid:
            if not self._readonly:
                # From now on missing() asks for it again, so the next capture heals the store.
                with contextlib.suppress(StoreError):
                    self._index.change(damaged=[hash])
            raise

    def _read(self, hash: bytes) -> bytes:
        for _ in range(3):
            place = self._find(hash)
            if place is None:
                raise ChunkMissing(hash)
            # A prune may have moved the chunk since the lookup: look again.
            with contextlib.suppress(FileNotFoundError):
                return read_frame(self._packs, hash, place)
        raise ChunkInvalid(hash, "its pack is gone")

    def get(self, hash: bytes) -> bytes:
        """The plain chunk, checked against its hash. Raises ChunkMissing, ChunkInvalid."""
        return open_frame(hash, self.frame(hash))

    # --- manifests ---

    def put_manifest(self, data: bytes, signature: bytes) -> str:
        """Keep a manifest (canonical bytes, 64-byte Ed25519 signature) and return its identity.

        Raises ManifestError, ManifestIncomplete when a chunk is not here, StoreError. The signature is the
        caller's to make and to check.
        """
        manifest = Manifest.from_bytes(data)
        if len(signature) != 64:
            raise ManifestError("An Ed25519 signature has 64 bytes.")
        with self._commit_lock:
            self.commit()
            lacking = self._lacking(manifest)
            if lacking:
                raise ManifestIncomplete(lacking, len(manifest.chunks))
            self._manifests.put(manifest.id, data, signature)
        return manifest.id

    def _lacking(self, manifest: Manifest) -> int:
        """How many chunks are not here. Raises ManifestError when one is here in another length."""
        lacking = 0
        lengths: dict[bytes, int | None] = {}
        hashes = list(dict.fromkeys(manifest.hashes))
        lengths.update(zip(hashes, self._index.healthy(hashes), strict=True))
        for ref in manifest.chunks:
            stored = lengths[ref.hash]
            if stored is None:
                lacking += 1
            elif stored != ref.length:
                raise ManifestError(
                    f"Chunk {ref.index} is {stored} bytes long, the manifest says {ref.length}."
                )
        return lacking

    def manifest(self, id: str) -> tuple[bytes, bytes]:
        """(bytes, signature). Raises ManifestMissing; ManifestError when the stored bytes have changed."""
        return self._manifests.get(id)

    def manifests(self) -> list[str]:
        """Identities of all manifests kept, sorted."""
        return self._manifests.list()

    def delete_manifest(self, id: str) -> None:
        """Forget a manifest; its chunks stay until :meth:`prune`. Raises ManifestMissing."""
        with self._commit_lock:
            self._manifests.delete(id)

    # --- care ---

    def verify(
        self, id: str | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[BadChunk]:
        """Decompress and hash every chunk of a manifest (without ``id`` of the store); yield the bad ones.

        ``progress(done, total)`` counts chunks. Chunks found damaged are asked for again by the next capture.
        """
        if not self._readonly:
            self.commit()
        if id is None:
            total = self._index.totals()[0]
            hashes: Iterator[bytes] = (hash for hash, _ in self._index.all())
        else:
            unique = dict.fromkeys(Manifest.from_bytes(self.manifest(id)[0]).hashes)
            total, hashes = len(unique), iter(unique)
        for done, hash in enumerate(hashes, 1):
            try:
                self.get(hash)
            except (ChunkMissing, ChunkInvalid) as error:
                yield BadChunk(hash, error)
            if progress is not None:
                progress(done, total)

    def prune(self) -> Pruned:
        """Forget chunks that no manifest names, delete packs without live chunks, rewrite those half dead.

        Blocks commits while it runs. A capture under way may lose chunks it counted on: its put_manifest then
        says ManifestIncomplete and the capture is run again. Raises StoreError; ManifestError when a manifest
        cannot be read (then nothing is deleted).
        """
        with self._commit_lock:
            self.commit()
            live: set[bytes] = set()
            for id in self.manifests():
                live.update(Manifest.from_bytes(self.manifest(id)[0]).hashes)
            with self._lock:
                if self._pack_fd >= 0 and not self._pending:
                    os.close(self._pack_fd)
                    self._pack_fd = -1
                # A pack that others are adding to meanwhile is left alone.
                growing = self._pack if self._pack_fd >= 0 else 0
                ends = {n: end for n, end in self._index.ends().items() if n != growing}
                # What is moved below must not go into the very pack it comes from.
                self._may_resume = False
            dead: list[bytes] = []
            living: dict[int, list[tuple[bytes, Place]]] = {n: [] for n in ends}
            for hash, place in self._index.all():
                if hash not in live:
                    dead.append(hash)
                elif place.pack in living:
                    living[place.pack].append((hash, place))
            empty = [n for n in ends if not living[n]]
            self._index.change(remove=dead, drop_packs=empty)
            freed = self._delete_packs(empty)
            for number, end in ends.items():
                size = sum(RECORD.size + place.length for _, place in living[number])
                if number not in empty and size * 2 < end and self._move(living[number]):
                    self._index.change(drop_packs=[number])
                    freed += self._delete_packs([number]) - size
        return Pruned(len(dead), freed)

    def _delete_packs(self, numbers: list[int]) -> int:
        freed = 0
        for number in numbers:
            path = pack_path(self._packs, number)
            freed += path.stat().st_size
            path.unlink()
        sync_directory(self._packs)
        return freed

    def _move(self, chunks: list[tuple[bytes, Place]]) -> bool:
        """Append live chunks again; False when one is damaged or there is no room: the old pack stays."""
        try:
            for hash, place in chunks:
                frame = read_frame(self._packs, hash, place)
                with self._lock:
                    head = record_head(hash, place.plain, frame)
                    self._pending[hash] = self._append(head, frame, place.plain)
        except (ChunkInvalid, StoreFull):
            return False
        finally:
            self.commit()
        return True

    def totals(self) -> StoreTotals:
        """Counts and sizes, for people and for alarms."""
        chunks, stored, damaged = self._index.totals()
        stat = os.statvfs(self.path)
        return StoreTotals(chunks, stored, damaged, stat.f_bavail * stat.f_frsize, self._reserve)
