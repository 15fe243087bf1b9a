"""Files of the exchange folder: named from outside, so never through a symbolic link and never elsewhere."""

import os
import stat
from pathlib import Path
from typing import IO

from imaging.exchange.errors import PathRefused


def inside(root: Path, name: str) -> Path:
    """The path of ``name``, a relative path inside ``root``; it need not exist yet.

    Raises PathRefused when it is absolute, climbs out, has strange characters, or a part of it that exists is
    a symbolic link.
    """
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or any(ord(c) < 32 for c in name):
        raise PathRefused(
            f"{name[:200]!r} is not the name of a file inside {root}: give it without / at the beginning "
            "and without '..'."
        )
    path = root
    for part in parts:
        path /= part
        if path.is_symlink():
            raise PathRefused(f"{path} is a symbolic link: move the file itself into {root}.")
    return path


def open_regular(path: Path) -> IO[bytes]:
    """Open a plain file for reading; raises PathRefused for links, pipes and devices, OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise PathRefused(f"{path} is a symbolic link: put the file itself there.") from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise PathRefused(f"{path} is not a plain file: put a file there.")
    return os.fdopen(fd, "rb")
