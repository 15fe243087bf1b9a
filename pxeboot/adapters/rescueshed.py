"""The bytes of rescued files: archives under the identifier of their task in data_dir/rescue.

`ID.part` grows while its agent sends; a piece comes with its offset, perhaps twice. `ID.tar.zst` is whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import time
from pathlib import Path

import blake3

from pxeboot.errors import Conflict, Invalid, NotFound, StoreRefused

MAX_PIECE = 16 << 20
_ID = re.compile(r"[0-9a-f]{32}")
_STALE_SECONDS = 86_400.0


class RescueShed:
    """The folder of archives. Thread-safe; everything blocks."""

    def __init__(self, folder: Path, reserve_mb: int) -> None:
        self.folder = folder
        self._reserve = reserve_mb * 1_000_000
        self._lock = threading.Lock()

    def room(self, needed: int, most: int) -> None:
        """Refuse what does not fit. StoreRefused(rescue-full, 507) with numbers.

        `most`: bytes that all archives together may take.
        """
        self._make()
        free = shutil.disk_usage(self.folder).free - self._reserve
        if needed > free:
            raise StoreRefused(
                f"The server has room for {max(0, free) // 1_000_000} MB of rescued files, "
                f"not for {needed // 1_000_000} MB: choose less, or delete something there.",
                "rescue-full",
            )
        taken = self.taken()
        if taken + needed > most:
            raise StoreRefused(
                f"Rescued files take {taken // 1_000_000} of {most // 1_000_000} MB already, so "
                f"{needed // 1_000_000} MB do not fit: delete old ones, or raise rescue.max_gb.",
                "rescue-full",
            )

    def taken(self) -> int:
        """Bytes of all archives, unfinished ones too."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.is_file(follow_symlinks=False))
        return 0

    def write(self, id: str, offset: int, data: bytes) -> None:
        """Put a piece at its place; at 0 it begins anew. Conflict when pieces are missing before it."""
        if len(data) > MAX_PIECE:
            raise Invalid(f"A piece has at most {MAX_PIECE} bytes.")
        self._make()
        with self._lock, open(self._part(id), "ab") as file:
            size = file.seek(0, os.SEEK_END)
            if offset > size:
                raise Conflict(
                    f"This archive has {size} bytes; a piece at {offset} cannot follow.", size=size
                )
            file.truncate(offset)
            file.write(data)

    def finish(self, id: str, size: int, hash: str) -> None:
        """Check that the archive is whole, and keep it durably. Conflict when it is not what was said."""
        part, place = self._part(id), self._place(id)
        if not part.is_file() and place.is_file() and place.stat().st_size == size:
            return  # said twice
        try:
            with open(part, "rb") as file:
                hasher = blake3.blake3()
                hasher.update_mmap(part) if size else None
                os.fsync(file.fileno())
                found = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            raise Conflict("No archive has come for this task.") from None
        if found != size or hasher.hexdigest() != hash:
            raise Conflict(
                f"The archive that came ({found} bytes) is not the one that was sent ({size} bytes)."
            )
        os.replace(part, place)

    def path(self, id: str) -> Path:
        """A whole archive. NotFound(rescue)."""
        place = self._place(id)
        if not place.is_file():
            raise NotFound("rescue", id, "Its archive is gone.")
        return place

    def remove(self, id: str) -> None:
        """Delete an archive, whole or not."""
        for path in (self._part(id), self._place(id)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def sweep(self, known: set[str]) -> int:
        """Delete what nobody knows any more and nobody has written to for a day; how many."""
        gone = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in list(entries):
                id = entry.name.partition(".")[0]
                whole = entry.name.endswith(".tar.zst") and id in known
                if not whole and time.time() - entry.stat().st_mtime > _STALE_SECONDS:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(entry.path)
                        gone += 1
        return gone

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _part(self, id: str) -> Path:
        return self.folder / f"{_checked(id)}.part"

    def _place(self, id: str) -> Path:
        return self.folder / f"{_checked(id)}.tar.zst"


def _checked(id: str) -> str:
    if not _ID.fullmatch(id):
        raise NotFound("rescue", id[:80])
    return id
