"""A manifest says what an image version is made of: disks, tables, partitions, used runs and chunk hashes.

Its bytes are canonical, so their BLAKE3-256 is the identity of the version. The layout is described field by
field in docs/image-format.md. A 50 GB image has 48,000 chunks, so hashes and runs stay packed, and
:class:`ChunkRef` values are made on demand.
"""

import bisect
import itertools
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

from blake3 import blake3

from imaging.errors import ManifestError
from imaging.runs import CHUNK_SIZE, MERGE_GAP, Grid, Runs, count_chunks, merge_runs

__all__ = [
    "CHUNK_SIZE",
    "HASH_SIZE",
    "ChunkRef",
    "DiskImage",
    "GptTable",
    "Manifest",
    "Partition",
    "Runs",
    "merge_runs",
]

HASH_SIZE = 32
GPT_ENTRY_SIZE = 128

_MAGIC = b"PXBMANIF"
_VERSION = 1
_HEAD = struct.Struct(">8sHHI")  # magic, version, flags (0), length of the JSON header
_MAX_HEADER = 8 << 20
_MAX_DISKS = 64
_MAX_SIZE = 1 << 62
_SECTOR_SIZES = (512, 1024, 2048, 4096)
#: How a partition's content went into the image.
CAPTURE_MODES = ("used", "whole", "header", "none")


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


@dataclass(frozen=True, slots=True)
class GptTable:
    """What is needed to write a GUID partition table (UEFI 2.10 §5.3) on a disk of any size."""

    guid: str
    """Disk GUID, lower case."""
    mbr: bytes
    """The 512 bytes of LBA 0 (boot code, protective record)."""
    entries: int
    """Number of 128-byte entries in the array (usually 128)."""
    first_usable: int
    """First LBA a partition may use."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition; start and sizes in bytes."""

    number: int
    type_guid: str
    unique_guid: str
    name: str
    attributes: int
    start: int
    size: int
    filesystem: str
    """``ext2 ext3 ext4 fat ntfs swap luks bitlocker … unknown`` (imaging.disk.probe)."""
    label: str
    uuid: str
    used: int
    """Bytes of this partition that are in the image (before merging of near runs)."""
    capture: str
    """``used`` = the file system's used blocks, ``whole`` = all bytes, ``header`` = the first page (swap)."""


