"""Capture reads the used bytes of a disk once and sends only the chunks that the other side lacks.

A pipeline: threads read and hash, batches of hashes are asked for, threads compress what is missing, one
thread uploads. Memory stays below about 100 MiB. The source is opened for reading only.
"""

import bisect
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from imaging.chunks import DEFAULT_LEVEL, compress, hash_chunk, read_masked
from imaging.disk.device import Disk
from imaging.disk.inspect import inspect
from imaging.manifest import DiskImage, Manifest
from imaging.options import CaptureOptions
from imaging.pipeline import Progress, in_order, no_progress
from imaging.runs import Grid, Runs

#: One byte per chunk is non-zero where the chunk is missing.
Missing = Callable[[Sequence[bytes]], Sequence[bool] | bytes]
#: Takes (hash, frame) pairs in disk order; returns when they are stored.
Upload = Callable[[Sequence[tuple[bytes, bytes]]], object]

#: Chunks per question and per upload.
BATCH = 16


def capture(
    disk_path: str | os.PathLike[str],
    *,
    missing: Missing,
    upload: Upload,
    progress: Progress = no_progress,
    workers: int | None = None,
    level: int = DEFAULT_LEVEL,
    tell: Callable[[str], None] = lambda sentence: None,
    options: CaptureOptions = CaptureOptions(),
) -> Manifest:
    """Capture a whole disk (block device or plain file); when it returns, every chunk is uploaded.

    ``missing(hashes)`` answers for at most ``BATCH`` hashes; ``upload([(hash, frame), …])`` gets at most as
    many and is called from one other thread, never twice at a time. Stages told to ``progress``: ``scan``
    (reading the maps of used blocks), ``upload``. ``tell`` gets a line per partition.

    Raises FilesystemDirty, FilesystemUnsupported, OptionsError, UnsupportedDisk, DiskBusy, DiskError,
    ToolMissing, and whatever the callbacks raise.
    """
    workers = workers or max(2, os.cpu_count() or 1)
    with Disk(disk_path) as disk:
        progress("scan", 0, disk.size)
        layout = inspect(disk, tell, options)
        progress("scan", disk.size, disk.size)
        os.posix_fadvise(disk.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        grid = Grid(layout.size, layout.runs)
        pool = ThreadPoolExecutor(workers, thread_name_prefix="capture")
        sender = ThreadPoolExecutor(1, thread_name_prefix="upload")
        try:
            read = _reader(disk.fd, grid, layout.blank)
            hashes = _stream(read, grid, pool, sender, missing, upload, progress, level)
        finally:
            pool.shutdown(cancel_futures=True)
            sender.shutdown(cancel_futures=True)
    image = DiskImage(
        layout.size, layout.sector_size, layout.table, layout.partitions, layout.runs, b"".join(hashes)
    )
    return Manifest([image])


def _reader(fd: int, grid: Grid, blank: Runs) -> Callable[[int], bytearray]:
    """A function that reads the chunk of an ordinal, with zeros where the disk is unused or ``blank``."""
    starts = [start for start, _ in blank]

    def read(ordinal: int) -> bytearray:
        offset, length, runs = grid[ordinal]
        data = read_masked(fd, offset, length, runs)
        for number in range(max(0, bisect.bisect_right(starts, offset) - 1), len(starts)):
            start, size = blank[number]
            if start >= offset + length:
                break
            begin, end = max(start - offset, 0), min(start + size - offset, length)
            if begin < end:
                data[begin:end] = bytes(end - begin)
        return data

    return read


def _stream(
    read: Callable[[int], bytearray],
    grid: Grid,
    pool: ThreadPoolExecutor,
    sender: ThreadPoolExecutor,
    missing: Missing,
    upload: Upload,
    progress: Progress,
    level: int,
) -> list[bytes]:
    def read_and_hash(ordinal: int) -> tuple[bytes, bytearray, int]:
        data = read(ordinal)
        return hash_chunk(data), data, sum(size for _, size in grid[ordinal][2])

    def squeeze(chunk: tuple[bytes, bytearray]) -> tuple[bytes, bytes]:
        hash, data = chunk
        return hash, compress(data, level)

    total = sum(size for ordinal in range(len(grid)) for _, size in grid[ordinal][2])
    done, hashes = 0, []
    settled: set[bytes] = set()  # asked for before: zero chunks and copies come many times
    sending: Future[object] | None = None
    chunks = in_order(pool, read_and_hash, range(len(grid)), ahead=2 * BATCH)
    while batch := list(itertools.islice(chunks, BATCH)):
        fresh: dict[bytes, bytearray] = {}
        for hash, data, used in batch:
            hashes.append(hash)
            done += used
            if hash not in settled:
                fresh[hash] = data
        del batch
        settled.update(fresh)
        answer = missing(list(fresh)) if fresh else []
        wanted = [(hash, data) for (hash, data), lacks in zip(fresh.items(), answer, strict=True) if lacks]
        frames = list(pool.map(squeeze, wanted))
        if sending is not None:
            sending.result()  # one upload at a time: a slow network holds the reading back
        sending = sender.submit(upload, frames) if frames else None
        progress("upload", done, total)
    if sending is not None:
        sending.result()
    return hashes
