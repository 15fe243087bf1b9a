"""Looking at a whole disk: table, partitions, file systems, and the runs that an image of it needs."""

import dataclasses
from collections.abc import Callable

from imaging.disk import probe, usedmap
from imaging.disk.device import Disk
from imaging.disk.table import boot_gap, read_table, without_chain
from imaging.errors import FilesystemDirty
from imaging.manifest import Partition, Runs, Table, merge_runs

#: mkswap's header: one page, with UUID, label and bad pages.
SWAP_HEADER = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """What is on a disk. ``runs`` are ready for a manifest's DiskImage."""

    size: int
    sector_size: int
    table: Table | None
    partitions: tuple[Partition, ...]
    runs: Runs


def read_layout(disk: Disk) -> tuple[Table | None, tuple[Partition, ...]]:
    """The table and the partitions with their file systems named (their ``used`` still 0).

    A disk without a table gives (None, ()). Raises UnsupportedDisk, TableInvalid, DiskError.
    """
    table, partitions = read_table(disk)
    return table, tuple(_named(disk, p) for p in partitions)


def _named(disk: Disk, partition: Partition) -> Partition:
    found = probe_partition(disk, partition)
    mode = "used" if found.kind in usedmap.TOOLS else "header" if found.kind == "swap" else "whole"
    return dataclasses.replace(
        partition, filesystem=found.kind, label=found.label, uuid=found.uuid, capture=mode
    )


def probe_partition(disk: Disk, partition: Partition) -> probe.FileSystem:
    """Name the file system of one partition; raises DiskError."""
    return probe.probe(lambda offset, length: disk.read_at(partition.start + offset, length), partition.size)


def inspect(disk: Disk, tell: Callable[[str], None] = lambda sentence: None) -> Layout:
    """Find out what to capture; ``tell`` gets a short line per partition, for people.

    Raises FilesystemDirty when a file system was not shut down cleanly, UnsupportedDisk, DiskError,
    ToolMissing.
    """
    table, partitions = read_layout(disk)
    if table is None:
        return Layout(disk.size, disk.sector_size, None, (), Runs([(0, disk.size)]))
    runs: list[tuple[int, int]] = boot_gap(disk, table, partitions)
    done = []
    for p in partitions:
        dirty = probe_partition(disk, p).dirty
        if dirty:
            raise FilesystemDirty(
                f"Partition {p.number} ({p.filesystem}) cannot be captured, {dirty}; then try again."
            )
        if p.capture == "used":
            own = usedmap.used_runs(disk, p)
        elif p.capture == "header":
            own = [(p.start, min(SWAP_HEADER, p.size))]
        else:
            own = [(p.start, p.size)]
        used = sum(length for _, length in merge_runs(own, gap=1))
        tell(f"partition {p.number}: {p.filesystem}, {used >> 20} of {p.size >> 20} MiB")
        done.append(dataclasses.replace(p, used=used))
        runs += own
    settled = Runs(without_chain(merge_runs(runs), table, disk.sector_size))
    return Layout(disk.size, disk.sector_size, table, tuple(done), settled)
