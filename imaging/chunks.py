"""One chunk's life: read through its mask, hash, compress; and back, with every size limited.

What a thread reads or decompresses goes into a buffer that it uses again: fresh memory for each chunk would
cost a page fault per 4 KiB, which is as much time as hashing them.
"""

import mmap
import os
import threading
from collections.abc import Iterable

import zstandard
from blake3 import blake3

from imaging.errors import ChunkInvalid, DiskError
from imaging.manifest import CHUNK_SIZE, HASH_SIZE

#: No valid frame is longer: zstd adds less than 0.5 % to what it cannot compress (ZSTD_COMPRESSBOUND).
MAX_FRAME = CHUNK_SIZE + (CHUNK_SIZE >> 8) + 64
DEFAULT_LEVEL = 3
#: Both hash tables of DEFAULT_LEVEL (zstd's strategy "dfast") have 2^15 entries, 256 KiB together: they stay
#: in a core's second-level cache beside the chunk. zstd would take 768 KiB for 1 MiB of data: measured 13 %
#: slower, for frames that are 1.4 % smaller (which recompression makes good).
_TABLES = {"hash_log": 15, "chain_log": 15}

_local = threading.local()


def hash_chunk(data: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3-256 of a plain chunk, 32 bytes."""
    return blake3(data).digest()


def compress(data: bytes | bytearray | memoryview, level: int = DEFAULT_LEVEL) -> bytes:
    """One zstd frame (RFC 8878) with its content size in the header; at most ``CHUNK_SIZE`` bytes go in."""
    if len(data) > CHUNK_SIZE:
        raise ValueError(f"a chunk has at most {CHUNK_SIZE} bytes, not {len(data)}")
    compressors: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    compressor = compressors.get(level)
    if compressor is None:
        tables = _TABLES if level == DEFAULT_LEVEL else {}
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, source_size=CHUNK_SIZE, write_content_size=True, **tables
        )
        compressor = compressors[level] = zstandard.ZstdCompressor(compression_params=parameters)
    return compressor.compress(data)


def content_size(hash: bytes, frame: bytes) -> int:
    """Plain length that an untrusted frame announces, 1 to ``CHUNK_SIZE``; raises ChunkInvalid."""
    if len(frame) > MAX_FRAME:
        raise ChunkInvalid(hash, f"its frame has {len(frame)} bytes")
    try:
        parameters = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError:
        raise ChunkInvalid(hash, "it is not a zstd frame") from None
    # An unknown size reads as 2**64-1, so this also refuses frames that do not tell.
    size: int = parameters.content_size
    if not 0 < size <= CHUNK_SIZE or parameters.dict_id:
        raise ChunkInvalid(hash, "its zstd frame announces a size outside the format")
    return size


def open_frame(hash: bytes, frame: bytes) -> bytes:
    """Decompress an untrusted frame and check it against its hash.

    Returns the plain chunk. Raises ChunkInvalid when it is not one complete zstd frame of at most
    ``CHUNK_SIZE`` bytes whose BLAKE3-256 is ``hash``. Never allocates more than ``CHUNK_SIZE`` for the plain
    bytes.
    """
    size = content_size(hash, frame)
    decompressor: zstandard.ZstdDecompressor | None = _local.__dict__.get("decompressor")
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        data: bytes = decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        raise ChunkInvalid(hash, "it does not decompress") from None
    if len(hash) != HASH_SIZE or blake3(data).digest() != hash:
        raise ChunkInvalid(hash, "its content has another hash")
    return data


def open_in_place(hash: bytes, frame: bytes) -> memoryview:
    """As :func:`open_frame`, into a buffer of this thread: valid until the thread's next call.

    Raises ChunkInvalid.
    """
    size = content_size(hash, frame)
    if not _is_one_frame(frame):
        raise ChunkInvalid(hash, "it is not one complete zstd frame")
    decompressor: zstandard.ZstdDecompressor | None = _local.__dict__.get("streaming")
    if decompressor is None:
        decompressor = _local.streaming = zstandard.ZstdDecompressor()
    data = _buffer("opened")[:size]
    try:
        with decompressor.stream_reader(frame) as reader:
            count = reader.readinto(data)
            # What is left (an empty last block, the checksum) must be right too, and hold nothing more.
            more = reader.read(1)
    except zstandard.ZstdError:
        raise ChunkInvalid(hash, "it does not decompress") from None
    if count != size or more or len(hash) != HASH_SIZE or hash_chunk(data) != hash:
        raise ChunkInvalid(hash, "its content has another hash")
    return data


def _is_one_frame(frame: bytes) -> bool:
    """Does the frame end where the bytes end? (RFC 8878 §3.1.1: header, blocks, checksum.)"""
    try:
        at: int = zstandard.frame_header_size(frame)
        checksum = 4 if zstandard.get_frame_parameters(frame).has_checksum else 0
    except zstandard.ZstdError:
        return False
    last = 0
    while not last:
        header = int.from_bytes(frame[at : at + 3], "little")
        if len(frame) < at + 3:
            return False
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        at += 3 + (1 if kind == 1 else size)  # kind 1: one byte, repeated `size` times
    return at + checksum == len(frame)


def _buffer(name: str) -> memoryview:
    """This thread's own ``CHUNK_SIZE`` bytes for one use, at a page's start."""
    buffer: memoryview | None = _local.__dict__.get(name)
    if buffer is None:
        buffer = _local.__dict__[name] = memoryview(mmap.mmap(-1, CHUNK_SIZE))
    return buffer


_ZEROS = memoryview(bytes(CHUNK_SIZE))


def read_in_place(length: int, pieces: Iterable[tuple[int, int, int, int]]) -> memoryview:
    """Read ``pieces`` (start in the chunk, bytes, open file, place in it), ascending; zeros between them.

    Returns ``length`` bytes in a buffer of this thread, valid until the thread's next call. Raises DiskError.
    """
    return _fill(_buffer("read")[:length], pieces)


def read_masked(
    fd: int, offset: int, length: int, runs: Iterable[tuple[int, int]], buffer: memoryview | None = None
) -> memoryview:
    """Read a chunk of a disk: used runs (start, length relative to ``offset``) as they are, the rest zeros.

    It lies in ``buffer`` (:class:`Buffers`), or in memory of its own. Raises DiskError when the disk cannot
    be read or ends too early.
    """
    data = memoryview(bytearray(length)) if buffer is None else buffer[:length]
    return _fill(data, ((start, size, fd, offset + start) for start, size in runs))


def _fill(data: memoryview, pieces: Iterable[tuple[int, int, int, int]]) -> memoryview:
    end = 0
    for start, size, fd, place in pieces:
        if start > end:
            data[end:start] = _ZEROS[: start - end]
        end = start + size
        read_exactly(fd, data[start:end], place)
    if end < len(data):
        data[end:] = _ZEROS[: len(data) - end]
    return data


class Buffers:
    """Room for whole chunks that goes from thread to thread and round again. Thread-safe."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """``CHUNK_SIZE`` bytes, whatever is in them."""
        try:
            return self._free.pop()
        except IndexError:
            return memoryview(mmap.mmap(-1, CHUNK_SIZE))

    def give(self, data: memoryview) -> None:
        """What was taken, or a part of it, is not needed any more."""
        self._free.append(memoryview(data.obj))


def read_exactly(fd: int, view: memoryview, offset: int) -> None:
    """Fill ``view`` from ``offset``; raises DiskError."""
    done = 0
    while done < len(view):
        try:
            count = os.preadv(fd, [view[done:]], offset + done)
        except OSError as error:
            raise DiskError(
                f"Reading the disk failed at byte {offset + done} ({error.strerror}): check the disk."
            ) from error
        if count == 0:
            raise DiskError(f"The disk ends at byte {offset + done}, before what was to be read there.")
        done += count


def write_exactly(fd: int, view: memoryview, offset: int) -> None:
    """Write all of ``view`` at ``offset``; raises DiskError."""
    done = 0
    while done < len(view):
        try:
            count = os.pwrite(fd, view[done:], offset + done)
        except OSError as error:
            raise DiskError(
                f"Writing the disk failed at byte {offset + done} ({error.strerror}): check the disk."
            ) from error
        done += count
