"""Capture reads the used bytes of a disk once and sends only the chunks that the other side lacks.

A pipeline: threads read and hash, batches of hashes are asked for, threads compress what is missing, one
thread uploads. Memory stays below about 120 MiB. The source is opened for reading only.
"""

import bisect
import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

from imaging.chunks import DEFAULT_LEVEL, Buffers, compress, hash_chunk, read_masked
from imaging.disk.device import Disk
from imaging.disk.inspect import inspect
from imaging.estimate import bytes_to_come
from imaging.manifest import DiskImage, Manifest
from imaging.options import CaptureOptions, OptionsError
from imaging.pipeline import Progress, in_order, no_progress
from imaging.runs import Grid, Runs

#: One byte per chunk is non-zero where the chunk is missing.
Missing = Callable[[Sequence[bytes]], Sequence[bool] | bytes]
#: Takes (hash, frame) pairs in disk order; returns when they are stored.
Upload = Callable[[Sequence[tuple[bytes, bytes]]], object]

#: Told about how many bytes are coming, before the first; raises when there is no room for them.
Room = Callable[[int], object]

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
    room: Room | None = None,
) -> Manifest:
    """Capture a whole disk (block device or plain file): :func:`capture_disks` of this one."""
    return capture_disks(
        [disk_path],
        missing=missing,
        upload=upload,
        progress=progress,
        workers=workers,
        level=level,
        tell=tell,
        options=options,
        room=room,
    )


