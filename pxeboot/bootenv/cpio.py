"""Writes cpio archives in the "newc" format, the one the kernel unpacks as its first root file system.

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. Everything that would differ from
one build to the next is fixed here: order, owners, inode numbers, times.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MAGIC = b"070701"
TRAILER = "TRAILER!!!"


class Sink(Protocol):
    """Anything with `write`."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True)
class Entry:
    """One member: `mode` holds type and permissions; `data` is the content of a file or the target of a link.

    A file's content may instead be read from `source` when its turn comes. `rdev` is (major, minor) of a
    device.
    """

    name: str
    mode: int
    data: bytes = b""
    source: Path | None = None
    rdev: tuple[int, int] = (0, 0)


def directory(name: str, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(name, stat.S_IFDIR | mode)


def file(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """A plain file with its content."""
    return Entry(name, stat.S_IFREG | mode, data)


def link(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """A character device node (written as a header only: no root is needed to build one)."""
    return Entry(name, stat.S_IFCHR | mode, rdev=(major, minor))


def scan(root: Path) -> Iterator[Entry]:
    """Every file, directory and link below `root`, named relative to it, owner bits as they are.

    Set-user-ID bits are dropped (all there is runs as root); special files raise ValueError.
    """
    for path, directories, files in os.walk(root):
        directories.sort()
        for name in sorted(directories + files):
            full = Path(path, name)
            relative = str(full.relative_to(root))
            mode = full.lstat().st_mode
            if stat.S_ISLNK(mode):
                yield link(relative, os.readlink(full))
            elif stat.S_ISDIR(mode):
                yield directory(relative, stat.S_IMODE(mode) & 0o1777)
            elif stat.S_ISREG(mode):
                yield Entry(relative, stat.S_IFREG | stat.S_IMODE(mode) & 0o777, source=full)
            else:
                raise ValueError(f"{relative}: neither file, directory nor link")


def write(entries: Iterable[Entry], out: Sink, mtime: int) -> int:
    """Write the archive, members sorted by name, owners root, times `mtime` (seconds); return its bytes.

    Sorting puts a directory before what is in it, which the kernel needs: it makes no missing parents.
    """
    total = 0
    for number, entry in enumerate(sorted(entries, key=lambda e: e.name), start=1):
        total += _member(entry, number, mtime, out)
    total += _member(Entry(TRAILER, 0), 0, 0, out)
    return total


def _member(entry: Entry, inode: int, mtime: int, out: Sink) -> int:
    name = entry.name.encode() + b"\0"
    data = entry.data if entry.source is None else entry.source.read_bytes()
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, mtime, len(data), 0, 0, *entry.rdev, len(name), 0)
    header = MAGIC + b"".join(b"%08X" % field for field in fields) + name
    header += bytes(-len(header) % 4)
    padding = bytes(-len(data) % 4)
    out.write(header)
    out.write(data)
    out.write(padding)
    return len(header) + len(data) + len(padding)
