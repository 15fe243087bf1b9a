"""Deploy compares a disk with a manifest, writes only what differs, and proves the result by reading it back.

Because a chunk's hash covers only the bytes the image uses, and the writer puts down only those, scan and
write agree by construction; a deploy that was cut off is finished by running it again. Where frames come from
is the caller's business: :func:`deploy` asks a ``fetch`` callable (HTTP), a multicast receiver feeds
:meth:`DiskWriter.accept`.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

from imaging.chunks import hash_chunk, open_frame, read_masked, write_exactly
from imaging.disk.device import Disk
from imaging.disk.table import table_right, write_table
from imaging.errors import ChunkInvalid, DiskTooSmall, UnsupportedDisk, VerifyFailed
from imaging.manifest import ChunkRef, DiskImage, Manifest
from imaging.pipeline import Progress, in_order, no_progress

#: Unused bytes this near to a partition's ends are zeroed: signatures of what was there before lie in them,
#: and would make blkid see two file systems (Btrfs at 64 KiB, md 0.90/1.0 and ZFS in the last 128 KiB).
WIPE = 128 << 10
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


def check_target(disk: Disk, image: DiskImage) -> None:
    """Raises DiskTooSmall with the numbers, or UnsupportedDisk when the sector sizes differ."""
    if disk.size < image.minimum_size:
        raise DiskTooSmall(disk.path, image.minimum_size, disk.size)
    if disk.sector_size != image.sector_size:
        raise UnsupportedDisk(
            f"The disk {disk.path} has {disk.sector_size}-byte sectors, the image was captured from one with "
            f"{image.sector_size}: choose a disk like that one, or capture an image from one like this."
        )


def _open(path: str | os.PathLike[str], manifest: Manifest, number: int, *, write: bool) -> Disk:
    image = manifest.disks[number]
    disk = Disk(path, write=write, sector_size=image.sector_size)
    try:
        check_target(disk, image)
    except BaseException:
        disk.close()
        raise
    return disk


def scan(
    disk_path: str | os.PathLike[str],
    manifest: Manifest,
    progress: Progress = no_progress,
    *,
    disk: int = 0,
    workers: int | None = None,
) -> bytearray:
    """Hash the used runs of a disk against the manifest and tell what is wanted.

    Returns one byte per chunk of the manifest, 1 = this disk lacks it (0 for chunks of other disks). ``disk``
    says which disk of the manifest this is. Stage told: ``scan``, in bytes. Raises DiskTooSmall,
    UnsupportedDisk, DiskBusy, DiskError.
    """
    with _open(disk_path, manifest, disk, write=False) as opened:
        return _compare(opened, manifest, disk, progress, "scan", workers)


def _compare(
    disk: Disk, manifest: Manifest, number: int, progress: Progress, stage: str, workers: int | None
) -> bytearray:
    def differs(ref: ChunkRef) -> tuple[int, bool, int]:
        data = read_masked(disk.fd, ref.offset, ref.length, ref.runs)
        return ref.index, hash_chunk(data) != ref.hash, sum(size for _, size in ref.runs)

    want = bytearray(len(manifest.chunks))
    done, total = 0, manifest.disks[number].used
    count = workers or max(2, os.cpu_count() or 1)
    os.posix_fadvise(disk.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
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
    workers: int | None = None,
) -> Verification:
    """Read the disk back past all caches and compare every used byte and both partition tables.

    Stage told: ``verify``, in bytes. Raises as :func:`scan` does.
    """
    with _open(disk_path, manifest, disk, write=False) as opened:
        opened.sync()
        opened.drop_caches()
        image = manifest.disks[disk]
        want = _compare(opened, manifest, disk, progress, "verify", workers)
        table_ok = table_right(opened, image.table, image.partitions)
    return Verification([index for index, wanted in enumerate(want) if wanted], table_ok)


class DiskWriter:
    """Takes frames in any order, from any thread, and puts those that are wanted on the disk.

    ``want`` is the bitmap that :func:`scan` returned (None = every chunk); it is copied. Use it as a context
    manager, and call :meth:`finish` when :attr:`remaining` is 0.
    """

    def __init__(
        self,
        disk_path: str | os.PathLike[str],
        manifest: Manifest,
        want: bytes | bytearray | None = None,
        *,
        disk: int = 0,
    ) -> None:
        """Raises DiskTooSmall, UnsupportedDisk, DiskBusy, DiskError."""
        self._manifest, self._image = manifest, manifest.disks[disk]
        chunks = manifest.chunks
        self._want = bytearray(want) if want is not None else bytearray(ref.disk == disk for ref in chunks)
        if len(self._want) != len(chunks):
            raise ValueError(f"want has {len(self._want)} bytes for {len(chunks)} chunks")
        self._lock = threading.Lock()
        self._remaining = sum(self._want)
        self.written = 0
        self.bytes_written = 0
        self._disk = _open(disk_path, manifest, disk, write=True)

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
        ref = self._manifest.chunks[index]
        try:
            data = memoryview(open_frame(ref.hash, frame))
        except ChunkInvalid:
            return False
        if len(data) != ref.length:
            return False
        for start, size in ref.runs:
            write_exactly(self._disk.fd, data[start : start + size], ref.offset + start)
        with self._lock:
            if self._want[index]:
                self._want[index] = 0
                self._remaining -= 1
                self.written += 1
                self.bytes_written += sum(size for _, size in ref.runs)
        return True

    def finish(self) -> None:
        """Write the partition table for this disk's size, both copies, and wait until all is on the medium.

        The table comes last: a blank disk whose deploy was cut off does not look bootable. Raises DiskError;
        ValueError while chunks are still wanted.
        """
        if self._remaining:
            raise ValueError(f"{self._remaining} chunks are still wanted")
        self._wipe_stale_signatures()
        self._disk.sync()
        write_table(self._disk, self._image.table, self._image.partitions)

    def _wipe_stale_signatures(self) -> None:
        runs = list(self._image.runs)
        for p in self._image.partitions:
            if p.capture in ("whole", "none"):
                continue
            end = p.start + p.size
            edges = [(p.start, min(p.start + WIPE, end)), (max(end - WIPE, p.start), end)]
            for begin, stop in edges:
                for start, length in _gaps(begin, stop, runs):
                    write_exactly(self._disk.fd, memoryview(bytes(length)), start)

    def close(self) -> None:
        self._disk.close()

    def __enter__(self) -> "DiskWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _gaps(begin: int, end: int, runs: Iterable[tuple[int, int]]) -> Iterable[tuple[int, int]]:
    """(start, length) of what lies between ``begin`` and ``end`` and in no run; runs are ascending."""
    for start, length in runs:
        if start + length <= begin:
            continue
        if start >= end:
            break
        if start > begin:
            yield begin, start - begin
        begin = start + length
    if begin < end:
        yield begin, end - begin


def deploy(
    disk_path: str | os.PathLike[str],
    manifest: Manifest,
    fetch: Fetch,
    progress: Progress = no_progress,
    *,
    disk: int = 0,
    full: bool = False,
    check: bool = True,
    workers: int | None = None,
) -> Deployed:
    """Make a disk equal to the image: scan, fetch and write what differs, verify.

    ``full`` skips the scan and writes everything; ``check=False`` leaves out the final verify. Chunks that
    read back wrong are fetched and written once more. Stages told: ``scan``, ``write``, ``verify``, in bytes.

    Raises DiskTooSmall, UnsupportedDisk, DiskBusy, DiskError, ChunkInvalid when ``fetch`` keeps bringing
    damaged frames, VerifyFailed, and whatever ``fetch`` raises.
    """
    seconds = {"scan": 0.0, "write": 0.0, "verify": 0.0}

    def timed(stage: str, since: float) -> float:
        now = time.monotonic()
        seconds[stage] += now - since
        return now

    clock = time.monotonic()
    want = None if full else scan(disk_path, manifest, progress, disk=disk, workers=workers)
    clock = timed("scan", clock)
    fetched = written = kept = 0
    for attempt in (1, 2):
        with DiskWriter(disk_path, manifest, want, disk=disk) as writer:
            if attempt == 1:
                kept = len(manifest.disks[disk].grid) - writer.remaining
            fetched += _fill(writer, manifest, fetch, progress, workers)
            writer.finish()
            written += writer.written
        clock = timed("write", clock)
        if not check:
            break
        result = verify(disk_path, manifest, progress, disk=disk, workers=workers)
        clock = timed("verify", clock)
        if result.ok:
            break
        if attempt == 2:
            raise VerifyFailed(
                f"The disk {os.fspath(disk_path)} does not keep what is written ({len(result.bad)} chunks"
                f"{'' if result.table_ok else ' and the partition table'} read back wrong twice): replace it."
            )
        want = bytearray(len(manifest.chunks))
        for index in result.bad:
            want[index] = 1
    return Deployed(len(manifest.disks[disk].grid), kept, written, fetched, seconds)


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
            if writer.accept(index, frame):
                return size, sum(length for _, length in ref.runs)
        raise ChunkInvalid(ref.hash, "it came damaged every time")

    wanted = [index for index, flag in enumerate(writer.want) if flag]
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
