"""Pack files: stored frames one after the other in the order they came, each able to prove itself.

A pack is a 16-byte head and records; a record is a 56-byte head (chunk hash, plain length, frame length,
check) and the frame. The check is the first 16 bytes of BLAKE3 over the three fields before it and the frame:
it finds any damage without decompressing (measured 5.4 GB/s, twice as fast as zlib's CRC-32), so that a
damaged frame is never served. Because records name their chunks, a lost index can be rebuilt from the packs.
"""

import mmap
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from imaging.chunks import MAX_FRAME
from imaging.errors import ChunkInvalid
from imaging.manifest import CHUNK_SIZE

PACK_HEAD = struct.Struct(">8sII")
PACK_MAGIC = b"PXBPACK\n"
PACK_VERSION = 1
RECORD = struct.Struct(">32sII16s")
_CHECKED = 40  # bytes of the record head before the check
# RFC 8878 §3.1.1: every frame begins with it. Not for mmap.find(): up to CPython 3.11.4 (Debian 12: 3.11.2)
# it reads one byte too far (gh-105235), and dies when the file ends with its page.
_ZSTD_MAGIC = re.compile(rb"\x28\xb5\x2f\xfd")


class Place(NamedTuple):
    """Where a frame lies: pack number, offset of the record in it, frame length, plain length."""

    pack: int
    offset: int
    length: int
    plain: int

    @property
    def end(self) -> int:
        """Offset behind the record."""
        return self.offset + RECORD.size + self.length


def pack_path(directory: Path, number: int) -> Path:
    return directory / f"{number:08d}.pack"


def pack_numbers(directory: Path) -> list[int]:
    return sorted(int(p.stem) for p in directory.glob("*.pack") if p.stem.isdecimal())


def record_head(hash: bytes, plain: int, frame: bytes) -> bytes:
    """The 56 bytes that go before ``frame``."""
    fields = RECORD.pack(hash, plain, len(frame), bytes(16))[:_CHECKED]
    return fields + blake3(fields).update(frame).digest(16)


def read_frame(directory: Path, hash: bytes, place: Place) -> bytes:
    """The frame at ``place``, checked. Raises ChunkInvalid; FileNotFoundError when the pack was pruned."""
    # The place comes from the index, whose bits can flip like all others.
    sane = all(type(number) is int for number in place) and 0 < place.pack < 1 << 40
    if not (sane and 0 <= place.offset < 1 << 50 and 0 < place.length <= MAX_FRAME and place.plain > 0):
        raise ChunkInvalid(hash, "its place in the index is not possible")
    try:
        fd = os.open(pack_path(directory, place.pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.pread(fd, RECORD.size, place.offset)
            frame = os.pread(fd, place.length, place.offset + RECORD.size)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ChunkInvalid(hash, f"its pack cannot be read: {error.strerror}") from error
    if len(frame) != place.length:
        raise ChunkInvalid(hash, "its pack is cut short")
    if place.plain > CHUNK_SIZE or head != record_head(hash, place.plain, frame):
        raise ChunkInvalid(hash, "its stored bytes have changed")
    return frame


def name_at(directory: Path, place: Place) -> bytes:
    """The hash in the record head at ``place``, whatever follows; b"" where nothing can be read."""
    try:
        with open(pack_path(directory, place.pack), "rb") as file:
            file.seek(place.offset)
            return file.read(32)
    except (OSError, ValueError, OverflowError, TypeError):
        return b""


def scan(directory: Path, number: int, start: int) -> Iterator[tuple[bytes, Place]]:
    """Whole and undamaged records from ``start`` on; what lies between them (damage, torn writes) is skipped.

    Behind a record whose length cannot be believed the next one is found by its frame's first four bytes.
    """
    path = pack_path(directory, number)
    size = path.stat().st_size
    if size <= max(start, PACK_HEAD.size):
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = max(start, PACK_HEAD.size)
        while at + RECORD.size < size:
            found = _record(data, at, size)
            if found is None:
                # Its length may be right all the same (a flipped bit in the frame): look behind it first.
                plain, length = RECORD.unpack_from(data, at)[1:3]
                behind = at + RECORD.size + length
                if not (0 < plain <= CHUNK_SIZE and 0 < length <= MAX_FRAME and _record(data, behind, size)):
                    behind = _next(data, at + 1, size)
                if behind < 0:
                    return
                at = behind
                continue
            hash, plain, length = found
            yield hash, Place(number, at, length, plain)
            at += RECORD.size + length


def _record(data: mmap.mmap, at: int, size: int) -> tuple[bytes, int, int] | None:
    """(hash, plain, length) of the record at ``at`` when it is whole."""
    if at + RECORD.size > size:
        return None
    hash, plain, length, _ = RECORD.unpack_from(data, at)
    end = at + RECORD.size + length
    if not 0 < plain <= CHUNK_SIZE or not 0 < length <= MAX_FRAME or end > size:
        return None
    frame = data[at + RECORD.size : end]
    if data[at : at + RECORD.size] != record_head(hash, plain, frame):
        return None
    return hash, plain, length


def _next(data: mmap.mmap, start: int, size: int) -> int:
    """Where the next whole record begins, -1 for nowhere."""
    at = start + RECORD.size
    while found := _ZSTD_MAGIC.search(data, at):
        if _record(data, found.start() - RECORD.size, size):
            return found.start() - RECORD.size
        at = found.start() + 1
    return -1


def sync_directory(path: Path) -> None:
    """Make created, renamed and removed names in ``path`` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
