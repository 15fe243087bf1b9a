"""HFS+ there and back. Debian 12 has no mkfs for it, so a volume is written here from Apple's TN1150.

Nothing here can mount it either; what is compared is what its allocation file calls used, byte for byte.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from imaging.errors import FilesystemDirty
from imaging.store import ChunkStore
from tests.imaging.matrix.way import START, captured, partitioned, put_back

pytestmark = pytest.mark.disk

BLOCK, BLOCKS = 4096, 8192
SIZE = BLOCK * BLOCKS
BITMAP, EXTENTS, CATALOG = (1, 1), (2, 16), (18, 64)  # (first block, blocks)


def fork(first: int, blocks: int) -> bytes:
    return struct.pack(">QII", blocks * BLOCK, BLOCK, blocks) + struct.pack(">II", first, blocks) + bytes(56)


def tree(blocks: int, key: int) -> bytes:
    """An empty B-tree: its header node, of which only the first record matters to a reader of maps."""
    node = struct.pack(">IIbBHH", 0, 0, 1, 0, 3, 0)
    node += struct.pack(">HIIIIHHII", 0, 0, 0, 0, 0, BLOCK, key, blocks, blocks - 1)
    return node.ljust(BLOCK, b"\0")


def volume(attributes: int = 0x100) -> tuple[bytes, set[int]]:
    """(bytes, numbers of used blocks): headers, bitmap, trees, and files in many pieces."""
    dice = random.Random(4)
    used = {0, BLOCKS - 1, *range(1, 18 + 64)}
    files = set(dice.sample(range(100, BLOCKS - 2), 700)) | set(range(3000, 3900))
    used |= files
    bitmap = bytearray(BLOCKS // 8)
    for block in used:
        bitmap[block // 8] |= 0x80 >> block % 8
    header = struct.pack(">2sHI4sI", b"H+", 4, attributes, b"10.0", 0).ljust(40, b"\0")
    header += struct.pack(">IIIIIIIIQ", BLOCK, BLOCKS, BLOCKS - len(used), 4000, BLOCK, BLOCK, 16, 1, 1)
    header = header.ljust(112, b"\0") + fork(*BITMAP) + fork(*EXTENTS) + fork(*CATALOG) + bytes(160)
    data = bytearray(SIZE)
    for block in files:
        data[block * BLOCK : (block + 1) * BLOCK] = dice.randbytes(BLOCK)
    data[1024:1536] = data[-1024:-512] = header
    for (first, blocks), content in (
        (BITMAP, bytes(bitmap)),
        (EXTENTS, tree(16, 10)),
        (CATALOG, tree(64, 516)),
    ):
        assert len(content) <= blocks * BLOCK
        data[first * BLOCK : first * BLOCK + len(content)] = content
    return bytes(data), used


def written(path: Path, data: bytes) -> Path:
    partitioned(path, SIZE, 512)
    with open(path, "r+b") as file:
        file.seek(START)
        file.write(data)
    return path


def test_there_and_back(tmp_path: Path) -> None:
    data, used = volume()
    source = written(tmp_path / "source.img", data)
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        manifest = captured(source, 512, store)
        (partition,) = manifest.disks[0].partitions
        assert (partition.filesystem, partition.capture) == ("hfsplus", "used")
        assert partition.used == len(used) * BLOCK
        target = put_back(tmp_path / "target.img", source.stat().st_size, manifest, store, 512)
    with open(target, "rb") as file:
        file.seek(START)
        after = file.read(SIZE)
    for block in used:
        place = slice(block * BLOCK, (block + 1) * BLOCK)
        assert after[place] == data[place], f"block {block}"


def test_one_that_was_not_unmounted_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "source.img", volume(attributes=0)[0])
    with (
        ChunkStore(tmp_path / "store", reserve=0) as store,
        pytest.raises(FilesystemDirty, match=r"^Partition 1 \(hfsplus\) .*not unmounted"),
    ):
        captured(source, 512, store)
