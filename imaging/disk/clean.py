"""Whether a file system was shut down cleanly, by its own flag or log: only then is its map of blocks right.

What a log still holds lies in blocks that the map may call free; and a system that hibernated will go on
where it was, on a disk that is no longer what it remembers. So these are refused, with what to do about it.
Offsets are those of each format's description (fatgen103 and the exFAT specification by Microsoft; kernel
Documentation/filesystems/f2fs and btrfs' on-disk format; Apple TN1150).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from imaging.disk import fat, ntfs, xfslog
from imaging.disk.gpt import ReadAt

_WINDOWS = "start Windows, shut it down fully (shutdown /s /t 0)"
_LINUX = "start that system, shut it down cleanly"


def why_dirty(kind: str, read_at: ReadAt) -> str:
    """Why the map of this file system cannot be trusted, with the remedy; "" when it can.

    ``kind`` is what imaging.disk.probe said; ext and swap are judged there. Raises DiskError.
    """
    judge = _JUDGES.get(kind)
    return judge(read_at) if judge else ""


def why_apart(kind: str, read_at: ReadAt) -> str:
    """Why this file system cannot be understood alone: parts of it lie on other devices; "" when it can."""
    if kind == "xfs":
        sb = read_at(0, 512)
        if not struct.unpack_from(">Q", sb, 48)[0]:
            return "its log lies on another device"
        if struct.unpack_from(">Q", sb, 16)[0]:
            return "it has a realtime section"
    if kind == "btrfs" and struct.unpack_from("<Q", read_at(65536 + 136, 8))[0] != 1:
        return "it spreads over several devices"
    if kind == "f2fs" and read_at(1024 + 2201 + 68, 1) != b"\0":
        return "it spreads over several devices"
    return ""


def _fat(read_at: ReadAt) -> str:
    try:
        return fat.Fat(read_at).why_dirty()
    except fat.FatError as error:
        return f"it is damaged ({error}): check it (Windows: chkdsk /f, Linux: fsck.fat -a)"


def _exfat(read_at: ReadAt) -> str:
    flags = struct.unpack("<H", read_at(106, 2))[0]
    if flags & 0x2:
        return "it was not unmounted: check it (Windows: chkdsk /f, Linux: fsck.exfat)"
    return "its disk had errors: check it (Windows: chkdsk /r)" if flags & 0x4 else ""


def _xfs(read_at: ReadAt) -> str:
    sb = read_at(0, 512)
    size, agblocks = struct.unpack_from(">I", sb, 4)[0], struct.unpack_from(">I", sb, 84)[0]
    log, blocks, shift = struct.unpack_from(">Q", sb, 48)[0], struct.unpack_from(">I", sb, 96)[0], sb[124]
    if sb[126]:
        return "its mkfs was interrupted: make it anew"
    # A file-system block number holds the allocation group above its lowest `agblklog` bits.
    place = (log >> shift) * agblocks + (log & ((1 << shift) - 1))
    if xfslog.is_clean(read_at, place * size, blocks * size):
        return ""
    return f"its log holds changes: {_LINUX}, or mount it once and unmount it"


def _btrfs(read_at: ReadAt) -> str:
    sb = read_at(65536, 4096)
    if struct.unpack_from("<Q", sb, 56)[0] & 0x4:
        return "it has errors: check it with btrfs check"
    if struct.unpack_from("<Q", sb, 96)[0]:
        return f"its log holds changes: {_LINUX}, or mount it once and unmount it"
    return ""


def _f2fs(read_at: ReadAt) -> str:
    sb = read_at(1024, 512)
    segment = 1 << struct.unpack_from("<I", sb, 20)[0] % 32
    checkpoint = struct.unpack_from("<I", sb, 76)[0]
    # Two packs take turns; one that was written in part has different versions at its two ends.
    packs = []
    for at in (checkpoint, checkpoint + segment):
        head = read_at(at * 4096, 256)
        version, flags, count = (
            *struct.unpack_from("<Q", head),
            struct.unpack_from("<I", head, 132)[0],
            struct.unpack_from("<I", head, 136)[0],
        )
        if 2 <= count <= segment and read_at((at + count - 1) * 4096, 8) == head[:8]:
            packs.append((version, flags))
    if not packs:
        return "its checkpoints are damaged: check it with fsck.f2fs"
    flags = max(packs)[1]
    if flags & 0x18:  # CP_ERROR_FLAG, CP_FSCK_FLAG
        return "it has errors: check it with fsck.f2fs"
    return "" if flags & 0x1 else f"it was not unmounted: {_LINUX}"


def _hfsplus(read_at: ReadAt) -> str:
    attributes = struct.unpack(">I", read_at(1024 + 4, 4))[0]
    if attributes & 0x800:
        return "it has errors: check it with fsck_hfs"
    return "" if attributes & 0x100 else "it was not unmounted: start that system, shut it down cleanly"


def _ntfs(read_at: ReadAt) -> str:
    try:
        volume = ntfs.Volume(read_at)
        if volume.flags & ntfs.DIRTY:
            return "Windows has marked it for a check: start Windows, run chkdsk /f on it, shut down"
        if volume.hibernated:
            return (
                "Windows hibernates in it (Fast Startup does that): start Windows, switch it off with "
                "powercfg /h off, shut down"
            )
        if not volume.log_is_clean:
            return f"its log holds changes: {_WINDOWS}"
    except ntfs.NtfsError as error:
        return f"it is damaged ({error}): start Windows, run chkdsk /f on it, shut down"
    return ""


_JUDGES: dict[str, Callable[[ReadAt], str]] = {
    "fat": _fat,
    "exfat": _exfat,
    "xfs": _xfs,
    "btrfs": _btrfs,
    "f2fs": _f2fs,
    "hfsplus": _hfsplus,
    "ntfs": _ntfs,
}
