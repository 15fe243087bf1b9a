"""How each file system is made, filled, described and checked, with its own tools or this kernel's driver.

A kernel without a driver is no excuse: FAT is filled and read by mtools, exFAT and NTFS through FUSE, F2FS by
sload and dump. (This is said in each recipe, so nothing is left out silently.)
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from imaging.disk.namespace import in_own_namespace
from tests.imaging.disks import run
from tests.imaging.matrix.trees import MIB, describe, plant

Facts = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """One row of the matrix. Everything works on the partition as a block device."""

    name: str
    kind: str
    size: int
    make: str
    """mkfs' command; ``{sector}`` is the sector size, the device is appended."""
    fill: Callable[[str, Path], None]
    facts: Callable[[str, Path], Facts]
    check: Sequence[str]
    """Commands that end with 0 when the file system is clean; the device is appended."""
    least: int = 5 * MIB
    """Bytes that the image uses at least …"""
    most: float = 0.6
    """… and at most, as a share of the partition."""
    sectors: Sequence[int] = field(default=(512, 4096))


def unseen(work: Callable[P, T]) -> Callable[P, T]:
    """What it mounts is seen by nobody else: no namespace that somebody makes meanwhile keeps it busy."""

    @functools.wraps(work)
    def alone(*arguments: P.args, **more: P.kwargs) -> T:
        return in_own_namespace(lambda: work(*arguments, **more))

    return alone


@contextlib.contextmanager
def mounted(device: str, place: Path, *command: str) -> Iterator[Path]:
    """Mount with ``command`` (device and place are appended); a FUSE server is waited for."""
    place.mkdir(exist_ok=True)
    run(*command, device, place)
    try:
        yield place
    finally:
        run("umount", place)
        # FUSE lets umount(8) go before its server has written everything down.
        deadline = time.monotonic() + 90
        while _held(device):
            assert time.monotonic() < deadline, f"{command[0]} does not let go of {device}"
            time.sleep(0.02)


def _held(device: str) -> bool:
    """Whether a FUSE server still has the device open."""
    for name in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            server = name.read_text().strip()
            if "ntfs-3g" in server or "exfat" in server:
                for link in (name.parent / "fd").iterdir():
                    if str(link.readlink()) == device:
                        return True
    return False


Methods = tuple[Callable[[str, Path], None], Callable[[str, Path], Facts]]


def by_driver(kind: str, options: str = "", **plants: Any) -> Methods:
    """Fill and describe through the kernel's own driver."""

    def fill(device: str, scratch: Path) -> None:
        with mounted(
            device, scratch / "mnt", "mount", "-t", kind, *(["-o", options] if options else [])
        ) as root:
            plant(root, **plants)

    def facts(device: str, scratch: Path) -> Facts:
        with mounted(device, scratch / "mnt", "mount", "-t", kind, "-o", "ro") as root:
            return describe(root)

    return fill, facts


def by_fuse(*command: str, **plants: Any) -> Methods:
    """Fill and describe through a FUSE server."""

    def fill(device: str, scratch: Path) -> None:
        with mounted(device, scratch / "mnt", *command) as root:
            plant(root, **plants)

    def facts(device: str, scratch: Path) -> Facts:
        with mounted(device, scratch / "mnt", *command, "-o", "ro") as root:
            return describe(root)

    return fill, facts


# --- FAT: mtools ---


def fat_fill(device: str, scratch: Path) -> None:
    tree = scratch / "fat-tree"
    tree.mkdir()
    plant(tree, large=2 * MIB, posix=False, many=60)
    run("mcopy", "-s", "-m", "-i", device, *sorted(tree.iterdir()), "::")
    run("mattrib", "+h", "+s", "-i", device, "::size-4096")


def fat_facts(device: str, scratch: Path) -> Facts:
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        run("mcopy", "-s", "-m", "-n", "-i", device, "::", place)
        facts = describe(Path(place))
        facts.pop(".")
    facts["attributes"] = run("mattrib", "-/", "-i", device, "::")
    return facts


# --- F2FS: sload writes, dump reads; inode by inode ---


def f2fs_fill(device: str, scratch: Path) -> None:
    tree = scratch / "f2fs-tree"
    tree.mkdir()
    plant(tree, many=30, large=5 * MIB)
    for name in ("fifo", "null", "sparse"):  # sload does not take them, and fills holes
        (tree / name).unlink()
    run("sload.f2fs", "-P", "-f", tree, device)


