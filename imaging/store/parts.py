"""The parts of an opened store, for the work that goes over all of it: prune, scrub, recompression."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from imaging.errors import StoreBusy
from imaging.store.holds import Holds
from imaging.store.index import Index
from imaging.store.intake import Intake
from imaging.store.manifests import ManifestFiles
from imaging.store.writer import PackDirectory


@dataclass(frozen=True)
class Parts:
    """Locks are taken in this order: care, ``intake.commit_lock``, ``holds.lock``, the index's own."""

    path: Path
    packs: PackDirectory
    index: Index
    manifests: ManifestFiles
    intake: Intake
    holds: Holds | None
    """None in a process that only reads."""
    _care: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def care(self, what: str) -> Iterator[None]:
        """One work that moves or deletes chunks at a time. Raises StoreBusy."""
        if not self._care.acquire(blocking=False):
            raise StoreBusy(f"The store is being pruned or recompressed: {what} once that has ended.")
        try:
            yield
        finally:
            self._care.release()


class ReaderLock:
    """``readers``: shared by processes that must see the same frame for a chunk each time they ask.

    A multicast sender cuts frames into symbols and repairs them minutes later; recompression gives a chunk
    another frame, so it does that only while it can have this lock alone.
    """

    def __init__(self, path: Path, *, shared: bool) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):  # a store on a read-only file system is not recompressed either
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if shared else os.O_CREAT), 0o600)
            if shared:
                fcntl.flock(self._fd, fcntl.LOCK_SH)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """True while no other process reads; it is never waited for."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (OSError, ValueError):  # ValueError: there is no such file
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
