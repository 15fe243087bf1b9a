"""What a peer may read: names to content, with no way out of the folder.

A name in a request comes from anybody on the network. `normalise` turns it into a plain relative path or
refuses it; `Folder` serves regular files below a directory; `Overlay` puts made-up files (per host, say)
above.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from tftp.transfer import Content

__all__ = ["AccessViolation", "Files", "Folder", "OpenFile", "Overlay", "Peer", "normalise"]


class AccessViolation(Exception):
    """The name may not be read, whether or not it exists; the sentence says why. The peer gets ERROR 2."""


class Peer(NamedTuple):
    """Who asks: IPv4 address and the UDP port that is its transfer identifier (TID, RFC 1350 section 4)."""

    address: str
    port: int


class Files(Protocol):
    """Where the server gets content from."""

    def open(self, name: str, peer: Peer, local: str = "") -> Content | None:
        """Return the content of `name`, or None if there is no such file.

        `local` is our address that was asked: a made-up file may have to name it.

        Called on the event loop: must not wait. Raises `AccessViolation` if the name is refused. If the
        content has a `close` method, the server calls it at the end of the transfer.
        """
        ...


def normalise(name: str) -> str:
    """Return `name` as a relative path with single forward slashes.

    Backslashes separate too (shim and Windows loaders use them) and leading or double slashes mean nothing
    (shim asks for `//grubx64.efi`); percent signs are not decoded. Raises `AccessViolation` for `..`, control
    characters and empty names.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise AccessViolation("The file name holds a control character")
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise AccessViolation("The file name leads out of the folder")
    if not parts:
        raise AccessViolation("The file name is empty")
    return "/".join(parts)


class OpenFile:
    """A regular file read by position. Its length is what it was when opened; a shorter read later is an
    error.

    Not mapped into memory: a mapped file that is truncated kills the process that reads it (SIGBUS).
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor, self._size = descriptor, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice, /) -> bytes:
        start, stop, step = key.indices(self._size)
        if step != 1 or self._descriptor < 0:
            raise OSError("only whole ranges of an open file can be read")
        return os.pread(self._descriptor, stop - start, start) if stop > start else b""

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class Folder:
    """Regular files below `root`. Symbolic links are followed as long as they stay inside."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def open(self, name: str, peer: Peer, local: str = "") -> OpenFile | None:
        """See `Files.open`. Raises `AccessViolation` for an escape, a directory, a device or a forbidden
        file."""
        root = os.path.realpath(self._root)
        path = os.path.realpath(os.path.join(root, normalise(name)))
        if not path.startswith(root.rstrip("/") + "/"):
            raise AccessViolation("The file lies outside the folder")
        try:
            # Non-blocking, because opening a FIFO would wait for its writer; what is not regular is refused
            # below.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            raise AccessViolation(f"The file cannot be opened: {error.strerror}") from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise AccessViolation("The name is not a regular file's")
        return OpenFile(descriptor, status.st_size)


class Overlay:
    """Made-up files above others: `virtual(name, peer, local)` returns octets, or None to look below.

    It is given the normalised name.
    """

    def __init__(self, virtual: Callable[[str, Peer, str], bytes | None], below: Files) -> None:
        self._virtual, self._below = virtual, below

    def open(self, name: str, peer: Peer, local: str = "") -> Content | None:
        """See `Files.open`."""
        name = normalise(name)
        made_up = self._virtual(name, peer, local)
        return self._below.open(name, peer, local) if made_up is None else made_up
