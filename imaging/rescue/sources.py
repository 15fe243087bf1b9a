"""The file systems of a machine's disks, mounted read-only one after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from imaging.customise.mounts import MOUNTABLE, mounted
from imaging.disk.device import Disk
from imaging.disk.inspect import read_layout
from imaging.errors import ImagingError
from imaging.manifest import Partition

#: Holds nothing that anybody would look for.
_NOTHING = ("swap", "empty")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[Disk, tuple[Partition, ...]]]:
    with Disk(path) as disk:
        table, partitions = read_layout(disk)
        if table is None:
            raise ImagingError(f"The disk {path} has no partition table.")
        yield disk, partitions


def roots(
    disks: Sequence[str], visit: Callable[[str, int, bool], None], missed: Callable[[str, str], None]
) -> None:
    """Call ``visit(prefix, root, ignore_case)`` for each file system that can be mounted.

    ``prefix`` is its name in the archive (``disk1/partition2-Windows``), ``root`` an open directory.
    ``missed`` gets the others with the reason. Call inside ``in_own_namespace``.
    """
    for number, path in enumerate(disks, start=1):
        where = f"disk{number}"
        try:
            with _opened(path) as (disk, partitions):
                for partition in partitions:
                    if partition.filesystem not in _NOTHING:
                        _visit(disk, partition, where, visit, missed)
        except ImagingError as error:
            missed(where, str(error))


def _visit(
    disk: Disk,
    partition: Partition,
    where: str,
    visit: Callable[[str, int, bool], None],
    missed: Callable[[str, str], None],
) -> None:
    label = "".join(c if c.isalnum() or c in "-_." else "_" for c in partition.label)[:40].strip(".")
    prefix = f"{where}/partition{partition.number}" + (f"-{label}" if label else "")
    if partition.filesystem not in MOUNTABLE:
        missed(prefix, f"it holds {partition.filesystem}, which cannot be looked into")
        return
    try:
        with mounted(disk, partition, write=False) as folder:
            root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                visit(prefix, root, partition.filesystem in ("ntfs", "fat"))
            finally:
                os.close(root)
    except ImagingError as error:
        missed(prefix, str(error))
