"""Making an image's chunks out of pieces of a disk that come in ascending order: no disk is needed for it.

What capture does with a disk, this does with a stream: partition after partition is unpacked, and each 1 MiB
of the grid goes into the store when the stream has passed it. Memory stays below about 100 MiB.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from imaging.capture import Missing, Upload
from imaging.chunks import compress, hash_chunk
from imaging.disk.table import without_chain
from imaging.manifest import CHUNK_SIZE, DiskImage, Partition, Runs, Table, merge_runs
from imaging.runs import MERGE_GAP

_THREADS = 2
_AHEAD = 16


class Assembler:
    """The chunks of one disk. Use as a context manager; ``put`` in ascending order, then ``finish``."""

    def __init__(self, size: int, sector_size: int, *, missing: Missing, upload: Upload, level: int) -> None:
        self.size, self.sector_size = size, sector_size
        self._missing, self._upload, self._level = missing, upload, level
        self._runs: list[tuple[int, int]] = []
        self._begin = self._end = 0  # the run that grows
        self._chunk = bytearray()
        self._offset = -1  # of the open chunk
        self._hashes: list[bytes] = []
        self._settled: set[bytes] = set()
        self._running: deque[Future[tuple[bytes, bytes | None]]] = deque()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="assemble")
        self.stored = 0
        """Bytes of frames that were new to the store."""

    @property
    def end(self) -> int:
        """Byte of the disk behind what was put last."""
        return self._end

    def put(self, offset: int, data: bytes | memoryview) -> None:
        """Used bytes of the disk; ``offset`` is not before the end of what was put last.

        ValueError when it is, or outside the disk, or not in whole sectors.
        """
        end = offset + len(data)
        if offset < self._end or end > self.size or offset % self.sector_size or end % self.sector_size:
            raise ValueError(f"bytes {offset} to {end} do not fit behind {self._end} of {self.size}")
        if not data:
            return
        # Gaps that the manifest will close anyway are closed here: file systems have millions of them.
        if self._end and offset - self._end < MERGE_GAP:
            self._end = end
        else:
            self._close_run()
            self._begin, self._end = offset, end
        view = memoryview(data)
        while view:
            position = offset // CHUNK_SIZE * CHUNK_SIZE
            if position != self._offset:
                self._close_chunk()
                self._offset = position
                self._chunk = bytearray(min(CHUNK_SIZE, self.size - position))
            at = offset - position
            part = view[: len(self._chunk) - at]
            self._chunk[at : at + len(part)] = part
            view, offset = view[len(part) :], offset + len(part)

    def _close_run(self) -> None:
        if self._end:
            self._runs.append((self._begin, self._end - self._begin))

    def _close_chunk(self) -> None:
        if self._offset < 0:
            return
        if len(self._running) >= _AHEAD:
            self._take()
        self._running.append(self._pool.submit(self._make, self._chunk))

    def _make(self, chunk: bytearray) -> tuple[bytes, bytes | None]:
        """Hash, and compress what the store may lack."""
        hash = hash_chunk(chunk)
        if hash in self._settled or not self._missing([hash])[0]:
            return hash, None
        return hash, compress(chunk, self._level)

    def _take(self) -> None:
        hash, frame = self._running.popleft().result()
        self._hashes.append(hash)
        if frame is not None and hash not in self._settled:
            self._upload([(hash, frame)])
            self.stored += len(frame)
        self._settled.add(hash)

    def finish(self, table: Table | None, partitions: Sequence[Partition]) -> DiskImage:
        """The disk of the manifest. Raises ManifestError when table and content do not fit together."""
        self._close_chunk()
        self._offset = -1
        self._close_run()
        while self._running:
            self._take()
        runs = Runs(without_chain(merge_runs(self._runs), table, self.sector_size))
        return DiskImage(self.size, self.sector_size, table, tuple(partitions), runs, b"".join(self._hashes))

    def __enter__(self) -> "Assembler":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for future in self._running:
            future.cancel()
        self._pool.shutdown(cancel_futures=True)
