"""How small a file system can surely be made, from what an image says of it: known before writing begins.

The tools' own estimates (imaging.resize.minimum_size) need the file system itself, which lies in chunks that
were not fetched yet. These numbers are on the safe side of theirs; tests/imaging/resize/test_estimate.py
shrinks real file systems down to them.
"""

from __future__ import annotations

from imaging.resize.btrfs import SMALLEST as BTRFS_SMALLEST

_MIB = 1 << 20


def smallest(filesystem: str, used: int, size: int) -> int:
    """Bytes that a file system of ``size`` bytes needs at least when ``used`` of them are used."""
    need = used + used // 16
    if filesystem in ("ext2", "ext3", "ext4"):
        # resize2fs keeps a 500th of the blocks free for extent trees, and whole flex groups of inode tables.
        return need + size // 500 + 48 * _MIB
    if filesystem == "btrfs":
        # It moves whole block groups: one of data, and two copies of one of metadata, each at most a tenth
        # of the file system and at most 1 GiB and 256 MiB (kernel: fs/btrfs/volumes.c, init_alloc_chunk_ctl).
        return max(BTRFS_SMALLEST, need + min(2048 * _MIB, size * 3 // 8) + 128 * _MIB)
    return need + 4 * _MIB
