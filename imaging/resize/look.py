"""Looking at deployed partitions for what forbids new identities, without changing a byte.

Windows' boot configuration (BCD) names the disk GUID or disk signature and the GUID or place of partitions,
in a registry hive that only Windows should write; dracut's initramfs and unified kernel images carry the
UUIDs they wait for inside themselves. Such partitions keep what they have.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

from imaging.disk.namespace import in_own_namespace
from imaging.errors import ImagingError
from imaging.manifest import Partition
from imaging.resize.fat import Fat, FatError, ReadAt
from imaging.resize.mounts import mounted
from imaging.resize.references import find_files, read_file
from imaging.resize.tools import SHORT, Log, run

Device = Callable[[Partition, bool], AbstractContextManager[str]]
"""(partition, for writing?) -> a device over it."""

_EXT = ("ext2", "ext3", "ext4")
MOUNTABLE = (*_EXT, "xfs", "btrfs")
#: Content that an initramfs may name by the partition's GUID, and that we cannot rename inside.
_NAMED_FROM_WITHIN = ("luks", "lvm", "mdraid", "bitlocker", "zfs")
_WINDOWS_NAMES = frozenset({"windows", "boot", "bootmgr", "recovery", "efi"})
#: Roots of systems on a Btrfs: subvolumes (@, root …) and what openSUSE boots from.
_BTRFS_ROOTS = ("", "*/", "*/.snapshots/*/snapshot/")


class Findings(NamedTuple):
    """``keep``: partition number -> why it keeps its identities; ``windows``: so does the disk."""

    keep: dict[int, str]
    windows: bool


def mount_options(filesystem: str, *, write: bool) -> tuple[str, str]:
    """(kind, options) for mount(2): read-only replays no journal; Btrfs shows all its subvolumes."""
    if filesystem in _EXT:
        return "ext4", "" if write or filesystem == "ext2" else "noload"
    if filesystem == "xfs":
        return "xfs", "nouuid" if write else "nouuid,norecovery"
    return filesystem, "subvolid=5"


def patterns_for(filesystem: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Shell patterns from the root of the file system, where a system's own root may be a subvolume."""
    if filesystem != "btrfs":
        return patterns
    return tuple(prefix + pattern for prefix in _BTRFS_ROOTS for pattern in patterns)


def look(
    partitions: tuple[Partition, ...], device: Device, reader: Callable[[Partition], ReadAt], log: Log
) -> Findings:
    """Find out what must stay as it is; raises ResizeFailed, ToolMissing, DiskError."""
    keep: dict[int, str] = {}
    windows = False
    linux: list[str] = []  # why all Linux partitions of this disk keep theirs
    for p in partitions:
        if p.filesystem in _NAMED_FROM_WITHIN:
            keep[p.number] = f"its content ({p.filesystem}) is named inside initramfs files"
        elif p.filesystem == "ntfs" and _is_windows(p, device, log):
            keep[p.number] = "Windows starts from it"
            windows = True
        elif p.filesystem == "fat":
            names = _efi_names(reader(p), log)
            if "efi/microsoft" in names:
                keep[p.number] = "Windows starts from it"
                windows = True
            if any(name.startswith("efi/linux/") and name.endswith(".efi") for name in names):
                linux.append("a unified kernel image has UUIDs built in")
        elif p.filesystem in MOUNTABLE:
            reasons = _look_into(p, device)
            linux += [reason for reason in reasons if reason != _BUILT_IN]
            if _BUILT_IN in reasons:
                keep[p.number] = _BUILT_IN
    if linux:
        for p in partitions:
            if p.filesystem in (*MOUNTABLE, "swap"):
                keep.setdefault(p.number, linux[0])
    return Findings(keep, windows)


_BUILT_IN = "GRUB's core image has its UUID built in"


def _is_windows(p: Partition, device: Device, log: Log) -> bool:
    with device(p, False) as path:
        try:
            text = run("ntfsls", "--force", "--path", "/", path, seconds=SHORT, log=log)
        except ImagingError as error:
            log(f"partition {p.number}: {error}")
            return True  # a volume that cannot be looked into is not renamed either
    return any(line.strip().lower() in _WINDOWS_NAMES for line in text.splitlines())


def _efi_names(read_at: ReadAt, log: Log) -> set[str]:
    try:
        return {entry.path.lower() for entry in Fat(read_at).walk("EFI")}
    except FatError as error:
        log(f"FAT file system that cannot be read: {error}")
        return set()


def _look_into(p: Partition, device: Device) -> set[str]:
    def work() -> set[str]:
        kind, options = mount_options(p.filesystem, write=False)
        with device(p, False) as path, mounted(path, kind, write=False, options=options) as directory:
            root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return _reasons(root, p)
            finally:
                os.close(root)

    return in_own_namespace(work)


def _reasons(root: int, p: Partition) -> set[str]:
    def there(*patterns: str) -> bool:
        return next(find_files(root, patterns_for(p.filesystem, patterns)), None) is not None

    reasons = set()
    dracut = there("usr/bin/dracut", "usr/sbin/dracut", "usr/lib/dracut/dracut-functions.sh")
    if dracut and not there("usr/sbin/mkinitramfs", "sbin/mkinitramfs"):
        reasons.add("dracut's initramfs waits for the UUIDs it was made with")
    # grub-install writes down what it built into its image; for BIOS that image is compressed.
    for _, directory, name in find_files(
        root, patterns_for(p.filesystem, ("grub/i386-pc/load.cfg", "boot/grub/i386-pc/load.cfg",
                                          "grub2/i386-pc/load.cfg", "boot/grub2/i386-pc/load.cfg"))
    ):  # fmt: skip
        if p.uuid and p.uuid.lower().encode() in read_file(directory, name).lower():
            reasons.add(_BUILT_IN)
    return reasons