def capture_disks(
    disk_paths: Sequence[str | os.PathLike[str]],
    *,
    missing: Missing,
    upload: Upload,
    progress: Progress = no_progress,
    workers: int | None = None,
    level: int = DEFAULT_LEVEL,
    tell: Callable[[str], None] = lambda sentence: None,
    options: CaptureOptions = CaptureOptions(),
    room: Room | None = None,
) -> Manifest:
    """Capture whole disks into one image, in this order; when it returns, every chunk is uploaded.

    All disks are looked at before the first one is read, so that a refusal costs no reading.
    ``missing(hashes)`` answers for at most ``BATCH`` hashes; ``upload([(hash, frame), …])`` gets at most as
    many and is called from one other thread, never twice at a time. Stages told to ``progress``, over all
    disks: ``scan`` (reading the maps of used blocks), ``upload``. ``tell`` gets a line per partition.
    ``room`` is asked with an estimate (imaging.estimate) before the first upload.

    Raises FilesystemDirty, FilesystemUnsupported, OptionsError, UnsupportedDisk, DiskBusy, DiskError,
    ToolMissing, ManifestError for no disk or too many, and whatever the callbacks raise.
    """
    if options.partitions is not None and len(disk_paths) > 1:
        raise OptionsError(
            "capture.partitions",
            list(options.partitions),
            "numbers are those of one disk, and several are captured: leave it away, or capture one disk",
        )
    with contextlib.ExitStack() as opened:
        disks = [opened.enter_context(Disk(path)) for path in disk_paths]
        total, seen = sum(disk.size for disk in disks), 0
        layouts = []
        for disk in disks:
            progress("scan", seen, total)
            layouts.append(inspect(disk, tell, options))
            seen += disk.size
        progress("scan", total, total)
        grids = [Grid(layout.size, layout.runs) for layout in layouts]
        readers = [
            _reader(disk.fd, grid, layout.blank)
            for disk, layout, grid in zip(disks, layouts, grids, strict=True)
        ]
        if room is not None:
            room(bytes_to_come(list(zip(readers, grids, strict=True)), missing, level))
        used = sum(length for layout in layouts for _, length in layout.runs)
        stream = opened.enter_context(_Stream(missing, upload, progress, level, workers, used))
        images = []
        for disk, layout, grid, read in zip(disks, layouts, grids, readers, strict=True):
            os.posix_fadvise(disk.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            hashes = stream.send(read, len(grid))
            images.append(
                DiskImage(
                    layout.size,
                    layout.sector_size,
                    layout.table,
                    layout.partitions,
                    layout.runs,
                    b"".join(hashes),
                    disk.emulated,
                )
            )
        stream.settle()
    return Manifest(images)


class Reader(Protocol):
    """Reads the chunk of an ordinal, into ``buffer`` if one is given; the bytes of it that are used."""

    def __call__(self, ordinal: int, buffer: memoryview | None = None) -> tuple[memoryview, int]: ...


def _reader(fd: int, grid: Grid, blank: Runs) -> Reader:
    """Chunks of an open disk, with zeros where it is unused or ``blank``."""
    starts = [start for start, _ in blank]

    def read(ordinal: int, buffer: memoryview | None = None) -> tuple[memoryview, int]:
        offset, length, runs = grid[ordinal]
        data = read_masked(fd, offset, length, runs, buffer)
        for number in range(max(0, bisect.bisect_right(starts, offset) - 1), len(starts)):
            start, size = blank[number]
            if start >= offset + length:
                break
            begin, end = max(start - offset, 0), min(start + size - offset, length)
            if begin < end:
                data[begin:end] = bytes(end - begin)
        return data, sum(size for _, size in runs)

    return read


class _Stream:
    """The pipeline of one capture: what it asked for on one disk, it does not ask for again on the next.

    While one batch is uploaded, the next is compressed and the one behind it read, so that all processors
    have work for as long as the network takes what they make.
    """

    def __init__(
        self,
        missing: Missing,
        upload: Upload,
        progress: Progress,
        level: int,
        workers: int | None,
        total: int,
    ) -> None:
        self._missing, self._upload, self._progress, self._level = missing, upload, progress, level
        self._done, self._total = 0, total
        self._settled: set[bytes] = set()  # asked for before: zero chunks and copies come many times
        self._compressing: deque[list[Future[tuple[bytes, bytes]]]] = deque()
        self._sending: Future[object] | None = None
        self._buffers = Buffers()
        self._pool = ThreadPoolExecutor(workers or max(2, os.cpu_count() or 1), thread_name_prefix="capture")
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="upload")

    def send(self, read: Reader, count: int) -> list[bytes]:
        """Read the chunks of a disk and upload what is missing; the hashes in order."""

        def read_and_hash(ordinal: int) -> tuple[bytes, memoryview, int]:
            data, used = read(ordinal, self._buffers.take())
            return hash_chunk(data), data, used

        hashes = []
        chunks = in_order(self._pool, read_and_hash, range(count), ahead=BATCH + BATCH // 2)
        while batch := list(itertools.islice(chunks, BATCH)):
            fresh: dict[bytes, memoryview] = {}
            for hash, data, used in batch:
                hashes.append(hash)
                self._done += used
                if hash in self._settled:
                    self._buffers.give(data)
                else:
                    self._settled.add(hash)
                    fresh[hash] = data
            self._offer(fresh)
            self._progress("upload", self._done, self._total)
        return hashes

    def _offer(self, fresh: dict[bytes, memoryview]) -> None:
        answer = self._missing(list(fresh)) if fresh else []
        wanted = []
        for (hash, data), lacks in zip(fresh.items(), answer, strict=True):
            if lacks:
                wanted.append(self._pool.submit(self._squeeze, hash, data))
            else:
                self._buffers.give(data)
        if wanted:
            self._compressing.append(wanted)
        if len(self._compressing) > 1:
            self._ship()

    def _squeeze(self, hash: bytes, data: memoryview) -> tuple[bytes, bytes]:
        frame = compress(data, self._level)
        self._buffers.give(data)
        return hash, frame

    def _ship(self) -> None:
        """Hand the oldest batch over to be uploaded; a slow network holds everything back here."""
        frames = [future.result() for future in self._compressing.popleft()]
        self._uploaded()
        self._sending = self._sender.submit(self._upload, frames)

    def _uploaded(self) -> None:
        if self._sending is not None:
            self._sending.result()

    def settle(self) -> None:
        """Wait until all is uploaded; raises what the upload raised."""
        while self._compressing:
            self._ship()
        self._uploaded()

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._sender.shutdown(cancel_futures=True)
