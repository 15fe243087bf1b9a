"""A stretch of a disk that holds one thing: a partition, a logical volume, a whole disk without a table."""

from __future__ import annotations

from dataclasses import dataclass

from imaging.disk.device import Disk
from imaging.disk.gpt import ReadAt
from imaging.errors import DiskError


@dataclass(frozen=True, slots=True)
class Area:
    """``start`` and ``size`` in bytes on the disk; ``name`` begins a sentence: ``Partition 3``."""

    name: str
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size

    def reader(self, disk: Disk) -> ReadAt:
        """Reads by offsets from the area's start; what lies outside it raises DiskError."""

        def read_at(offset: int, length: int) -> bytes:
            if offset < 0 or length < 0 or offset + length > self.size:
                raise DiskError(f"{self.name} is too small for what its file system says of itself.")
            return disk.read_at(self.start + offset, length)

        return read_at
