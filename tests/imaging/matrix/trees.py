"""A tree of files as real ones are, and everything that can be told of a tree so that two can be compared."""

from __future__ import annotations

import hashlib
import os
import random
import stat
import subprocess
from pathlib import Path
from typing import Any

KIB, MIB = 1 << 10, 1 << 20
#: 2001-09-09, with nanoseconds: what a file system keeps of it, it keeps twice.
OLD = 1_000_000_000_123_456_789


def plant(root: Path, *, large: int = 6 * MIB, posix: bool = True, many: int = 120, seed: int = 7) -> None:
    """Fill ``root``. ``posix``: with links, owners, modes, extended attributes and ACLs."""
    noise = random.Random(seed)
    for size in (0, 1, 511, 4095, 4096, 4097, 70_000):
        (root / f"size-{size}").write_bytes(noise.randbytes(size))
    (root / "large.bin").write_bytes(noise.randbytes(large))
    crowd = root / "crowd"
    crowd.mkdir()
    for number in range(many):
        (crowd / f"file {number:04}.txt").write_bytes(noise.randbytes(noise.randrange(3000)))
    for number in range(0, many, 3):  # holes in the directory and in the map
        (crowd / f"file {number:04}.txt").unlink()
    deep = root
    for level in range(12):
        deep = deep / f"level{level}"
        deep.mkdir()
    (deep / "treasure").write_text("found\n")
    (root / ("long" * 30)).write_text("a long name\n")
    if posix:
        _plant_posix(root, noise)
    for folder, names, files in os.walk(root, topdown=False):
        for name in [*files, *names]:
            os.utime(os.path.join(folder, name), ns=(OLD, OLD), follow_symlinks=False)


def _plant_posix(root: Path, noise: random.Random) -> None:
    with open(root / "sparse", "wb") as file:
        file.truncate(300 * MIB)
        for place in (0, 5 * MIB, 299 * MIB):
            file.seek(place)
            file.write(noise.randbytes(8000))
    (root / "ünïcödé-文字-🙂").write_text("names are bytes\n")
    os.link(root / "size-4096", root / "level0" / "again")
    os.symlink("level0/level1", root / "short-link")
    os.symlink("x" * 200, root / "long-link")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    for name, mode, owner, group in (
        ("size-1", 0o4755, 0, 0),
        ("size-511", 0o0, 1000, 100),
        ("crowd", 0o1777, 65534, 65534),
    ):
        os.chown(root / name, owner, group)
        os.chmod(root / name, mode)
    os.setxattr(root / "size-4097", "user.comment", "ü".encode())
    os.setxattr(root / "size-4097", "user.long", noise.randbytes(500))
    os.setxattr(
        root / "size-4097", "security.capability", bytes.fromhex("0000000200040000000000000000000000000000")
    )
    subprocess.run(
        ["setfacl", "-m", "u:1234:rw,g:77:r", str(root / "size-70000")], check=True, capture_output=True
    )
    subprocess.run(
        ["setfacl", "-d", "-m", "u:1234:rwx", str(root / "level0")], check=True, capture_output=True
    )


def describe(root: Path, *, times: bool = True) -> dict[str, Any]:
    """path -> (kind and mode, owner, group, links, size, time, content or target, extended attributes)."""
    found: dict[str, Any] = {}
    first: dict[int, str] = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in [".", *sorted(files + folders)] if folder == str(root) else sorted(files + folders):
            path = Path(folder, name)
            facts = path.lstat()
            key = os.path.relpath(path, root)
            attributes = {a: os.getxattr(path, a, follow_symlinks=False).hex() for a in _attributes(path)}
            found[key] = (
                oct(facts.st_mode),
                facts.st_uid,
                facts.st_gid,
                facts.st_nlink,
                0 if path.is_dir() else facts.st_size,
                facts.st_mtime_ns if times else 0,
                first.setdefault(facts.st_ino, key),  # hard links are the same file
                facts.st_rdev,
                _content(path),
                attributes,
            )
    return found


def _attributes(path: Path) -> list[str]:
    try:
        return sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:
        return []


def _content(path: Path) -> str:
    if path.is_symlink():
        return os.readlink(path)
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return ""
