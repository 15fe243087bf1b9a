"""Growing, shrinking and renaming the file system of one partition that is exposed as a device.

``path`` is a loop device over the partition, another mapping of it, or (for what needs no mount) a plain
file. The kernel's own partition nodes are not used: the table on the disk may have changed a moment ago.
What each file system can do is known without touching anything (:func:`why_not_grow`,
:func:`why_not_shrink`), so a deploy is refused before it writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from imaging.errors import ResizeFailed
from imaging.resize import btrfs, ext, ntfs, others, xfs
from imaging.resize.tools import Log, no_log

__all__ = ["grow", "minimum_size", "renew", "shrink", "why_not_grow", "why_not_shrink"]

_EXT = ("ext2", "ext3", "ext4")
_GROW: dict[str, Callable[[str, Log], None]] = {
    **dict.fromkeys(_EXT, ext.grow),
    "xfs": xfs.grow,
    "btrfs": btrfs.grow,
    "ntfs": ntfs.grow,
    "swap": others.grow_swap,
    "f2fs": others.grow_f2fs,
    "lvm": others.grow_lvm,
}
_SHRINK: dict[str, Callable[[str, int, Log], None]] = {
    **dict.fromkeys(_EXT, ext.shrink),
    "btrfs": btrfs.shrink,
    "ntfs": ntfs.shrink,
    "swap": lambda path, size, log: others.grow_swap(path, log),
}
_MINIMUM: dict[str, Callable[[str, Log], int]] = {
    **dict.fromkeys(_EXT, ext.minimum),
    "xfs": xfs.minimum,
    "btrfs": btrfs.minimum,
    "ntfs": ntfs.minimum,
}
#: What the file system itself says it is long, in bytes.
_LENGTH: dict[str, Callable[[str], int]] = {
    **dict.fromkeys(_EXT, ext.length),
    "btrfs": lambda path: btrfs.read_super(path).size,
    "ntfs": ntfs.length,
}
_RENEW: dict[str, Callable[[str, Log], str]] = {
    **dict.fromkeys(_EXT, ext.renew),
    "xfs": xfs.renew,
    "btrfs": btrfs.renew,
    "ntfs": ntfs.renew,
    "swap": others.renew_swap,
    "fat": others.renew_fat,
}
_ENCRYPTED = ("luks", "bitlocker")


def why_not_grow(filesystem: str) -> str:
    """Why a partition with this file system cannot be made larger, as a sentence; "" when it can."""
    if filesystem == "lvm" and not shutil.which("pvresize"):
        return (
            "An LVM physical volume cannot be grown here: run pvresize and lvextend on the deployed system."
        )
    if filesystem in _GROW:
        return ""
    if filesystem in ("fat", "exfat"):
        return (
            f"No tool grows a {'FAT' if filesystem == 'fat' else 'exFAT'} file system and keeps its files: "
            "choose another partition to grow."
        )
    if filesystem in _ENCRYPTED:
        return (
            "An encrypted partition is grown by the system that has its key: deploy without growing it, and "
            "grow it there."
        )
    return f"A partition with {filesystem} content cannot be grown: choose another partition to grow."


def why_not_shrink(filesystem: str) -> str:
    """Why a partition with this file system cannot be made smaller, as a sentence; "" when it can."""
    if filesystem in _SHRINK:
        return ""
    if filesystem == "xfs":
        return "XFS cannot be made smaller: choose a larger disk, or capture the image from a smaller one."
    return (
        f"A partition with {filesystem} content cannot be made smaller: choose a larger disk, or capture the "
        "image from a smaller one."
    )


def minimum_size(path: str, filesystem: str, *, log: Log = no_log) -> int:
    """The smallest size in bytes that the file system could have now; raises ResizeFailed, ToolMissing."""
    measure = _MINIMUM.get(filesystem)
    if measure is None:
        raise ResizeFailed(why_not_shrink(filesystem) or "A swap area may have any size.")
    return measure(path, log)


def grow(path: str, filesystem: str, *, log: Log = no_log) -> None:
    """Let the file system fill the device; does nothing when it does so already.

    Raises ResizeFailed with what the tool said, ToolMissing.
    """
    if sentence := why_not_grow(filesystem):
        raise ResizeFailed(sentence)
    _GROW[filesystem](path, log)


def shrink(path: str, filesystem: str, size: int, *, log: Log = no_log) -> None:
    """Make the file system at most ``size`` bytes long, moving what lies beyond; the device stays as it is.

    Raises ResizeFailed with what the tool said, ToolMissing.
    """
    if sentence := why_not_shrink(filesystem):
        raise ResizeFailed(sentence)
    _SHRINK[filesystem](path, size, log)
    measure = _LENGTH.get(filesystem)
    if measure is not None and (length := measure(path)) > size:
        raise ResizeFailed(
            f"The {filesystem} file system still has {length} bytes where {size} are left: "
            "choose a larger disk."
        )


def renew(path: str, filesystem: str, *, log: Log = no_log) -> dict[str, str]:
    """Give the file system a new UUID or serial number; returns ``{"uuid": the new one}``.

    Empty when there is no tool for this kind: it keeps what it has. Raises ResizeFailed, ToolMissing.
    """
    change = _RENEW.get(filesystem)
    return {} if change is None else {"uuid": change(path, log)}
