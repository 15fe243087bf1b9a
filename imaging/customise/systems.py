"""Finding the operating systems on a disk, by what lies in their file systems, without changing them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
from collections.abc import Callable, Iterator, Sequence

from imaging.customise.mounts import EXT, MOUNTABLE, mounted
from imaging.customise.tree import Tree
from imaging.disk.device import Disk
from imaging.errors import CustomiseError, ImagingError
from imaging.manifest import Partition

_RELEASES = ("etc/os-release", "usr/lib/os-release")
#: Roots below the top of a Btrfs: Debian, Ubuntu and Mint, Fedora.
_SUBVOLUMES = ("@rootfs", "@", "root")
_TOP = "subvolid=5"
_MAX_TOP = 64


@dataclasses.dataclass(frozen=True, slots=True)
class System:
    """A place where things are done: a Linux root, a Windows volume, or just a partition that was named.

    ``options`` and ``below`` say how to reach a Btrfs root: mount options, then a directory.
    """

    kind: str  # linux | windows | partition
    disk: int  # which of the disks, from 0
    partition: Partition
    name: str = ""
    options: str = ""
    below: str = ""

    def where(self, several: bool = False) -> str:
        """What people read: "partition 3 (Debian GNU/Linux 12)"."""
        place = f"disk {self.disk + 1} " if several else ""
        return f"{place}partition {self.partition.number}" + (f" ({self.name})" if self.name else "")

    def fits(self, wanted: str) -> bool:
        """Is this what ``linux``, ``windows`` or ``partition:N`` means?"""
        if wanted.startswith("partition:"):
            return wanted == f"partition:{self.partition.number}"
        return wanted == self.kind


def find_systems(
    disks: Sequence[tuple[Disk, Sequence[Partition]]], wanted: set[str], skipped: Callable[[str], None]
) -> list[System]:
    """The systems that are meant by ``wanted`` (``linux``, ``windows``, ``partition:N``), in disk order.

    Partitions that cannot be mounted are told to ``skipped`` and left out. Call inside ``in_own_namespace``.
    """
    found = []
    for index, (disk, partitions) in enumerate(disks):
        for partition in partitions:
            if partition.filesystem not in MOUNTABLE:
                continue
            try:
                here = _look(disk, index, partition, wanted)
            except ImagingError as error:
                skipped(str(error))
                continue
            except OSError as error:
                skipped(
                    f"Partition {partition.number} ({partition.filesystem}) cannot be read "
                    f"({error.strerror}): check the image."
                )
                continue
            if not here and f"partition:{partition.number}" in wanted:
                here = [System("partition", index, partition)]
            found += here
    return found


def _look(disk: Disk, index: int, partition: Partition, wanted: set[str]) -> list[System]:
    kind = partition.filesystem
    named = f"partition:{partition.number}" in wanted
    if kind == "ntfs":
        if "windows" not in wanted and not named:
            return []
        with mounted(disk, partition, write=False) as path, Tree(path, ignore_case=True) as tree:
            if tree.is_file("Windows/System32/config/SYSTEM"):
                return [System("windows", index, partition, "Windows")]
        return []
    if "linux" not in wanted and not named:
        return []
    if kind in EXT or kind == "xfs":
        with mounted(disk, partition, write=False) as path, Tree(path) as tree:
            name = linux_name(tree)
            return [] if name is None else [System("linux", index, partition, name)]
    if kind == "btrfs":
        return _look_btrfs(disk, index, partition)
    return []


def _look_btrfs(disk: Disk, index: int, partition: Partition) -> list[System]:
    # The default subvolume is what a boot without rootflags= mounts (openSUSE points it at a snapshot).
    with mounted(disk, partition, write=False) as path, Tree(path) as tree:
        if (name := linux_name(tree)) is not None:
            return [System("linux", index, partition, name)]
    with mounted(disk, partition, write=False, options=_TOP) as path:
        return [
            System("linux", index, partition, name, _TOP, below)
            for below in _roots_below(path)
            if (name := _name_in(path, below)) is not None
        ]


def _roots_below(path: str) -> list[str]:
    with os.scandir(path) as entries:
        names = [
            entry.name
            for _, entry in zip(range(_MAX_TOP), entries, strict=False)
            if entry.is_dir(follow_symlinks=False) and "snap" not in entry.name.lower()
        ]
    known = [name for name in _SUBVOLUMES if name in names]
    return known or sorted(names)


def _name_in(path: str, below: str) -> str | None:
    try:
        with Tree(os.path.join(path, below)) as tree:
            return linux_name(tree)
    except OSError:
        return None


def linux_name(tree: Tree) -> str | None:
    """What a Linux calls itself, "Linux" when it does not say, None when this is no root of one."""
    for path in _RELEASES:
        try:
            text = tree.read(path)
        except CustomiseError:
            continue
        if text is not None:
            for line in text.decode("utf-8", "replace").splitlines():
                key, _, value = line.partition("=")
                name = value.strip().strip("\"'")
                if key.strip() == "PRETTY_NAME" and name.isprintable() and name:
                    return name[:60]
            return "Linux"
    return "Linux" if tree.is_regular("etc/hostname") else None


@contextlib.contextmanager
def opened(disk: Disk, system: System) -> Iterator[tuple[str, Tree]]:
    """Mount a system for writing: its root directory, and its files."""
    with mounted(disk, system.partition, write=True, options=system.options) as mount:
        path = os.path.join(mount, system.below) if system.below else mount
        # The directory was looked at before, but in an image every name may be a link.
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise CustomiseError(f"{system.where()} has no directory {system.below} any more.")
        with Tree(path, ignore_case=system.partition.filesystem in ("ntfs", "fat")) as tree:
            yield path, tree
