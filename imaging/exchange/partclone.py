"""Reading partclone images, formats 0002 and 0001, as a stream: a core that takes bytes and gives blocks.

Layout: partclone's IMAGE_FORMATS.md, and src/partclone.h for the numbers. All integers are little-endian.

====== ==================================================== =====================================
0002   header 110 bytes, ends in its CRC-32                 bitmap, a bit per block, and its CRC-32;
                                                            used blocks, a checksum after every
                                                            ``blocks_per_checksum`` and after the last
0001   header 4160 bytes                                    bitmap, a byte per block, ``BiTmAgIc``;
                                                            a CRC-32 of 4 bytes after each used block
====== ==================================================== =====================================

The checksum of 0001 is known to be wrong: it counts the first byte of a block again and again, and programs
of 64 bits wrote 8 bytes of it. It is checked as it was made, but it proves little.
"""

from __future__ import annotations

import re
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from imaging.exchange import checksums
from imaging.exchange.errors import PartcloneInvalid
from imaging.exchange.streams import PIECE, Feed

MAGIC = b"partclone-image"
_HEAD_V1 = struct.Struct("<15s15s4s2sIQQQ")
_SIZE_V1 = _HEAD_V1.size + 4096
_HEAD_V2 = struct.Struct("<16s14s4sH16sQQQQIIHHHHIBBI")
_LITTLE_ENDIAN = 0xC0DE
_FEATURES = 18
_NO_BITMAP, _BITS, _BYTES = 0x00, 0x01, 0x08
_BIT_MAGIC = b"BiTmAgIc"
_MAX_BLOCK = 64 << 20
#: Bytes of bitmap that are read: 8 TiB of 4 KiB blocks.
_MAX_BITMAP = 256 << 20
#: Stretches of used blocks that are kept in memory; a real file system of that size has far fewer.
_MAX_RUNS = 1 << 24
_MAX_SIZE = 1 << 62


@dataclass(frozen=True, slots=True)
class Header:
    """What an image says of itself. ``device_size`` and ``block_size`` in bytes."""

    version: int
    filesystem: str
    """partclone's name: ``EXTFS NTFS FAT XFS BTRFS … raw``."""
    device_size: int
    blocks: int
    block_size: int
    checksum: int
    """A mode of :mod:`imaging.exchange.checksums`; of 0001 always CRC-32."""
    blocks_per_checksum: int
    reseed: bool
    bitmap: int


