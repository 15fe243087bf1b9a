"""What a power cut would leave of a directory: names and bytes as they were last synced, nothing more.

A kill loses nothing that was written, so only this can show an fsync that is missing or comes too late. While
a :class:`PowerCut` is entered, each ``os.fsync`` below its directory is noted; :meth:`PowerCut.leave` makes a
copy of what is certain. The files of SQLite sync themselves in C and are taken as they are.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType


class PowerCut:
    """Use it in one thread. ``at_fsync`` is called before each fsync: the current may fail in between."""

    def __init__(self, path: Path, at_fsync: Callable[[], None] = lambda: None) -> None:
        self._path, self._at_fsync = path.resolve(), at_fsync
        self._names: dict[Path, dict[str, int]] = {}  # directory: durable name to inode
        self._bytes: dict[int, bytes] = {}  # inode: durable content
        self._held: dict[int, int] = {}  # inode: a descriptor, so that the number is not used again
        self._fsync = os.fsync

    def __enter__(self) -> PowerCut:
        for folder, _, files in os.walk(self._path):
            self._note_directory(Path(folder))
            for name in files:
                self._note_file(Path(folder) / name)
        self._at_work = False
        os.fsync = self._note  # type: ignore[assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.fsync = self._fsync
        for fd in self._held.values():
            os.close(fd)

    def _note(self, fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if self._path in (path, *path.parents) and not self._at_work:
            self._at_work = True
            self._at_fsync()
            self._at_work = False
        self._fsync(fd)
        if path == self._path or self._path in path.parents:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                self._note_directory(path)
            else:
                self._keep(os.fstat(fd).st_ino, path)

    def _note_directory(self, path: Path) -> None:
        self._names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
        for entry in os.scandir(path):
            if entry.is_dir():  # made before the cut is looked at, and empty: keep it simple
                self._names.setdefault(Path(entry.path), {})

    def _note_file(self, path: Path) -> None:
        self._keep(path.stat().st_ino, path)

    def _keep(self, inode: int, path: Path) -> None:
        self._bytes[inode] = path.read_bytes()
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_RDONLY)

    def leave(self, to: Path) -> Path:
        """A copy of what is certain to be there; a name whose bytes were never synced is an empty file."""
        for folder, names in self._names.items():
            if not folder.is_dir():
                continue
            copy = to / folder.relative_to(self._path)
            copy.mkdir(parents=True, exist_ok=True)
            for name, inode in names.items():
                if (folder / name).is_dir() or ".sqlite" in name:
                    continue
                (copy / name).write_bytes(self._bytes.get(inode, b""))
            for file in folder.glob("*.sqlite*"):
                if not file.name.endswith("-shm"):
                    shutil.copy(file, copy / file.name)
        return to
