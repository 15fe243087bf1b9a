"""A manifest says what an image version is made of: disks, tables, partitions, used runs and chunk hashes.

Its bytes are canonical, so their BLAKE3-256 is the identity of the version. The layout is described field by
field in docs/image-format.md. A 50 GB image has 48,000 chunks, so hashes and runs stay packed, and
:class:`ChunkRef` values are made on demand.
"""

import bisect
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

from blake3 import blake3

from imaging import header
from imaging.diskimage import DiskImage
from imaging.errors import ManifestError
from imaging.rules import CAPTURE_MODES, HASH_SIZE, require
from imaging.runs import CHUNK_SIZE, Runs, merge_runs
from imaging.tables import GPT_ENTRY_SIZE, Ebr, GptTable, MbrTable, Partition, Table

__all__ = [
    "CAPTURE_MODES",
    "CHUNK_SIZE",
    "GPT_ENTRY_SIZE",
    "HASH_SIZE",
    "ChunkRef",
    "DiskImage",
    "Ebr",
    "GptTable",
    "Manifest",
    "MbrTable",
    "Partition",
    "Runs",
    "Table",
    "merge_runs",
]

_MAGIC = b"PXBMANIF"
_VERSION = 1
_HEAD = struct.Struct(">8sHHI")  # magic, version, flags (0), length of the JSON header
_MAX_HEADER = 8 << 20
_MAX_DISKS = 64


class ChunkRef(NamedTuple):
    """One chunk of a manifest: where it lies, its identity, and which bytes of it the image uses."""

    index: int  # type: ignore[assignment]  # tuple.index() gives way to the contract's name
    """Ordinal over the whole manifest: disks in order, offsets ascending."""
    disk: int
    """Which :class:`DiskImage`."""
    offset: int
    """Byte offset on that disk, a multiple of ``CHUNK_SIZE``."""
    length: int
    """``CHUNK_SIZE``, less for the last one of a disk."""
    hash: bytes
    """BLAKE3-256 of the chunk with unused bytes as zeros."""
    runs: tuple[tuple[int, int], ...]
    """Used (start, length) in bytes, relative to ``offset``, ascending."""


class _Chunks(Sequence[ChunkRef]):
    """Makes each ChunkRef when asked for it."""

    __slots__ = ("_disks", "_starts", "_total")

    def __init__(self, disks: tuple[DiskImage, ...]) -> None:
        self._disks = disks
        self._starts: list[int] = []
        self._total = 0
        for disk in disks:
            self._starts.append(self._total)
            self._total += len(disk.grid)

    def __len__(self) -> int:
        return self._total

    @overload
    def __getitem__(self, index: int) -> ChunkRef: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[ChunkRef]": ...
    def __getitem__(self, index: int | slice) -> "ChunkRef | Sequence[ChunkRef]":
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._total))]
        if index < 0:
            index += self._total
        if not 0 <= index < self._total:
            raise IndexError("chunk index out of range")
        # The last start that is <= index: a disk without chunks shares its start with its successor.
        disk = bisect.bisect_right(self._starts, index) - 1
        ordinal = index - self._starts[disk]
        offset, length, runs = self._disks[disk].grid[ordinal]
        at = ordinal * HASH_SIZE
        return ChunkRef(index, disk, offset, length, self._disks[disk].hashes[at : at + HASH_SIZE], runs)


class Manifest:
    """An image version, immutable. Two manifests are the same image exactly when their ``id`` is the same."""

    __slots__ = ("_bytes", "chunks", "disks", "id")

    disks: tuple[DiskImage, ...]
    id: str
    chunks: Sequence[ChunkRef]

    def __init__(self, disks: Iterable[DiskImage]) -> None:
        """Raises ManifestError when there are too many disks or none."""
        self.disks = tuple(disks)
        if not 1 <= len(self.disks) <= _MAX_DISKS:
            raise ManifestError(f"A manifest holds 1 to {_MAX_DISKS} disks, not {len(self.disks)}.")
        self.chunks = _Chunks(self.disks)
        self._bytes = _encode(self.disks)
        self.id = blake3(self._bytes).hexdigest()

    def to_bytes(self) -> bytes:
        return self._bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Parse untrusted bytes; raises ManifestError for anything that is not canonical format v1."""
        manifest = cls(_decode(data))
        # Whatever the JSON reader forgives (spaces, order, duplicate keys, escapes) shows here.
        if manifest._bytes != data:
            raise ManifestError("This manifest is not in canonical form.")
        return manifest

    @property
    def hashes(self) -> Iterator[bytes]:
        """All chunk hashes in order of index, without making ChunkRefs; a hash may come more than once."""
        for disk in self.disks:
            for at in range(0, len(disk.hashes), HASH_SIZE):
                yield disk.hashes[at : at + HASH_SIZE]

    @property
    def used(self) -> int:
        """Bytes that a full deploy writes, partition tables aside."""
        return sum(disk.used for disk in self.disks)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"<Manifest {self.id[:12]} disks={len(self.disks)} chunks={len(self.chunks)}>"


def _encode(disks: tuple[DiskImage, ...]) -> bytes:
    text = header.encode(disks)
    parts = [_HEAD.pack(_MAGIC, _VERSION, 0, len(text)), text]
    for disk in disks:
        parts += [disk.runs.pack(), disk.hashes]
    return b"".join(parts)


def _decode(data: bytes) -> list[DiskImage]:
    require(len(data) >= _HEAD.size and data[:8] == _MAGIC, "These bytes are not a pxeboot manifest.")
    _, version, flags, length = _HEAD.unpack_from(data)
    require(
        version == _VERSION,
        f"Manifest format {version} is not known here (only {_VERSION}): update this program.",
    )
    require(flags == 0, "The manifest uses a feature that is not known here: update this program.")
    require(length <= _MAX_HEADER and _HEAD.size + length <= len(data), "The manifest is cut short.")
    at = _HEAD.size + length
    disks = []
    for described in header.decode(data[_HEAD.size : at]):
        runs_end = at + described.runs * 16
        end = runs_end + described.chunks * HASH_SIZE
        require(end <= len(data), "The manifest is cut short.")
        runs, hashes = Runs.unpack(data[at:runs_end]), data[runs_end:end]
        disks.append(DiskImage(**described.fields, runs=runs, hashes=hashes))
        at = end
    require(at == len(data), "The manifest has bytes after its end.")
    return disks