@dataclass(frozen=True, slots=True)
class DiskImage:
    """One disk of an image. Sizes in bytes.

    ``runs`` are the used bytes outside the partition table (which is written anew for the target's size),
    merged with :func:`merge_runs`; ``hashes`` holds one BLAKE3-256 per chunk of the grid that a run touches,
    ascending.
    """

    size: int
    sector_size: int
    table: GptTable | None
    partitions: tuple[Partition, ...]
    runs: Runs
    hashes: bytes
    grid: Grid = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_disk(self)
        object.__setattr__(self, "grid", Grid(self.size, self.runs))

    @property
    def head_size(self) -> int:
        """Bytes at the start of the disk that the table occupies (0 without a table)."""
        return 0 if self.table is None else (2 + self._entry_sectors) * self.sector_size

    @property
    def tail_size(self) -> int:
        """Bytes at the end of the disk that the backup table occupies (0 without a table)."""
        return 0 if self.table is None else (1 + self._entry_sectors) * self.sector_size

    @property
    def _entry_sectors(self) -> int:
        assert self.table is not None
        return -(-self.table.entries * GPT_ENTRY_SIZE // self.sector_size)

    @property
    def minimum_size(self) -> int:
        """Smallest disk, in bytes, that this image can be deployed to."""
        ends = [p.start + p.size for p in self.partitions]
        if self.runs:
            ends.append(sum(self.runs[-1]))
        return max(ends, default=self.head_size) + self.tail_size

    @property
    def used(self) -> int:
        """Bytes in used runs: what a full deploy writes."""
        return sum(length for _, length in self.runs)


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


# --- rules that every disk of a manifest obeys ---


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise ManifestError(sentence)


def _check_disk(disk: DiskImage) -> None:
    _require(disk.sector_size in _SECTOR_SIZES, f"Sector size {disk.sector_size} is not known.")
    _require(0 < disk.size <= _MAX_SIZE, "The disk size is out of range.")
    _require(disk.size % disk.sector_size == 0, "The disk size is not a multiple of its sector size.")
    table = disk.table
    if table is not None:
        _require(len(table.mbr) == 512, "The protective MBR is not 512 bytes long.")
        _require(_is_guid(table.guid), "The disk GUID is malformed.")
        _require(4 <= table.entries <= 1024, "The number of GPT entries is out of range.")
        _require(
            disk.head_size <= table.first_usable * disk.sector_size <= disk.size,
            "The first usable sector lies inside the partition table or outside the disk.",
        )
        _require(
            disk.head_size + disk.tail_size <= disk.size, "The disk is smaller than its partition table."
        )
    else:
        _require(not disk.partitions, "A disk without a partition table has no partitions.")
    _check_partitions(disk)
    _check_runs(disk)


def _check_partitions(disk: DiskImage) -> None:
    first = disk.table.first_usable * disk.sector_size if disk.table else 0
    last = disk.size - disk.tail_size
    previous = 0
    for p in disk.partitions:
        _require(p.number > previous, "Partitions are not in order of their number.")
        previous = p.number
        _require(
            disk.table is not None and p.number <= disk.table.entries, "A partition number is out of range."
        )
        _require(_is_guid(p.type_guid) and _is_guid(p.unique_guid), "A partition's GUID is malformed.")
        # UEFI 2.10 table 5.6: PartitionName is 36 UTF-16 code units, NUL-terminated if shorter.
        _require("\0" not in p.name and len(_utf16(p.name)) <= 72, "A partition's name is malformed.")
        _require(0 <= p.attributes < 1 << 64, "A partition's attributes are out of range.")
        _require(
            p.start % disk.sector_size == 0 and p.size % disk.sector_size == 0,
            "A partition is not aligned to sectors.",
        )
        _require(
            p.size > 0 and first <= p.start and p.start + p.size <= last,
            "A partition lies outside the usable area.",
        )
        _require(0 <= p.used <= p.size, "A partition uses more bytes than it has.")
        _require(p.capture in CAPTURE_MODES, f"Capture mode {p.capture!r} is not known.")
        _require(
            0 < len(p.filesystem) <= 32 and len(p.label) <= 512 and len(p.uuid) <= 64,
            "A partition's text is too long.",
        )
    by_start = sorted(disk.partitions, key=lambda p: p.start)
    for a, b in itertools.pairwise(by_start):
        _require(a.start + a.size <= b.start, "Two partitions overlap.")


def _check_runs(disk: DiskImage) -> None:
    # The table's own area is never part of a chunk: the writer makes it anew for the target's size.
    end = disk.head_size - MERGE_GAP
    for start, length in disk.runs:
        _require(
            start % disk.sector_size == 0 and length % disk.sector_size == 0,
            "A used run is not aligned to sectors.",
        )
        _require(length > 0 and start - end >= MERGE_GAP, "Used runs are empty, out of order or not merged.")
        end = start + length
    _require(not disk.runs or end <= disk.size - disk.tail_size, "A used run lies outside the disk.")
    chunks = count_chunks(disk.runs)
    _require(
        len(disk.hashes) == chunks * HASH_SIZE,
        f"{chunks} chunks are used, but there are {len(disk.hashes)} bytes of hashes.",
    )


def _is_guid(text: str) -> bool:
    parts = text.split("-")
    return [len(p) for p in parts] == [8, 4, 4, 4, 12] and all(c in "0123456789abcdef-" for c in text)


def _utf16(text: str) -> bytes:
    try:
        return text.encode("utf-16-le")
    except UnicodeEncodeError:
        raise ManifestError("A partition's name is not valid Unicode.") from None


# --- bytes ---

_TOP_KEYS = {"chunk_size", "disks", "hash"}
_DISK_KEYS = {"chunks", "partitions", "runs", "sector_size", "size", "table"}
_TABLE_KEYS: dict[str, type] = {"entries": int, "first_usable": int, "guid": str, "kind": str, "mbr": str}
_PARTITION_KEYS: dict[str, type] = {
    "attributes": int,
    "capture": str,
    "filesystem": str,
    "label": str,
    "name": str,
    "number": int,
    "size": int,
    "start": int,
    "type_guid": str,
    "unique_guid": str,
    "used": int,
    "uuid": str,
}


def _encode(disks: tuple[DiskImage, ...]) -> bytes:
    header = {
        "chunk_size": CHUNK_SIZE,
        "hash": "blake3-256",
        "disks": [
            {
                "size": disk.size,
                "sector_size": disk.sector_size,
                "table": None
                if disk.table is None
                else {
                    "kind": "gpt",
                    "guid": disk.table.guid,
                    "mbr": disk.table.mbr.hex(),
                    "entries": disk.table.entries,
                    "first_usable": disk.table.first_usable,
                },
                "partitions": [{key: getattr(p, key) for key in _PARTITION_KEYS} for p in disk.partitions],
                "runs": len(disk.runs),
                "chunks": len(disk.grid),
            }
            for disk in disks
        ],
    }
    try:
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ManifestError("A name or label in the manifest is not valid Unicode.") from None
    parts = [_HEAD.pack(_MAGIC, _VERSION, 0, len(text)), text]
    for disk in disks:
        parts += [disk.runs.pack(), disk.hashes]
    return b"".join(parts)


def _decode(data: bytes) -> list[DiskImage]:
    _require(len(data) >= _HEAD.size and data[:8] == _MAGIC, "These bytes are not a pxeboot manifest.")
    _, version, flags, length = _HEAD.unpack_from(data)
    _require(
        version == _VERSION,
        f"Manifest format {version} is not known here (only {_VERSION}): update this program.",
    )
    _require(flags == 0, "The manifest uses a feature that is not known here: update this program.")
    _require(length <= _MAX_HEADER and _HEAD.size + length <= len(data), "The manifest is cut short.")
    try:
        header = json.loads(data[_HEAD.size : _HEAD.size + length].decode())
    except (ValueError, RecursionError):
        raise ManifestError("The manifest's header is not JSON.") from None
    _fields(header, _TOP_KEYS, "The header")
    _require(header["chunk_size"] == CHUNK_SIZE, f"Chunk size {header['chunk_size']!r} is not known.")
    _require(header["hash"] == "blake3-256", f"Hash {header['hash']!r} is not known.")
    _require(isinstance(header["disks"], list), "The header's disks are not a list.")
    at = _HEAD.size + length
    disks = []
    for item in header["disks"]:
        _fields(item, _DISK_KEYS, "A disk")
        for key in ("size", "sector_size", "runs", "chunks"):
            _require(
                type(item[key]) is int and 0 <= item[key] <= _MAX_SIZE, f"A disk's {key} is out of range."
            )
        runs_end = at + item["runs"] * 16
        end = runs_end + item["chunks"] * HASH_SIZE
        _require(end <= len(data), "The manifest is cut short.")
        _require(isinstance(item["partitions"], list), "A disk's partitions are not a list.")
        disks.append(
            DiskImage(
                size=item["size"],
                sector_size=item["sector_size"],
                table=_table(item["table"]),
                partitions=tuple(
                    Partition(**_typed(p, _PARTITION_KEYS, "A partition")) for p in item["partitions"]
                ),
                runs=Runs.unpack(data[at:runs_end]),
                hashes=data[runs_end:end],
            )
        )
        at = end
    _require(at == len(data), "The manifest has bytes after its end.")
    return disks


def _table(item: object) -> GptTable | None:
    if item is None:
        return None
    table = _typed(item, _TABLE_KEYS, "The partition table")
    _require(
        table["kind"] == "gpt",
        f"Partition table kind {table['kind']!r} is not known here: update this program.",
    )
    try:
        mbr = bytes.fromhex(table["mbr"])
    except ValueError:
        raise ManifestError("The protective MBR is not hexadecimal.") from None
    return GptTable(guid=table["guid"], mbr=mbr, entries=table["entries"], first_usable=table["first_usable"])


def _fields(item: object, keys: set[str], what: str) -> None:
    _require(isinstance(item, dict), f"{what} is not an object.")
    assert isinstance(item, dict)
    _require(
        set(item) == keys,
        f"{what} has unknown or missing fields ({', '.join(sorted(set(item) ^ keys))[:200]}).",
    )


def _typed(item: object, keys: dict[str, type], what: str) -> dict[str, Any]:
    _fields(item, set(keys), what)
    assert isinstance(item, dict)
    for key, kind in keys.items():
        # type(), not isinstance(): JSON's true must not pass for 1.
        _require(type(item[key]) is kind, f"{what}'s {key} has the wrong type.")
        _require(kind is not int or 0 <= item[key] < 1 << 64, f"{what}'s {key} is out of range.")
    return item
