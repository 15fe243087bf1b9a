"""The chunk store behind the agents' calls: our key, its errors in our words, uploads in bounded pieces.

Everything here blocks (it hashes and touches the disk): call it from worker threads.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imaging.chunks import MAX_FRAME
from imaging.errors import Cancelled, ImagingError, ManifestMissing
from imaging.manifest import Manifest
from imaging.store import ChunkStore
from pxeboot.adapters.summary import summary_of
from pxeboot.errors import Invalid, StoreRefused

# What an imaging error means over HTTP; anything else is 500.
_STATUS: Final = {
    "store-full": 507,
    "store-busy": 503,
    "chunk-missing": 404,
    "chunk-damaged": 410,
    "manifest-missing": 404,
    "manifest-incomplete": 409,
    "manifest-invalid": 422,
}
_HEAD: Final = struct.Struct(">32sI")
HASH_BYTES: Final = 32
MAX_HASHES: Final = 8192


class Facts(NamedTuple):
    """What a stored manifest says of its version."""

    id: str
    disk_bytes: int
    used_bytes: int
    chunks: int
    summary: dict[str, Any]


class StoreGateway:
    """The chunk store and the key that signs its manifests. Thread-safe."""

    def __init__(self, store: ChunkStore, key: Ed25519PrivateKey) -> None:
        self._store = store
        self._key = key
        self.public_key = key.public_key().public_bytes_raw().hex()
        self.path = store.path

    @classmethod
    def open(cls, path: Path, key_file: Path, *, reserve_mb: int) -> StoreGateway:
        """Open (or make) store and key. StoreRefused when another process has the store."""
        with translated():
            store = ChunkStore(path, reserve=reserve_mb << 20)
        return cls(store, load_key(key_file))

    def close(self) -> None:
        """Commit and let go."""
        with translated():
            self._store.close()

    def missing(self, hashes: bytes, holder: str = "") -> bytes:
        """For 32-byte hashes one after the other: one byte each, 1 = send it. Invalid for odd lengths.

        `holder` is the task on whose behalf it is asked: prune spares these chunks until the task is over.
        """
        if len(hashes) % HASH_BYTES or len(hashes) > MAX_HASHES * HASH_BYTES:
            raise Invalid(f"Send whole hashes of {HASH_BYTES} bytes, at most {MAX_HASHES} at once.")
        wanted = [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]
        with translated():
            return bytes(self._store.missing(wanted, holder))

    def room(self, needed: int) -> int:
        """Bytes left above the reserve once so many came. StoreRefused(store-full)."""
        with translated():
            return self._store.room(needed)

    def add(
        self, records: Sequence[tuple[bytes, bytes]], holder: str = "", *, own: bool = False
    ) -> tuple[int, int]:
        """Check and store (hash, frame) records; (records that are stored now, bytes that were new).

        `own`: this process made them from plain bytes, so they are not opened to be checked.
        StoreRefused: chunk-damaged (422: this one is not what it says), store-full.
        """
        fresh = 0
        with translated(damaged=422):
            for hash, frame in records:
                if self._store.add_frame(hash, frame, holder, own=own):
                    fresh += len(frame)
        return len(records), fresh

    def commit(self) -> None:
        """Make what was added durable."""
        with translated():
            self._store.commit()

    def frame(self, hash: bytes) -> bytes:
        """A stored frame. StoreRefused: chunk-missing (404), chunk-damaged (410)."""
        with translated():
            return self._store.frame(hash)

    def put_manifest(self, data: bytes, holder: str = "") -> Facts:
        """Check, sign and keep a manifest whose chunks are all here. StoreRefused otherwise.

        Done again for a manifest that is kept it signs it anew: the cure for a damaged signature.
        """
        with translated():
            manifest = Manifest.from_bytes(data)
            canonical = manifest.to_bytes()
            self._store.put_manifest(canonical, self._key.sign(canonical), holder)
        return Facts(
            manifest.id,
            sum(disk.size for disk in manifest.disks),
            manifest.used,
            len(manifest.chunks),
            summary_of(manifest),
        )

    def manifest(self, id: str) -> tuple[bytes, bytes]:
        """Bytes and signature. StoreRefused(manifest-missing)."""
        with translated():
            return self._store.manifest(id)

    def has_manifest(self, id: str) -> bool:
        """Whether it is kept."""
        return id in self._store.manifests()

    def delete_manifest(self, id: str) -> None:
        """Forget a manifest that no version has any more; one that is gone already is fine."""
        with translated(), contextlib.suppress(ManifestMissing):
            self._store.delete_manifest(id)

    def release(self, holder: str) -> None:
        """A capture task ended without a version: the next prune may take what it brought."""
        self._store.release(holder)

    @contextlib.contextmanager
    def chunks(self) -> Iterator[ChunkStore]:
        """The store itself, for the work that goes over all of it (prune, scrub, statistics, export …).

        Its errors are StoreRefused here as well.
        """
        with translated():
            yield self._store

    def is_signed(self, manifest: bytes, signature: bytes) -> bool:
        """Whether our key made this signature; what `ChunkStore.scrub` wants as `check_signature`."""
        try:
            self._key.public_key().verify(signature, manifest)
        except InvalidSignature:
            return False
        return True

    def derived(self, purpose: str) -> str:
        """A secret of this server, 32 bytes in hexadecimal: the same after a restart, another for each
        purpose."""
        return str(blake3(f"pxeboot {purpose}".encode(), key=self._key.private_bytes_raw()).hexdigest())

    def is_ready(self) -> bool:
        """Whether the store's directory can be read."""
        return os.access(self.path, os.R_OK | os.X_OK)


class RecordReader:
    """Cuts an upload into (hash, frame) records as it arrives; holds at most one unfinished record."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.bytes = 0  # of whole records not taken yet
        self._records: list[tuple[bytes, bytes]] = []

    def feed(self, data: bytes) -> None:
        """Take more of the body. Invalid for a frame longer than any valid one."""
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _HEAD.size:
            hash, length = _HEAD.unpack_from(self._buffer, at)
            if not 0 < length <= MAX_FRAME:
                raise Invalid(f"A chunk's frame of {length} bytes is not possible; the upload is garbled.")
            end = at + _HEAD.size + length
            if len(self._buffer) < end:
                break
            self._records.append((hash, bytes(self._buffer[at + _HEAD.size : end])))
            self.bytes += length
            at = end
        del self._buffer[:at]

    def take(self) -> list[tuple[bytes, bytes]]:
        """The whole records so far."""
        taken, self._records, self.bytes = self._records, [], 0
        return taken

    def finish(self) -> None:
        """Invalid when the body ended inside a record."""
        if self._buffer:
            raise Invalid("The upload ended in the middle of a chunk; send it again.")


def load_key(path: Path) -> Ed25519PrivateKey:
    """Our signing key: a raw 32-byte seed (0600), made at first start."""
    if path.exists():
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(key.private_bytes_raw())
        file.flush()
        os.fsync(file.fileno())  # every signature ever made hangs on these 32 bytes
    fresh.replace(path)
    return key


@contextlib.contextmanager
def translated(damaged: int = 410) -> Iterator[None]:
    """Imaging errors as StoreRefused; `damaged` is the status of chunk-damaged."""
    try:
        yield
    except Cancelled:  # who wanted the end must see it as such
        raise
    except ImagingError as error:
        status = damaged if error.code == "chunk-damaged" else _STATUS.get(error.code, 500)
        raise StoreRefused(str(error), error.code, status) from error
