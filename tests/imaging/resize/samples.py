"""File systems really made, filled with files, and looked at again: what the tests of resizing share."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from imaging.disk.namespace import in_own_namespace
from imaging.resize.mounts import mounted
from tests.imaging.disks import run

MIB = 1 << 20
T = TypeVar("T")

MAKERS: dict[str, Callable[[Path], object]] = {
    "ext2": lambda part: run("mkfs.ext2", "-q", "-F", part),
    "ext3": lambda part: run("mkfs.ext3", "-q", "-F", part),
    "ext4": lambda part: run("mkfs.ext4", "-q", "-F", part),
    "xfs": lambda part: run("mkfs.xfs", "-q", "-f", part),
    "btrfs": lambda part: run("mkfs.btrfs", "-q", "-f", part),
    "ntfs": lambda part: run("mkntfs", "-Q", "-F", "-q", "-L", "Windows", part),
    "swap": lambda part: run("mkswap", "-L", "swap", part),
    "f2fs": lambda part: run("mkfs.f2fs", "-q", part),
    "fat": lambda part: run("mkfs.vfat", "-F", "32", "-n", "ESP", part),
}
FSCK: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("ext2", "ext3", "ext4"), ("e2fsck", "-f", "-n")),
    "xfs": ("xfs_repair", "-n"),
    "btrfs": ("btrfs", "check", "--readonly"),
    "ntfs": ("ntfsresize", "--info", "--force", "--force", "--no-progress-bar"),
    "f2fs": ("fsck.f2fs", "--dry-run"),
    "fat": ("fsck.fat", "-n"),
}
MOUNT = {"ext2": "ext4", "ext3": "ext4", "ext4": "ext4", "xfs": "xfs", "btrfs": "btrfs"}


def fill(device: str, kind: str, megabytes: int) -> None:
    """Files, links, holes and old files removed again, so that data lies all over the file system."""
    if kind == "ntfs":
        return _fill_ntfs(device, megabytes)
    return in_mount(device, kind, partial(_fill, megabytes=megabytes))


def _fill(root: Path, megabytes: int) -> None:
    (root / "tree/deep/deeper").mkdir(parents=True)
    for number in range(megabytes):
        (root / f"tree/old{number}").write_bytes(os.urandom(MIB))
        (root / f"tree/deep/file{number}").write_bytes(os.urandom(MIB))
    for number in range(megabytes):
        (root / f"tree/old{number}").unlink()
    (root / "tree/link").symlink_to("deep/file0")
    os.link(root / "tree/deep/file0", root / "tree/hard")
    with open(root / "tree/sparse", "wb") as file:
        file.seek(64 * MIB)
        file.write(b"end")


def _fill_ntfs(device: str, megabytes: int) -> None:
    for number in range(4):
        with tempfile.NamedTemporaryFile() as file:
            file.write(os.urandom(megabytes * MIB // 4))
            file.flush()
            run("ntfscp", "-f", "-q", device, file.name, f"file{number}")


def tree(device: str, kind: str) -> dict[str, str]:
    """path -> what is there; the whole content of a file system."""
    if kind == "ntfs":
        names = [
            n.strip() for n in run("ntfsls", "--force", device).splitlines() if n.strip().startswith("file")
        ]
        read = [["ntfscat", "--force", device, name] for name in names]
        return {
            name: hashlib.sha256(subprocess.run(command, capture_output=True, check=True).stdout).hexdigest()
            for name, command in zip(names, read, strict=True)
        }
    return in_mount(device, kind, _tree)


def _tree(root: Path) -> dict[str, str]:
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"link {os.readlink(path)}"
        elif path.is_dir():
            found[name] = f"directory {path.stat().st_mode:o}"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    found.pop("lost+found", None)
    return found


def in_mount(device: str, kind: str, work: Callable[[Path], T], *, write: bool = True) -> T:
    """Run ``work`` on the mounted file system; nobody else sees the mount."""

    def inside() -> T:
        with mounted(
            device, MOUNT[kind], write=write, options="nouuid" if kind == "xfs" else ""
        ) as directory:
            return work(Path(directory))

    return in_own_namespace(inside)


def check(device: str, kind: str) -> None:
    """Fails unless the file system's own checker finds nothing wrong."""
    if kind in FSCK:
        run(*FSCK[kind], device)
