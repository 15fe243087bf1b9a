"""Signed manifests as files: ``ID.manifest`` and ``ID.sig``; the manifest appears last and by rename."""

import os
from pathlib import Path

from blake3 import blake3

from imaging.errors import ManifestError, ManifestMissing, StoreError
from imaging.manifest import HASH_SIZE
from imaging.store.packs import sync_directory
from imaging.store.writer import FULL, PackDirectory

SIGNATURE_SIZE = 64


class ManifestFiles:
    """A directory of manifests. The caller keeps writers apart."""

    def __init__(self, path: Path, packs: PackDirectory) -> None:
        self.path, self._packs = path, packs

    def recover(self) -> None:
        """Remove what a crash left half-written."""
        for path in self.path.glob("*.new"):
            path.unlink()
        # A crash between the signature and its manifest, or between the two deletions.
        for path in self.path.glob("*.sig"):
            if not path.with_suffix(".manifest").exists():
                path.unlink()

    def put(self, id: str, data: bytes, signature: bytes) -> None:
        """Durable when it returns; raises StoreFull, StoreError."""
        try:
            # The signature first: a manifest that can be seen always has one.
            self._write(self.path / f"{id}.sig", signature)
            self._write(self.path / f"{id}.manifest", data)
        except OSError as error:
            if error.errno in FULL:
                raise self._packs.full(len(data)) from error
            raise StoreError(f"The store cannot keep manifest {id}: {error.strerror}.") from error

    def _write(self, path: Path, data: bytes) -> None:
        new = path.with_name(path.name + ".new")
        try:
            with open(new, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(new, path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        sync_directory(self.path)

    def get(self, id: str) -> tuple[bytes, bytes]:
        """(bytes, signature). Raises ManifestMissing; ManifestError when the stored bytes have changed."""
        # The identity may come from outside: only hexadecimal digits may become part of a path.
        if len(id) != 2 * HASH_SIZE or not set(id) <= set("0123456789abcdef"):
            raise ManifestMissing(id[:80])
        try:
            data = (self.path / f"{id}.manifest").read_bytes()
            signature = (self.path / f"{id}.sig").read_bytes()
        except FileNotFoundError:
            raise ManifestMissing(id) from None
        except OSError as error:
            raise StoreError(f"Manifest {id} cannot be read: {error.strerror}.") from error
        # The identity is the hash of all bytes, and what was kept had been parsed: no need to do it again.
        if blake3(data).hexdigest() != id:
            raise ManifestError(
                f"Manifest {id} has changed on the store's disk: "
                "delete this version and capture the image again."
            )
        return data, signature

    def written(self, id: str) -> float:
        """When it was put, in seconds since 1970; 0 when it is gone."""
        try:
            return (self.path / f"{id}.manifest").stat().st_mtime
        except OSError:
            return 0.0

    def list(self) -> list[str]:
        """Identities, sorted."""
        return sorted(path.stem for path in self.path.glob("*.manifest"))

    def delete(self, id: str) -> None:
        """Raises ManifestMissing, StoreError."""
        if len(id) != 2 * HASH_SIZE or not set(id) <= set("0123456789abcdef"):
            raise ManifestMissing(id[:80])
        try:
            (self.path / f"{id}.manifest").unlink()
            (self.path / f"{id}.sig").unlink(missing_ok=True)
            sync_directory(self.path)
        except FileNotFoundError:
            raise ManifestMissing(id) from None
        except OSError as error:
            raise StoreError(f"Manifest {id} cannot be deleted: {error.strerror}.") from error
