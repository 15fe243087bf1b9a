"""What the store needs of a manifest, read without building the whole of it: hashes and lengths of chunks.

A manifest in the store was parsed in full when it came, and its bytes hash to its identity; so marking what
is in use may skip every rule but the counts: milliseconds for 48,000 chunks, not a tenth of a second.
"""

import json
import struct
from collections.abc import Iterator
from typing import NamedTuple

from imaging.errors import ManifestError
from imaging.manifest import CHUNK_SIZE, HASH_SIZE

_HEAD = struct.Struct(">8sHHI")
_RUN = struct.Struct(">QQ")
_HASH = struct.Struct(f"{HASH_SIZE}s")


class DiskOutline(NamedTuple):
    """One disk's chunks: the packed hashes, and the plain length of the last one (all others are 1 MiB)."""

    hashes: bytes
    last: int
    size: int
    """Of the disk, in bytes."""

    def names(self) -> list[bytes]:
        """The hashes one by one, ascending by place."""
        return [name for (name,) in _HASH.iter_unpack(self.hashes)]

    @property
    def chunks(self) -> int:
        return len(self.hashes) // HASH_SIZE

    @property
    def plain(self) -> int:
        """Plain bytes of all chunks."""
        return (self.chunks - 1) * CHUNK_SIZE + self.last if self.hashes else 0

    def lengths(self) -> Iterator[tuple[bytes, int]]:
        """(hash, plain length) of each chunk."""
        names = self.names()
        for name in names[:-1]:
            yield name, CHUNK_SIZE
        if names:
            yield names[-1], self.last


def outline(data: bytes) -> list[DiskOutline]:
    """The disks of a stored manifest, whose identity the caller has checked. Raises ManifestError."""
    try:
        at = _HEAD.size + _HEAD.unpack_from(data)[3]
        disks = []
        for disk in json.loads(data[_HEAD.size : at].decode())["disks"]:
            size, runs_end = disk["size"], at + disk["runs"] * _RUN.size
            end = runs_end + disk["chunks"] * HASH_SIZE
            last = CHUNK_SIZE
            if disk["runs"] and size % CHUNK_SIZE:
                start, length = _RUN.unpack_from(data, runs_end - _RUN.size)
                if start + length > size - size % CHUNK_SIZE:
                    last = size % CHUNK_SIZE
            hashes = data[runs_end:end]
            if len(hashes) != disk["chunks"] * HASH_SIZE:
                raise ManifestError("The manifest is cut short.")
            disks.append(DiskOutline(hashes, last, size))
            at = end
    except (struct.error, ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ManifestError("These bytes are not a pxeboot manifest.") from error
    return disks


def names(data: bytes) -> Iterator[bytes]:
    """All chunk hashes of a stored manifest; a hash may come more than once. Raises ManifestError."""
    for disk in outline(data):
        yield from disk.names()
