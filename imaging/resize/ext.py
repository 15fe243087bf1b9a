"""ext2, ext3 and ext4: e2fsck first, as resize2fs and tune2fs demand, then the change, all unmounted."""

from __future__ import annotations

import struct
import uuid

from imaging.errors import ResizeFailed
from imaging.resize.tools import LONG, Log, field, run

_REPAIR = "start the reference machine, let it check its disk, shut it down and capture again"


def check(path: str, log: Log) -> None:
    """e2fsck -f: repairs what is safe to repair; raises ResizeFailed when more is wrong."""
    # Status 1: errors were corrected (e2fsck(8), EXIT CODE).
    run("e2fsck", "-f", "-p", path, seconds=LONG, log=log, ok=(0, 1), advice=_REPAIR)


def minimum(path: str, log: Log) -> int:
    """resize2fs's own estimate in bytes; it is on the safe side."""
    block_size, _ = _super(path)
    text = run("resize2fs", "-P", path, seconds=LONG, log=log)
    return field(text, "minimum size of the filesystem:") * block_size


def length(path: str) -> int:
    """Bytes, as the superblock has it; raises ResizeFailed."""
    block_size, blocks = _super(path)
    return block_size * blocks


def _super(path: str) -> tuple[int, int]:
    """Block size and blocks (kernel: Documentation/filesystems/ext4/super.rst)."""
    with open(path, "rb", buffering=0) as file:
        file.seek(1024)
        block = file.read(1024)
    if len(block) < 1024 or block[56:58] != b"\x53\xef":
        raise ResizeFailed("There is no ext file system here any more: deploy the image again.")
    low, shift = struct.unpack_from("<I", block, 4)[0], struct.unpack_from("<I", block, 24)[0]
    incompat = struct.unpack_from("<I", block, 96)[0]
    high = struct.unpack_from("<I", block, 0x150)[0] if incompat & 0x80 else 0  # 64bit
    return 1024 << min(shift, 6), high << 32 | low


def grow(path: str, log: Log) -> None:
    check(path, log)
    run("resize2fs", path, seconds=LONG, log=log, advice=_REPAIR)


def shrink(path: str, size: int, log: Log) -> None:
    check(path, log)
    run("resize2fs", path, f"{size >> 10}K", seconds=LONG, log=log, advice="choose a larger disk")


def renew(path: str, log: Log) -> str:
    new = str(uuid.uuid4())
    check(path, log)  # with metadata_csum tune2fs refuses a file system that was not just checked
    run("tune2fs", "-U", new, path, seconds=LONG, log=log, advice=_REPAIR)
    return new
