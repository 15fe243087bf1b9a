"""Looking at a whole disk: table, partitions, file systems, and the runs that an image of it needs."""

import dataclasses
from collections.abc import Callable

from imaging.disk import content, probe
from imaging.disk.area import Area
from imaging.disk.device import Disk
from imaging.disk.table import boot_gap, read_table, without_chain
from imaging.manifest import Partition, Runs, Table, merge_runs
from imaging.options import CaptureOptions, OptionsError


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """What is on a disk. ``runs`` are ready for a manifest's DiskImage."""

    size: int
    sector_size: int
    table: Table | None
    partitions: tuple[Partition, ...]
    runs: Runs
    blank: Runs = dataclasses.field(default_factory=Runs)
    """Bytes that the image holds as zeros, whatever the disk has there; ascending, also outside ``runs``."""


def read_layout(disk: Disk) -> tuple[Table | None, tuple[Partition, ...]]:
    """The table and the partitions with their file systems named (their ``used`` still 0).

    A disk without a table gives (None, ()). Raises UnsupportedDisk, TableInvalid, DiskError.
    """
    table, partitions = read_table(disk)
    return table, tuple(_named(disk, p) for p in partitions)


def _named(disk: Disk, partition: Partition) -> Partition:
    found = probe_partition(disk, partition)
    return dataclasses.replace(
        partition, filesystem=found.kind, label=found.label, uuid=found.uuid, capture=content.mode(found.kind)
    )


def probe_partition(disk: Disk, partition: Partition) -> probe.FileSystem:
    """Name the file system of one partition; raises DiskError."""
    return probe.probe(area_of(partition).reader(disk), partition.size)


def area_of(partition: Partition) -> Area:
    return Area(f"Partition {partition.number}", partition.start, partition.size)


def inspect(
    disk: Disk,
    tell: Callable[[str], None] = lambda sentence: None,
    options: CaptureOptions = CaptureOptions(),
) -> Layout:
    """Find out what to capture; ``tell`` gets short lines per partition, for people.

    Raises FilesystemDirty when a file system was not shut down cleanly, FilesystemUnsupported when the used
    blocks of a partition cannot be told, OptionsError when a chosen one is not there, UnsupportedDisk,
    DiskError, ToolMissing.
    """
    table, partitions = read_layout(disk)
    if table is None:
        return _without_table(disk, tell, options)
    _check_chosen(partitions, options)
    runs = boot_gap(disk, table, partitions)
    blank: list[tuple[int, int]] = []
    done = []
    for p in partitions:
        if options.partitions is not None and p.number not in options.partitions:
            tell(f"partition {p.number}: {p.filesystem}, not chosen")
            done.append(dataclasses.replace(p, capture="none"))
            continue
        taken = content.take(disk, area_of(p), probe_partition(disk, p), options, p.type_guid)
        for line in taken.notes:
            tell(f"partition {p.number}: {line}")
        tell(f"partition {p.number}: {p.filesystem}, {taken.used >> 20} of {p.size >> 20} MiB")
        done.append(dataclasses.replace(p, used=taken.used, capture=taken.capture))
        runs += taken.runs
        blank += taken.blank
    settled = Runs(without_chain(merge_runs(runs), table, disk.sector_size))
    return Layout(disk.size, disk.sector_size, table, tuple(done), settled, Runs(sorted(blank)))


def _check_chosen(partitions: tuple[Partition, ...], options: CaptureOptions) -> None:
    there = [p.number for p in partitions]
    for number in options.partitions or ():
        if number not in there:
            raise OptionsError(
                "capture.partitions",
                number,
                f"this disk has the partitions {', '.join(map(str, there)) or '-'}",
            )


def _without_table(disk: Disk, tell: Callable[[str], None], options: CaptureOptions) -> Layout:
    """A disk that is one file system or one physical volume; what nobody knows is taken whole, unasked."""
    if options.partitions is not None:
        raise OptionsError("capture.partitions", list(options.partitions), "this disk has no partitions")
    area = Area("The disk", 0, disk.size)
    found = probe.probe(area.reader(disk), disk.size)
    if found.kind == "unknown":
        taken = content.Taken("whole", [(0, disk.size)])
    else:
        taken = content.take(disk, area, found, options)
    for line in taken.notes:
        tell(line)
    tell(f"no partition table: {found.kind}, {taken.used >> 20} of {disk.size >> 20} MiB")
    return Layout(disk.size, disk.sector_size, None, (), merge_runs(taken.runs), Runs(taken.blank))
