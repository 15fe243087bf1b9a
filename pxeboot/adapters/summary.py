"""A manifest in a few lines of JSON, kept with its version: disks, partitions, what systems they may be."""

from __future__ import annotations

from typing import Any, Final

from imaging.manifest import DiskImage, Manifest

_SYSTEMS: Final = {
    "Windows": ("ntfs", "bitlocker", "refs"),
    "Linux": ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "lvm", "luks"),
    "macOS": ("hfsplus", "hfs+", "apfs"),
}
# A recovery or data partition alone is no Windows; the smallest system that can be installed has more.
_SMALLEST_SYSTEM: Final = 1 << 30


def summary_of(manifest: Manifest) -> dict[str, Any]:
    """`{"disks": [{"size", "sector_size", "table", "partitions": [{"number", …}]}], "systems": […]}`."""
    kinds = {p.filesystem for disk in manifest.disks for p in disk.partitions if p.size >= _SMALLEST_SYSTEM}
    return {
        "disks": [_disk(disk) for disk in manifest.disks],
        "systems": [system for system, theirs in _SYSTEMS.items() if kinds.intersection(theirs)],
    }


def _disk(disk: DiskImage) -> dict[str, Any]:
    return {
        "size": disk.size,
        "sector_size": disk.sector_size,
        "table": str(getattr(disk.table, "kind", "gpt")) if disk.table is not None else "",
        "partitions": [
            {
                "number": p.number,
                "name": p.name,
                "filesystem": p.filesystem,
                "label": p.label,
                "size": p.size,
                "used": p.used,
                "capture": p.capture,
            }
            for p in disk.partitions
        ],
    }
