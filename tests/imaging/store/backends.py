"""Our store as a back end for the conformance suite, and as small as tests like it."""

from __future__ import annotations

import os
from pathlib import Path

from imaging.store import ChunkStore
from imaging.store.index import Index
from tests.imaging.store.directory import flip


class PackBackend:
    """ChunkStore with packs of 64 KiB and nothing in reserve."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def at(self, path: Path) -> PackBackend:
        return PackBackend(path)

    def open(self) -> ChunkStore:
        return ChunkStore(self.path, reserve=0, pack_size=64 << 10)

    def reader(self) -> ChunkStore:
        return ChunkStore(self.path, readonly=True)

    def damage(self, hash: bytes) -> None:
        index = Index(self.path / "index.sqlite", readonly=True)
        place = index.find(hash)
        index.close()
        assert place is not None
        pack = self.path / "packs" / f"{place.pack:08d}.pack"
        before = pack.stat()
        flip(pack, place.offset + 60)
        os.utime(pack, ns=(before.st_atime_ns, before.st_mtime_ns))

    def damage_manifest(self, id: str) -> None:
        flip(self.path / "manifests" / f"{id}.manifest", 100)
