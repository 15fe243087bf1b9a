"""Files for deployed systems in the data folder: drops by their BLAKE3 hash, drivers as folders of a model.

`files/ab/abcdef…` is a drop's bytes. `drivers/MANUFACTURER/PRODUCT/…` are driver files; both folder names are
patterns (`*`, `?`), compared without regard to case. An administrator fills the driver tree by hand.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import blake3

from pxeboot.errors import Invalid, NotFound

MAX_FILE = 4 << 30
MAX_DRIVERS = 20_000  # files for one model
MAX_DRIVER_BYTES = 16 << 30
_HASH = re.compile(r"[0-9a-f]{64}")
# Signs that a folder's name cannot have on every system stand as "_" in it.
_UNUSABLE = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


class FileShed:
    """The two trees below a data folder. Thread-safe; everything blocks but `add`'s waiting for data."""

    def __init__(self, data_dir: Path) -> None:
        self._files = data_dir / "files"
        self.driver_root = data_dir / "drivers"
        self._hashes: dict[tuple[str, int, int, int], str] = {}
        self._lock = threading.Lock()

    # -- drops

    def path(self, hash: str) -> Path:
        """Where a file lies. NotFound(file content)."""
        path = self._files / hash[:2] / hash
        if not _HASH.fullmatch(hash) or not path.is_file():
            raise NotFound("file content", hash[:80], "Upload the file again.")
        return path

    def read(self, hash: str) -> bytes:
        """A file's bytes. NotFound(file content)."""
        return self.path(hash).read_bytes()

    async def add(self, data: AsyncIterator[bytes]) -> tuple[str, int]:
        """Keep what comes, durably; (hash, size). Invalid above MAX_FILE."""
        import asyncio

        self._files.mkdir(parents=True, exist_ok=True)
        new = self._files / f".new-{os.getpid()}-{threading.get_ident()}-{os.urandom(6).hex()}"
        hasher, size = blake3.blake3(), 0
        try:
            with open(new, "xb") as file:
                async for piece in data:
                    size += len(piece)
                    if size > MAX_FILE:
                        raise Invalid(f"A file has at most {MAX_FILE >> 30} GiB.")
                    hasher.update(piece)
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(_durable, file.fileno(), file.flush)
            hash = hasher.hexdigest()
            place = self._files / hash[:2] / hash
            place.parent.mkdir(exist_ok=True)
            os.replace(new, place)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
        return hash, size

    def forget(self, hash: str) -> None:
        """Remove a file's bytes."""
        with contextlib.suppress(NotFound, FileNotFoundError):
            self.path(hash).unlink()

    # -- drivers

    def driver_folders(self, manufacturer: str, product: str) -> list[str]:
        """`MANUFACTURER/PRODUCT` of the folders that are for a model, sorted; [] for an unknown model."""
        found = []
        for maker in _folders(self.driver_root):
            if _fits(manufacturer, maker):
                found += [
                    f"{maker}/{model}"
                    for model in _folders(self.driver_root / maker)
                    if _fits(product, model)
                ]
        return found

    def all_driver_folders(self) -> list[str]:
        """All folders of models."""
        return [f"{m}/{p}" for m in _folders(self.driver_root) for p in _folders(self.driver_root / m)]

    def drivers(self, manufacturer: str, product: str) -> list[tuple[str, int]]:
        """(path below the driver folder, size) of all files for a model. Invalid when they are too many."""
        found: list[tuple[str, int]] = []
        total = 0
        for folder in self.driver_folders(manufacturer, product):
            for path, size in self._walk(folder):
                found.append((path, size))
                total += size
                if len(found) > MAX_DRIVERS or total > MAX_DRIVER_BYTES:
                    raise Invalid(
                        f"The drivers for {manufacturer} {product} are more than {MAX_DRIVERS} files or "
                        f"{MAX_DRIVER_BYTES >> 30} GiB: thin out {self.driver_root}."
                    )
        return found

    def _walk(self, folder: str) -> Iterator[tuple[str, int]]:
        base = self.driver_root / folder
        for directory, below, names in os.walk(base):
            below[:] = sorted(name for name in below if not name.startswith("."))
            for name in sorted(names):
                path = os.path.join(directory, name)
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode) and not name.startswith("."):
                    yield os.path.relpath(path, self.driver_root), status.st_size

    def driver(self, manufacturer: str, product: str, path: str) -> tuple[Path, str]:
        """(where it lies, its hash) of a driver file that is for this model. NotFound(driver)."""
        names = path.split("/")
        if len(names) < 3 or any(name in ("", ".", "..") or "\0" in name for name in names):
            raise NotFound("driver", path[:200])
        if "/".join(names[:2]) not in self.driver_folders(manufacturer, product):
            raise NotFound("driver", path[:200])
        place = self.driver_root.joinpath(*names)
        # A link could lead out of the tree.
        if not place.is_file() or place.resolve() != self.driver_root.resolve().joinpath(*names):
            raise NotFound("driver", path[:200])
        return place, self._hash(place)

    def _hash(self, place: Path) -> str:
        status = place.stat()
        key = (str(place), status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:  # a whole room asks for the same files
            if key not in self._hashes:
                if len(self._hashes) > 4 * MAX_DRIVERS:
                    self._hashes.clear()
                hasher = blake3.blake3()
                with open(place, "rb") as file:
                    while data := file.read(1 << 20):
                        hasher.update(data)
                self._hashes[key] = hasher.hexdigest()
            return self._hashes[key]


def _fits(value: str, pattern: str) -> bool:
    text = _UNUSABLE.sub("_", value.strip()).casefold()
    return bool(text) and fnmatch.fnmatchcase(text, pattern.casefold())


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(
                entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
            )
    except OSError:
        return []


def _durable(fd: int, flush: object) -> None:
    flush()  # type: ignore[operator]
    os.fsync(fd)
