"""One disk of an image: table, partitions, used runs and chunk hashes, valid from the moment it exists."""

from dataclasses import dataclass, field

from imaging.rules import check_disk
from imaging.runs import Grid, Runs
from imaging.tables import Partition, Table


@dataclass(frozen=True, slots=True)
class DiskImage:
    """One disk of an image. Sizes in bytes. Making one that breaks a rule raises ManifestError.

    ``runs`` are the used bytes outside the partition table (which is written anew for the target's size),
    merged with :func:`imaging.runs.merge_runs`; ``hashes`` holds one BLAKE3-256 per chunk of the grid that a
    run touches, ascending.
    """

    size: int
    sector_size: int
    table: Table | None
    partitions: tuple[Partition, ...]
    runs: Runs
    hashes: bytes
    physical_sector_size: int = 0
    """What the medium really writes at a time, for people (512e: 4096); 0 = as ``sector_size``."""
    grid: Grid = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_disk(self)
        object.__setattr__(self, "grid", Grid(self.size, self.runs))

    @property
    def head_size(self) -> int:
        """Bytes at the start of the disk that the table occupies (0 without a table)."""
        return self.table.head_size(self.sector_size) if self.table else 0

    @property
    def tail_size(self) -> int:
        """Bytes at the end of the disk that the backup table occupies (0 without one)."""
        return self.table.tail_size(self.sector_size) if self.table else 0

    @property
    def minimum_size(self) -> int:
        """Smallest disk, in bytes, that this image can be deployed to as it is."""
        ends = [p.start + p.size for p in self.partitions]
        if self.runs:
            ends.append(sum(self.runs[-1]))
        return max(ends, default=self.head_size) + self.tail_size

    @property
    def used(self) -> int:
        """Bytes in used runs: what a full deploy writes."""
        return sum(length for _, length in self.runs)
