"""The disks being restored: read a chunk and compare, or check a frame and put its used runs down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from imaging.agent.demand import Demand
from imaging.agent.progress import Progress, Source
from imaging.chunks import open_in_place
from imaging.errors import ChunkInvalid
from imaging.manifest import Manifest
from imaging.target import Target

# A chunk that the server itself gave us damaged this often will not get better.
_MAX_BAD = 4


class Restore:
    """An image on its way to its ``targets`` (by disk of the manifest); methods may be called from any
    thread.
    """

    def __init__(
        self, manifest: Manifest, targets: Mapping[int, Target], demand: Demand, progress: Progress
    ) -> None:
        self.chunks = manifest.chunks
        self.demand = demand
        self.progress = progress
        self.kept: Callable[[int, bytes], None] = lambda index, frame: None  # told each good frame
        self._targets = targets
        self._bad: dict[int, int] = {}
        self._lock = threading.Lock()

    def foreign(self) -> list[int]:
        """Chunks of which nothing is to be written here."""
        if all(target.placement.only is None for target in self._targets.values()):
            return []
        return [ref.index for ref in self.chunks if not self._targets[ref.disk].coverage(ref)]

    def matches(self, index: int) -> bool:
        """Does the disk hold this chunk now? Raises DiskError."""
        chunk = self.chunks[index]
        return self._targets[chunk.disk].matches(chunk)

    def put(self, index: int, frame: bytes, *, source: Source) -> bool:
        """Check the frame of a *claimed* chunk, write it, and give the claim back; False when it was damaged.

        Raises ChunkInvalid when the server itself gave this chunk damaged too often, DiskError when the disk
        cannot be written.
        """
        good = False
        chunk = self.chunks[index]
        try:
            data = open_in_place(chunk.hash, frame)
            if len(data) != chunk.length:
                raise ChunkInvalid(chunk.hash, f"it has {len(data)} bytes, not {chunk.length}")
            self._targets[chunk.disk].write(chunk, data)
            good = True
            self.kept(index, frame)
        except ChunkInvalid:
            # Datagrams may come from anybody: the receiver gives such a chunk up, and it comes over HTTP. A
            # neighbour that gives one is left.
            if source != "http":
                return False
            with self._lock:
                self._bad[index] = self._bad.get(index, 0) + 1
                if self._bad[index] >= _MAX_BAD:
                    raise
        finally:
            self.progress.received(source, len(frame), written=1 if good else 0)
            self.demand.finish(index, good)
        return good
