"""Btrfs on one device: grown and shrunk while mounted; its UUID stands in every block of metadata."""

from __future__ import annotations

import contextlib
import struct
import uuid
from typing import NamedTuple

from imaging.disk.namespace import in_own_namespace
from imaging.errors import ResizeFailed
from imaging.resize.mounts import mounted
from imaging.resize.tools import LONG, SHORT, Log, field, run

_SUPERBLOCK = 65536
#: Btrfs does not go below this (btrfs-resize(8): "256MiB").
SMALLEST = 256 << 20


class Super(NamedTuple):
    """What we need of the superblock (btrfs wiki, "On-disk Format"; offsets of struct btrfs_super_block)."""

    devices: int
    device: int
    size: int


def read_super(path: str) -> Super:
    """Raises ResizeFailed when there is no Btrfs, or one over several devices."""
    with open(path, "rb", buffering=0) as file:
        file.seek(_SUPERBLOCK)
        block = file.read(4096)
    if len(block) < 4096 or block[0x40:0x48] != b"_BHRfS_M":
        raise ResizeFailed("There is no Btrfs file system here any more: deploy the image again.")
    devices = struct.unpack_from("<Q", block, 0x88)[0]
    device, size = struct.unpack_from("<QQ", block, 0xC9)  # dev_item: devid, total_bytes
    if devices != 1:
        raise ResizeFailed(
            f"This Btrfs lies on {devices} devices, of which one alone cannot be changed: deploy it as it is."
        )
    return Super(devices, device, size)


def minimum(path: str, log: Log) -> int:
    """What Btrfs itself says it could be shrunk to, in bytes."""
    device = read_super(path).device

    def work() -> str:
        with mounted(path, "btrfs", write=False) as directory:
            return run(
                "btrfs", "inspect-internal", "min-dev-size", "--id", str(device), directory,
                seconds=SHORT, log=log,
            )  # fmt: skip

    text = in_own_namespace(work)
    return max(SMALLEST, field("\n" + text, "\n"))


def grow(path: str, log: Log) -> None:
    _resize(path, "max", log)


def shrink(path: str, size: int, log: Log) -> None:
    _resize(path, str(size), log)


def _resize(path: str, size: str, log: Log) -> None:
    device = read_super(path).device

    def work() -> None:
        with mounted(path, "btrfs", write=True) as directory:
            command = ("btrfs", "filesystem", "resize", f"{device}:{size}", directory)
            try:
                run(*command, seconds=LONG, log=log)
            except ResizeFailed:
                if size == "max":
                    raise
                # Half-empty block groups hold the room that relocating needs: pack them and try once more.
                with contextlib.suppress(ResizeFailed):
                    run(
                        "btrfs", "balance", "start", "-dusage=75", "-musage=75", directory,
                        seconds=LONG, log=log,
                    )  # fmt: skip
                run(*command, seconds=LONG, log=log, advice="choose a larger disk")

    in_own_namespace(work)


def renew(path: str, log: Log) -> str:
    """Slow: btrfstune rewrites every block of metadata."""
    read_super(path)
    new = str(uuid.uuid4())
    run("btrfstune", "-f", "-U", new, path, seconds=LONG, log=log)
    return new
