"""What captures under way count on: a file of hashes for each, so that no prune takes their chunks.

A chunk is in use when a manifest names it or a capture holds it. A hold is written before the capture is told
that the store has the chunk, survives a crash of the server, and ends with the capture's manifest, with
:meth:`Holds.release`, or a day after it was last used. docs/decisions/0011 says why there is no counter.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from blake3 import blake3

from imaging.manifest import HASH_SIZE

#: Seconds after which a hold that nobody used ends: an interrupted capture that comes back later sends again.
HOLD_SECONDS = 24 * 3600
#: Who asks without saying for whom; its hashes are released one by one, as manifests name them.
UNNAMED = "unnamed"


class Holds:
    """Thread-safe. ``lock`` is held while a hold is written and while prune forgets chunks: not for long."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        """Torn last hashes of a crash are cut off. OSError."""
        self._path, self._now = path, now
        self.lock = threading.Lock()
        self._marking: set[bytes] | None = None
        self._unwritten: dict[str, set[bytes]] = {}  # when the disk is full, memory must do
        path.mkdir(exist_ok=True)
        for file in path.iterdir():
            size = file.stat().st_size
            if file.name.endswith(".new"):
                file.unlink()
            elif size % HASH_SIZE:
                # Not os.utime: the age of a hold must not begin anew with each start.
                times = file.stat()
                os.truncate(file, size - size % HASH_SIZE)
                os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    def _file(self, holder: str) -> Path:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", holder):
            holder = blake3(holder.encode()).hexdigest(16)
        return self._path / holder

    def note(self, holder: str, hashes: Collection[bytes]) -> None:
        """From now on ``holder`` counts on these chunks, whether they are here or will come."""
        if not hashes:
            return
        path, data = self._file(holder or UNNAMED), b"".join(hashes)
        with self.lock:
            if self._marking is not None:
                self._marking.update(hashes)
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                try:
                    before = os.fstat(fd).st_size
                    if os.write(fd, data) != len(data):
                        os.ftruncate(fd, before)
                        raise OSError("written in part")
                finally:
                    os.close(fd)
            except OSError:
                self._unwritten.setdefault(path.name, set()).update(hashes)

    def release(self, holder: str, hashes: Iterable[bytes] = ()) -> None:
        """The capture is over. Without a name only ``hashes`` are released: others may share the file."""
        path = self._file(holder or UNNAMED)
        with self.lock, contextlib.suppress(OSError):
            unwritten = self._unwritten.pop(path.name, set())
            if holder:
                path.unlink(missing_ok=True)
                return
            gone = set(hashes)
            if unwritten - gone:
                self._unwritten[path.name] = unwritten - gone
            if not path.exists():
                return
            kept = dict.fromkeys(hash for hash in _read(path) if hash not in gone)
            if not kept:
                path.unlink()
                return
            new = path.with_name(path.name + ".new")
            new.write_bytes(b"".join(kept))
            os.utime(new, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
            new.rename(path)

    # --- for prune ---

    def begin(self) -> None:
        """Remember what is noted from now on. No manifest may be on its way in while this is called."""
        with self.lock:
            self._marking = set()

    def protect(self, hashes: Iterable[bytes]) -> None:
        """A manifest that names these chunks is about to be kept."""
        with self.lock:
            if self._marking is not None:
                self._marking.update(hashes)

    def is_new(self, hash: bytes) -> bool:
        """Whether it was noted or protected since :meth:`begin`; ``lock`` is held."""
        return self._marking is not None and hash in self._marking

    def end(self) -> None:
        with self.lock:
            self._marking = None

    def held(self, seconds: float) -> set[bytes]:
        """Everything held; holds not used for ``seconds`` are deleted first."""
        hashes: set[bytes] = set()
        with self.lock:
            for path in list(self._path.iterdir()):
                if seconds <= 0 or path.stat().st_mtime < self._now() - seconds:
                    path.unlink()
                    self._unwritten.pop(path.name, None)
                else:
                    hashes.update(_read(path))
            if seconds <= 0:
                self._unwritten.clear()
            for more in self._unwritten.values():
                hashes |= more
        return hashes


def _read(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return [data[at : at + HASH_SIZE] for at in range(0, len(data) - HASH_SIZE + 1, HASH_SIZE)]