class Image:
    """One image, read once from front to back.

    ``feed`` gives the decompressed image. The constructor reads header and bitmap; raises PartcloneInvalid.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._feed = Feed(pieces)
        self.header = self._read_header()
        self.runs = self._read_bitmap()
        """Used (first block, count), ascending, flat in one array."""

    @property
    def used_blocks(self) -> int:
        return sum(self.runs[1::2])

    @property
    def end(self) -> int:
        """Byte behind the last used block, counted from the partition's start."""
        return (self.runs[-2] + self.runs[-1]) * self.header.block_size if self.runs else 0

    def blocks(self) -> Iterator[tuple[int, memoryview]]:
        """(offset in the partition, bytes) of used blocks, ascending, at most about 1 MiB at a time.

        Checksums are checked as they come: what was yielded is proven only when the iterator has ended. Then
        also the end of the stream has been seen. Raises PartcloneInvalid and what the pieces raise.
        """
        strips = self._strips_v1() if self.header.version == 1 else self._strips_v2()
        size = self.header.block_size
        numbers = iter(self.runs)
        first, count = 0, 0
        for strip in strips:
            view = memoryview(strip)
            while view:
                if not count:
                    first, count = next(numbers), next(numbers)
                blocks = min(count, len(view) // size)
                yield first * size, view[: blocks * size]
                view = view[blocks * size :]
                first, count = first + blocks, count - blocks
        if not self._feed.ended():
            raise PartcloneInvalid(
                f"The partclone image goes on behind its last block (byte {self._feed.at}): "
                "it is damaged, or two images were joined. Take another copy of it."
            )

    # --- pieces of the file ---

    def _exactly(self, length: int, what: str) -> bytes:
        at = self._feed.at
        data = self._feed.take(length)
        if len(data) != length:
            raise PartcloneInvalid(
                f"The partclone image ends in {what}: {length} bytes should follow byte {at}, "
                f"there are {len(data)}. Copy all its pieces again."
            )
        return data

    def _read_header(self) -> Header:
        head = self._exactly(_HEAD_V1.size, "its header")
        if head[:15] != MAGIC:
            raise PartcloneInvalid("This is not a partclone image: give one that partclone -c made.")
        version = head[30:34]
        if version == b"0002":
            header = _parse_v2(head + self._exactly(_HEAD_V2.size - len(head), "its header"))
        elif version == b"0001":
            self._exactly(_SIZE_V1 - len(head), "its header")
            header = _parse_v1(head)
        else:
            raise PartcloneInvalid(
                f"Partclone's image format {version.decode('ascii', 'replace')!r} is not known here: "
                "restore it with partclone, and capture that disk."
            )
        _check(header)
        return header

    def _read_bitmap(self) -> array[int]:
        header = self.header
        if header.bitmap == _NO_BITMAP:
            return array("Q", [0, header.blocks] if header.blocks else [])
        if header.bitmap == _BYTES:
            data = self._long(header.blocks, "its map of used blocks")
            if self._exactly(8, "its map of used blocks") != _BIT_MAGIC:
                raise _damaged("the mark behind the map of used blocks is missing", self._feed.at - 8)
            runs = array("Q")
            for found in re.finditer(rb"\x01+", data):
                _append(runs, found.start(), found.end())
            return runs
        data = self._long((header.blocks + 7) // 8, "its map of used blocks")
        if self._exactly(4, "its map of used blocks") != _crc(data):
            raise _damaged("the checksum of the map of used blocks is wrong", self._feed.at - 4)
        return bit_runs(data, header.blocks)

    def _long(self, length: int, what: str) -> bytes:
        """Like ``_exactly``, but a length that lies costs no memory."""
        data = bytearray()
        while len(data) < length:
            data += self._exactly(min(PIECE, length - len(data)), what)
        return bytes(data)

    def _strips_v2(self) -> Iterator[bytes]:
        header = self.header
        size, mode = header.block_size, header.checksum
        # Without checksums the number means nothing (partclone writes 0).
        per = header.blocks_per_checksum if mode != checksums.NONE else 0
        length = checksums.SIZES[mode]
        left = self.used_blocks
        checksum, in_strip = checksums.start(mode), 0
        while left:
            count = min(left, max(1, PIECE // size), per - in_strip if per else left)
            data = self._exactly(count * size, "its blocks")
            checksum.update(data)
            left, in_strip = left - count, in_strip + count
            yield data
            if per and (in_strip == per or not left):
                at = self._feed.at
                if self._exactly(length, "a checksum") != checksum.digest():
                    raise _damaged(
                        f"the checksum of the {in_strip} blocks of {size} bytes before it is wrong", at
                    )
                in_strip = 0
                if header.reseed:
                    checksum = checksums.start(mode)

    def _strips_v1(self) -> Iterator[bytes]:
        size, used = self.header.block_size, self.used_blocks
        buggy = right = 0  # CRC-32 as 0001 made it, and as it was meant
        extra = 0  # bytes between a checksum and the next block: 4 when a 64-bit program wrote it
        for number in range(used):
            if number == 1:
                ahead = self._feed.take(4 + size + 4)
                self._feed.back(ahead)
                block, found = ahead[4 : 4 + size], ahead[4 + size :]
                if ahead[:4] == bytes(4) and found in (
                    _inverted(_buggy(block, buggy)),
                    _inverted(zlib.crc32(block, right)),
                ):
                    extra = 4
            if extra:
                self._exactly(extra, "a checksum")
            data = self._exactly(size, "its blocks")
            at = self._feed.at
            buggy, right = _buggy(data, buggy), zlib.crc32(data, right)
            if self._exactly(4, "a checksum") not in (_inverted(buggy), _inverted(right)):
                raise _damaged(f"the checksum of used block {number} is wrong", at)
            yield data
        if extra:
            self._exactly(extra, "a checksum")
        elif used == 1:
            ahead = self._feed.take(4)  # one block does not show which kind of program wrote it
            if ahead != bytes(4):
                self._feed.back(ahead)


def _buggy(block: bytes, crc: int) -> int:
    return zlib.crc32(block[:1] * len(block), crc)


def _inverted(crc: int) -> bytes:
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


def _crc(data: bytes) -> bytes:
    return _inverted(zlib.crc32(data))


def _damaged(what: str, at: int) -> PartcloneInvalid:
    return PartcloneInvalid(
        f"The partclone image is damaged: {what} (byte {at} of the unpacked image). "
        "Take another copy or an older backup of it."
    )


def _parse_v2(data: bytes) -> Header:
    if data[-4:] != _crc(data[:-4]):
        raise _damaged("the checksum of its header is wrong", _HEAD_V2.size - 4)
    (
        _,
        _,
        _,
        endian,
        filesystem,
        device_size,
        blocks,
        _,
        _,
        block_size,
        features,
        version,
        _,
        mode,
        length,
        per_checksum,
        reseed,
        bitmap,
        _,
    ) = _HEAD_V2.unpack(data)
    if endian != _LITTLE_ENDIAN:
        raise PartcloneInvalid(
            "The partclone image was made on a big-endian machine: restore it with partclone on such a "
            "machine, and capture that disk."
        )
    if features != _FEATURES or version != 2 or mode not in checksums.SIZES:
        raise PartcloneInvalid(
            f"The partclone image uses something that is not known here (features {features}, version "
            f"{version}, checksum {mode:#x}): update this program, or restore it with partclone."
        )
    if length != checksums.SIZES[mode] or (mode != checksums.NONE and not per_checksum):
        raise _damaged("its header contradicts itself about checksums", 96)
    return Header(
        2, _text(filesystem), device_size, blocks, block_size, mode, per_checksum, bool(reseed), bitmap
    )


def _parse_v1(data: bytes) -> Header:
    _, filesystem, _, _, block_size, device_size, blocks, _ = _HEAD_V1.unpack(data)
    return Header(1, _text(filesystem), device_size, blocks, block_size, checksums.CRC32, 1, False, _BYTES)


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("ascii", "replace")


def _check(header: Header) -> None:
    if not 0 < header.block_size <= _MAX_BLOCK or header.block_size % 512:
        raise _damaged(f"blocks of {header.block_size} bytes", 0)
    if header.bitmap not in (_NO_BITMAP, _BITS, _BYTES):
        raise _damaged(f"a map of used blocks of kind {header.bitmap}", 105)
    if header.blocks * header.block_size > _MAX_SIZE:
        raise _damaged(f"{header.blocks} blocks of {header.block_size} bytes", 60)
    if header.bitmap != _NO_BITMAP:
        length = header.blocks if header.bitmap == _BYTES else (header.blocks + 7) // 8
        if length > _MAX_BITMAP:
            raise PartcloneInvalid(
                f"The partclone image has a map of {length} bytes, more than is read here ({_MAX_BITMAP}): "
                "restore it with partclone, and capture that disk."
            )


def _byte_runs(value: int) -> tuple[tuple[int, int], ...]:
    runs, bit = [], 0
    while bit < 8:
        start = bit
        while bit < 8 and value >> bit & 1:
            bit += 1
        if bit > start:
            runs.append((start, bit - start))
        bit += 1
    return tuple(runs)


_RUNS_OF = tuple(_byte_runs(value) for value in range(256))
_SPANS = re.compile(rb"\xff+|[^\x00\xff]", re.DOTALL)


def bit_runs(bitmap: bytes, count: int) -> array[int]:
    """The runs of set bits among the first ``count``, least significant bit first: (first, length) flat.

    Free and full stretches cost nothing, so a map of millions of blocks takes well under a second.
    """
    runs = array("Q")
    begin = end = -1

    def add(start: int, stop: int) -> None:
        nonlocal begin, end
        stop = min(stop, count)
        if stop <= start:
            return
        if start == end:
            end = stop
            return
        if begin >= 0:
            _append(runs, begin, end)
        begin, end = start, stop

    for found in _SPANS.finditer(bitmap):
        at = found.start() * 8
        if found.end() - found.start() > 1 or bitmap[found.start()] == 0xFF:
            add(at, found.end() * 8)
        else:
            for start, length in _RUNS_OF[bitmap[found.start()]]:
                add(at + start, at + start + length)
    if begin >= 0:
        _append(runs, begin, end)
    return runs


def _append(runs: array[int], begin: int, end: int) -> None:
    if len(runs) >= 2 * _MAX_RUNS:
        raise PartcloneInvalid(
            f"The partclone image has used blocks in more than {_MAX_RUNS} places: it is damaged, or its "
            "file system is too scattered to be read here. Restore it with partclone, and capture that disk."
        )
    runs.extend((begin, end - begin))