def f2fs_facts(device: str, scratch: Path) -> Facts:
    listing = run("fsck.f2fs", "-t", "--dry-run", device)
    facts: Facts = {"tree": re.findall(r"(?m)^[|`].*$", listing)}
    assert len(facts["tree"]) > 40, listing
    with tempfile.TemporaryDirectory(dir=scratch) as place:
        for inode in range(3, 75):
            done = subprocess.run(
                ["dump.f2fs", "-d", "1", "-i", hex(inode), device],
                input=b"y\n",
                capture_output=True,
                cwd=place,
                check=False,
            )
            text = re.sub(
                r"(?m)^.*(/dev/|Info: |Segments|Kernel|elapsed).*$", "", done.stdout.decode(errors="replace")
            )
            files = sorted(path for path in Path(place).rglob("*") if path.is_file())
            facts[f"inode {inode}"] = (
                text,
                [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
            )
            for path in files:
                path.unlink()
    assert sum(1 for value in facts.values() if isinstance(value, tuple) and value[1]) > 25, facts
    return facts


E2FSCK = ("e2fsck -fn",)
EXT = by_driver("ext4")
FAT = (fat_fill, fat_facts, ("fsck.fat -n",), 2 * MIB)
NTFS = by_fuse("ntfs-3g", "-o", "permissions,acl,streams_interface=xattr", large=5 * MIB)
EXT_OLD = "mkfs.ext4 -q -F -b 1024 -O ^resize_inode,meta_bg,sparse_super2,^flex_bg,^64bit"
BTRFS = ("btrfs check --readonly",)
RECIPES = [
    Recipe("ext2", "ext2", 96 * MIB, "mkfs.ext2 -q -F", *by_driver("ext2"), E2FSCK),
    Recipe("ext3", "ext3", 96 * MIB, "mkfs.ext3 -q -F", *EXT, E2FSCK),
    Recipe("ext4", "ext4", 128 * MIB, "mkfs.ext4 -q -F -O inline_data", *EXT, E2FSCK),
    Recipe("ext4-1k-blocks", "ext4", 128 * MIB, EXT_OLD, *EXT, E2FSCK, sectors=(512,)),
    Recipe("xfs", "xfs", 304 * MIB, "mkfs.xfs -q -f -m rmapbt=1", *by_driver("xfs"), ("xfs_repair -n",)),
    Recipe("btrfs", "btrfs", 128 * MIB, "mkfs.btrfs -q -f", *by_driver("btrfs"), BTRFS),
    Recipe("btrfs-mixed", "btrfs", 128 * MIB, "mkfs.btrfs -q -f -m single -d single --mixed",
           *by_driver("btrfs", "compress=zstd"), BTRFS, sectors=(512,)),
    Recipe("f2fs", "f2fs", 112 * MIB, "mkfs.f2fs -q -f -w {sector} -O extra_attr,inode_checksum,sb_checksum",
           f2fs_fill, f2fs_facts, ("fsck.f2fs -f --dry-run",)),
    Recipe("ntfs", "ntfs", 64 * MIB, "mkntfs -q -Q -F", *NTFS, ("ntfsfix -n", "ntfsresize -P -f --check")),
    Recipe("fat12", "fat", 12 * MIB, "mkfs.vfat -F 12 -S {sector}", *FAT),
    Recipe("fat16", "fat", 32 * MIB, "mkfs.vfat -F 16 -S {sector} -s 1", *FAT, sectors=(4096,)),
    Recipe("fat16-2k", "fat", 32 * MIB, "mkfs.vfat -F 16 -s 4", *FAT, sectors=(512,)),
    Recipe("fat32", "fat", 48 * MIB, "mkfs.vfat -F 32 -s 1", *FAT, sectors=(512,)),
    # With sectors of 4096 bytes a FAT32 has 256 MiB and more, or mtools does not believe it.
    Recipe("fat32-large", "fat", 260 * MIB, "mkfs.vfat -F 32 -S {sector} -s 1", *FAT, sectors=(4096,)),
    Recipe("exfat", "exfat", 64 * MIB, "mkfs.exfat", *by_fuse("mount.exfat-fuse", posix=False, large=5 * MIB),
           ("fsck.exfat -n",)),
]  # fmt: skip
