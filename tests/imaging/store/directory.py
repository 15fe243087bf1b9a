"""The smallest back end that passes the conformance suite: one file per chunk. It exists only for tests.

It shows that the suite asks for promises and not for our way to keep them; the mutants in test_conformance.py
break one promise each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from imaging.chunks import open_frame
from imaging.errors import (
    ChunkInvalid,
    ChunkMissing,
    ManifestError,
    ManifestIncomplete,
    ManifestMissing,
    StoreFull,
)
from imaging.manifest import Manifest
from imaging.store import BadChunk, Pruned


class DirectoryStore:
    """``chunks/HASH``: 32 bytes of check and the frame; ``manifests/ID``: signature and bytes."""

    def __init__(self, path: Path) -> None:
        self.chunks, self._manifests = path / "chunks", path / "manifests"
        for directory in (path, self.chunks, self._manifests):
            directory.mkdir(exist_ok=True)
        self._new: set[str] = set()
        self._holds: dict[str, set[bytes]] = {}

    def __enter__(self) -> DirectoryStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.commit()

    def missing(self, hashes: Sequence[bytes], holder: str = "") -> list[bool]:
        self._hold(holder, hashes)
        return [not self._is_sound(hash) for hash in hashes]

    def _hold(self, holder: str, hashes: Sequence[bytes]) -> None:
        self._holds.setdefault(holder, set()).update(hashes)

    def _is_sound(self, hash: bytes) -> bool:
        try:
            self.frame(hash)
        except (ChunkMissing, ChunkInvalid):
            return False
        return True

    def add_frame(self, hash: bytes, frame: bytes, holder: str = "") -> bool:
        open_frame(hash, frame)
        self._hold(holder, [hash])
        if self._is_sound(hash):
            return False
        self._write(self.chunks / hash.hex(), blake3(frame).digest() + frame)
        self._new.add(hash.hex())
        return True

    def _write(self, path: Path, data: bytes) -> None:
        new = path.with_name(path.name + ".new")
        new.write_bytes(data)
        new.rename(path)

    def commit(self) -> None:
        for name in self._new:
            self.sync(self.chunks / name)
        if self._new:
            self.sync(self.chunks)
        self._new.clear()

    def sync(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def frame(self, hash: bytes) -> bytes:
        try:
            data = (self.chunks / hash.hex()).read_bytes()
        except FileNotFoundError:
            raise ChunkMissing(hash) from None
        if blake3(data[32:]).digest() != data[:32]:
            raise ChunkInvalid(hash, "its bytes have changed")
        return data[32:]

    def get(self, hash: bytes) -> bytes:
        return open_frame(hash, self.frame(hash))

    def put_manifest(self, data: bytes, signature: bytes, holder: str = "") -> str:
        manifest = Manifest.from_bytes(data)
        if len(signature) != 64:
            raise ManifestError("An Ed25519 signature has 64 bytes.")
        self.commit()
        lacking = 0
        for ref in manifest.chunks:
            if not self._is_sound(ref.hash):
                lacking += 1
            elif len(self.get(ref.hash)) != ref.length:
                raise ManifestError(f"A chunk is not {ref.length}, but {len(self.get(ref.hash))} bytes long.")
        if lacking:
            raise ManifestIncomplete(lacking, len(manifest.chunks))
        self.keep_manifest(self._manifests / manifest.id, signature + data)
        self._holds.pop(holder, None)
        return manifest.id

    def keep_manifest(self, path: Path, data: bytes) -> None:
        new = path.with_name(path.name + ".new")
        new.write_bytes(data)
        self.sync(new)
        new.rename(path)
        self.sync(self._manifests)

    def manifest(self, id: str) -> tuple[bytes, bytes]:
        if id not in self.manifests():
            raise ManifestMissing(id)
        data = (self._manifests / id).read_bytes()
        if blake3(data[64:]).hexdigest() != id:
            raise ManifestError("The manifest has changed.")
        return data[64:], data[:64]

    def manifests(self) -> list[str]:
        return sorted(path.name for path in self._manifests.iterdir() if not path.suffix)

    def delete_manifest(self, id: str) -> None:
        if id not in self.manifests():
            raise ManifestMissing(id)
        (self._manifests / id).unlink()
        self.sync(self._manifests)

    def release(self, holder: str) -> None:
        self._holds.pop(holder, None)

    def room(self, needed: int) -> int:
        stat = os.statvfs(self.chunks)
        free = stat.f_bavail * stat.f_frsize
        if needed > free:
            raise StoreFull(str(self.chunks), needed, free, 0)
        return free - needed

    def verify(self, id: str | None = None) -> Iterator[BadChunk]:
        names = sorted(path.name for path in self.chunks.iterdir() if not path.suffix)
        hashes = (
            (bytes.fromhex(name) for name in names)
            if id is None
            else Manifest.from_bytes(self.manifest(id)[0]).hashes
        )
        for hash in hashes:
            try:
                self.get(hash)
            except (ChunkMissing, ChunkInvalid) as error:
                yield BadChunk(hash, error)

    def prune(self, keep: Collection[str] | None = None, *, grace: float = 86400, **_: Any) -> Pruned:
        for id in self.manifests() if keep is not None else ():
            if id not in (keep or ()) and (self._manifests / id).stat().st_mtime < time.time() - grace:
                self.delete_manifest(id)
        if grace <= 0:
            self._holds.clear()
        live = self.in_use()
        gone = freed = 0
        for path in list(self.chunks.iterdir()):
            if path.suffix or bytes.fromhex(path.name) not in live:
                freed += path.stat().st_size
                path.unlink()
                self._new.discard(path.name)
                gone += not path.suffix
        return Pruned(gone, freed)

    def in_use(self) -> set[bytes]:
        live = set().union(*self._holds.values())
        for id in self.manifests():
            live.update(Manifest.from_bytes(self.manifest(id)[0]).hashes)
        return live


class DirectoryBackend:
    """The back end for the suite; ``store`` is the class to open."""

    def __init__(self, path: Path, store: type[DirectoryStore] = DirectoryStore) -> None:
        self.path, self.store = path, store

    def at(self, path: Path) -> DirectoryBackend:
        return DirectoryBackend(path, self.store)

    def open(self) -> DirectoryStore:
        return self.store(self.path)

    def reader(self) -> DirectoryStore:
        return self.store(self.path)

    def damage(self, hash: bytes) -> None:
        flip(self.path / "chunks" / hash.hex(), -5)

    def damage_manifest(self, id: str) -> None:
        flip(self.path / "manifests" / id, 100)


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)
