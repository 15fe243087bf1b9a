"""Deploy compares a disk with a manifest, writes only what differs, and proves the result by reading it back.

Because a chunk's hash covers only the bytes the image uses, and the writer puts down only those, scan and
write agree by construction; a deploy that was cut off is finished by running it again. Where frames come from
is the caller's business: :func:`deploy` asks a ``fetch`` callable (HTTP), a multicast receiver feeds
:meth:`DiskWriter.accept`. Where bytes go on a disk that is not like the source is a :class:`Placement`'s.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

from imaging.chunks import open_in_place
from imaging.errors import ChunkInvalid, VerifyFailed
from imaging.manifest import ChunkRef, Manifest
from imaging.pipeline import Progress, in_order, no_progress
from imaging.placement import Placement
from imaging.target import WIPE, Assignment, Target, check_target

__all__ = [
    "WIPE",
    "Deployed",
    "DiskWriter",
    "Fetch",
    "Verification",
    "check_target",
    "deploy",
    "scan",
    "verify",
    "verify_assigned",
]

#: A fetch that brings a damaged frame is asked again this often.
_ATTEMPTS = 3

Fetch = Callable[[ChunkRef], bytes]
"""Returns the zstd frame of a chunk; called from several threads. What it raises ends the deploy."""


class Verification(NamedTuple):
    """What reading the disk back found: indices of chunks that differ, and whether both tables are right."""

    bad: list[int]
    table_ok: bool

    @property
    def ok(self) -> bool:
        return self.table_ok and not self.bad


class Deployed(NamedTuple):
    """Chunks in all, found right before writing, and written; bytes of frames fetched; seconds per stage."""

    total: int
    kept: int
    written: int
    fetched: int
    seconds: dict[str, float]


def scan(
    disk_path: str | os.PathLike[str],
    manifest: Manifest,
    progress: Progress = no_progress,
    *,
    disk: int = 0,
    placement: Placement | None = None,
    workers: int | None = None,
) -> bytearray:
    """Hash the used runs of a disk against the manifest and tell what is wanted.

    Returns one byte per chunk of the manifest, 1 = this disk lacks it (0 for chunks of other disks). ``disk``
    says which disk of the manifest this is. Stage told: ``scan``, in bytes. Raises DiskTooSmall,
    UnsupportedDisk, DiskBusy, DiskError.
    """
    return _scan(Assignment(disk, os.fspath(disk_path), placement), manifest, progress, workers)


def _scan(assignment: Assignment, manifest: Manifest, progress: Progress, workers: int | None) -> bytearray:
    with Target(manifest, assignment, write=False) as target:
        return _compare(target, manifest, assignment.number, progress, "scan", workers)


def _compare(
    target: Target, manifest: Manifest, number: int, progress: Progress, stage: str, workers: int | None
) -> bytearray:
    def differs(ref: ChunkRef) -> tuple[int, bool, int]:
        covered = target.coverage(ref)
        return ref.index, covered > 0 and not target.matches(ref), covered

    want = bytearray(len(manifest.chunks))
    done, total = 0, manifest.disks[number].used
    count = workers or max(2, os.cpu_count() or 1)
    os.posix_fadvise(target.disk.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    pool = ThreadPoolExecutor(count, thread_name_prefix=stage)
    try:
        for index, wanted, used in in_order(pool, differs, _refs(manifest, number), ahead=4 * count):
            want[index] = wanted
            done += used
            progress(stage, done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    return want


def _refs(manifest: Manifest, number: int) -> Iterable[ChunkRef]:
    return (ref for ref in manifest.chunks if ref.disk == number)


def verify(
    disk_path: str | os.PathLike[str],
    manifest: Manifest,
    progress: Progress = no_progress,
    *,
    disk: int = 0,
    placement: Placement | None = None,
    workers: int | None = None,
) -> Verification:
    """Read the disk back past all caches and compare every used byte and both partition tables.

    Stage told: ``verify``, in bytes. Raises as :func:`scan` does.
    """
    assignment = Assignment(disk, os.fspath(disk_path), placement)
    return verify_assigned(assignment, manifest, progress, workers=workers)


def verify_assigned(
    assignment: Assignment,
    manifest: Manifest,
    progress: Progress = no_progress,
    *,
    workers: int | None = None,
) -> Verification:
    """As :func:`verify`, of a disk in the midst of its deploy."""
    with Target(manifest, assignment, write=False) as target:
        target.sync()
        target.disk.drop_caches()
        want = _compare(target, manifest, assignment.number, progress, "verify", workers)
        table_ok = target.table_right()
    return Verification([index for index, wanted in enumerate(want) if wanted], table_ok)


class DiskWriter:
    """Takes frames in any order, from any thread, and puts those that are wanted on the disk.

    ``want`` is the bitmap that :func:`scan` returned (None = every chunk); it is copied. Use it as a context
    manager, and call :meth:`finish` when :attr:`remaining` is 0.
    """

    def __init__(
        self,
        disk_path: str | os.PathLike[str] | Assignment,
        manifest: Manifest,
        want: bytes | bytearray | None = None,
        *,
        disk: int = 0,
    ) -> None:
        """Raises DiskTooSmall, UnsupportedDisk, DiskBusy, DiskError."""
        assignment = (
            disk_path if isinstance(disk_path, Assignment) else Assignment(disk, os.fspath(disk_path))
        )
        self._manifest = manifest
        chunks = manifest.chunks
        self._lock = threading.Lock()
        self.written = 0
        self.bytes_written = 0
        self._target = Target(manifest, assignment, write=True)
        if want is not None:
            self._want = bytearray(want)
        else:
            self._want = self._everything(assignment.number)
        self._remaining = sum(self._want)
        if len(self._want) != len(chunks):
            self.close()
            raise ValueError(f"want has {len(self._want)} bytes for {len(chunks)} chunks")

    def _everything(self, number: int) -> bytearray:
        """Wants every chunk of disk ``number`` of which something is written here."""
        disks = self._manifest.disks
        first, count = sum(len(disk.grid) for disk in disks[:number]), len(disks[number].grid)
        want = bytearray(len(self._manifest.chunks))
        want[first : first + count] = b"\1" * count
        if self._target.placement.only is not None:
            for index in range(first, first + count):
                want[index] = self._target.coverage(self._manifest.chunks[index]) > 0
        return want

    @property
    def remaining(self) -> int:
        """How many chunks are still wanted."""
        return self._remaining

    @property
    def want(self) -> bytes:
        """A copy of the bitmap as it is now: one byte per chunk, 1 = wanted."""
        with self._lock:
            return bytes(self._want)

    def wants(self, index: int) -> bool:
        """Whether this chunk is still wanted."""
        return 0 <= index < len(self._want) and bool(self._want[index])

    def accept(self, index: int, frame: bytes) -> bool:
        """Check a frame against the manifest and write it.

        True when the chunk is in place (written now or before); False when the frame is not this chunk:
        nothing was written, ask again. Raises DiskError when the disk does not take it. Thread-safe.
        """
        if not 0 <= index < len(self._want):
            return False
        if not self._want[index]:
            return True
        return self.put(self._manifest.chunks[index], frame) > 0

    def put(self, ref: ChunkRef, frame: bytes) -> int:
        """As :meth:`accept`, of a chunk that is wanted: bytes written; 0 = the frame is not this chunk."""
        try:
            data = open_in_place(ref.hash, frame)
        except ChunkInvalid:
            return 0
        if len(data) != ref.length:
            return 0
        size = self._target.write(ref, data)
        with self._lock:
            if self._want[ref.index]:
                self._want[ref.index] = 0
                self._remaining -= 1
                self.written += 1
                self.bytes_written += size
        return size

    def discard(self) -> int:
        """Tell the disk what it need not keep (:meth:`Target.discard`); before anything is written."""
        return self._target.discard()

    def finish(self) -> None:
        """Write the partition table for this disk's size, and wait until all is on the medium.

        The table comes last: a blank disk whose deploy was cut off does not look bootable. Raises DiskError;
        ValueError while chunks are still wanted.
        """
        if self._remaining:
            raise ValueError(f"{self._remaining} chunks are still wanted")
        self._target.finish()

    def close(self) -> None:
        self._target.close()

    def __enter__(self) -> "DiskWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def deploy(
    disk_path: str | os.PathLike[str] | Assignment,
    manifest: Manifest,
    fetch: Fetch,
    progress: Progress = no_progress,
    *,
    disk: int = 0,
    full: bool = False,
    check: bool = True,
    discard: bool = False,
    workers: int | None = None,
) -> Deployed:
    """Make a disk equal to the image: scan, fetch and write what differs, verify.

    ``disk_path`` may be an :class:`Assignment`, which places the image on a disk of another size (what file
    systems need afterwards is the caller's business). ``full`` skips the scan and writes everything;
    ``check=False`` leaves out the final verify; ``discard`` tells the disk first what it need not keep.
    Chunks that read back wrong are fetched and written once more. Stages told: ``scan``, ``write``,
    ``verify``, in bytes.

    Raises DiskTooSmall, UnsupportedDisk, DiskBusy, DiskError, ChunkInvalid when ``fetch`` keeps bringing
    damaged frames, VerifyFailed, and whatever ``fetch`` raises.
    """
    assignment = disk_path if isinstance(disk_path, Assignment) else Assignment(disk, os.fspath(disk_path))
    total = len(manifest.disks[assignment.number].grid)
    seconds = {"scan": 0.0, "write": 0.0, "verify": 0.0}

    def timed(stage: str, since: float) -> float:
        now = time.monotonic()
        seconds[stage] += now - since
        return now

    clock = time.monotonic()
    want = None if full else _scan(assignment, manifest, progress, workers)
    clock = timed("scan", clock)
    fetched = written = kept = 0
    for attempt in (1, 2):
        with DiskWriter(assignment, manifest, want) as writer:
            if attempt == 1:
                kept = total - writer.remaining
                if discard:
                    writer.discard()
            fetched += _fill(writer, manifest, fetch, progress, workers)
            writer.finish()
            written += writer.written
        clock = timed("write", clock)
        if not check:
            break
        result = verify_assigned(assignment, manifest, progress, workers=workers)
        clock = timed("verify", clock)
        if result.ok:
            break
        if attempt == 2:
            raise VerifyFailed(
                f"The disk {assignment.path} does not keep what is written ({len(result.bad)} chunks"
                f"{'' if result.table_ok else ' and the partition table'} read back wrong twice): replace it."
            )
        want = bytearray(len(manifest.chunks))
        for index in result.bad:
            want[index] = 1
    return Deployed(total, kept, written, fetched, seconds)


def _fill(
    writer: DiskWriter, manifest: Manifest, fetch: Fetch, progress: Progress, workers: int | None
) -> int:
    """Fetch and write everything wanted; returns the bytes of frames fetched."""

    def bring(index: int) -> tuple[int, int]:
        ref = manifest.chunks[index]
        size = 0
        for _ in range(_ATTEMPTS):
            frame = fetch(ref)
            size += len(frame)
            if writer.put(ref, frame):
                return size, sum(length for _, length in ref.runs)
        raise ChunkInvalid(ref.hash, "it came damaged every time")

    wanted = [index for index, flag in enumerate(writer.want) if flag]
    if len(wanted) == len(manifest.chunks):
        total = manifest.used
    else:
        total = sum(length for index in wanted for _, length in manifest.chunks[index].runs)
    fetched = done = 0
    count = workers or max(4, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(count, thread_name_prefix="fetch")
    try:
        for size, used in in_order(pool, bring, wanted, ahead=4 * count):
            fetched += size
            done += used
            progress("write", done, total)
    finally:
        pool.shutdown(cancel_futures=True)
    return fetched
