"""What a peer may read: names to content, with no way out of the folder.

A name in a request comes from anybody on the network. `normalise` turns it into a plain relative path or
refuses it; `Folder` serves regular files below a directory; `Overlay` puts made-up files (per host, say)
above.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from tftp.transfer import Content

__all__ = ["AccessViolation", "Files", "Folder", "OpenFile", "Overlay", "Peer", "normalise"]


_LISTINGS, _LISTED = 64, 4096
"""Folders whose names are remembered, and how many names of each: the rest must be spelt as it is."""


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
    """A regular file read by position. Its content is what it was when opened: if it becomes another while it
    is read, reading raises OSError, because half of each would be a broken loader.

    Not mapped into memory: a mapped file that is truncated kills the process that reads it (SIGBUS).
    """

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self._descriptor, self._size, self._written = descriptor, status.st_size, status.st_mtime_ns
        self.identity = (
            *(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns),
            status.st_ctime_ns,  # times of writing can be set back, this one cannot
        )
        """See `tftp.cut.Content`."""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: slice, /) -> bytes:
        start, stop, step = key.indices(self._size)
        if step != 1 or self._descriptor < 0:
            raise OSError("only whole ranges of an open file can be read")
        data = os.pread(self._descriptor, stop - start, start) if stop > start else b""
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != (self._size, self._written):
            raise OSError("the file was changed while it was read")
        return data

    def close(self) -> None:
        """Give the descriptor back; may be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class Folder:
    """Regular files below `root`. Symbolic links are followed as long as they stay inside.

    `any_case`: a name that does not exist may be spelt in other cases, as Windows' loaders do (`\\Boot\\BCD`,
    `\\boot\\bcd`); among several such files the first in order of bytes is taken.
    """

    def __init__(self, root: Path, *, any_case: bool = True) -> None:
        self._root, self._any_case = root, any_case
        self._listings: dict[str, tuple[int, dict[str, str]]] = {}

    def open(self, name: str, peer: Peer, local: str = "") -> OpenFile | None:
        """See `Files.open`. Raises `AccessViolation` for an escape, a directory, a device or a forbidden
        file, OSError if this process has no descriptor left.
        """
        name = normalise(name)
        root = os.path.realpath(self._root)
        found = self._open(root, name)
        if found is None and self._any_case:
            other = self._other_case(root, name)
            if other is not None:
                found = self._open(root, other)
        return found

    def _open(self, root: str, name: str) -> OpenFile | None:
        try:
            # First a handle that neither reads nor waits: what it is and where it lies is looked up on the
            # thing itself, so that nobody can swap a link between our look and our reading.
            handle = os.open(os.path.join(root, name), os.O_PATH | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            raise _refusal(error) from error
        try:
            itself = f"/proc/self/fd/{handle}"
            if not os.readlink(itself).startswith(root.rstrip("/") + "/"):
                raise AccessViolation("The file lies outside the folder")
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise AccessViolation("The name is not a regular file's")
            return OpenFile(os.open(itself, os.O_RDONLY | os.O_CLOEXEC), status)
        except OSError as error:
            raise _refusal(error) from error
        finally:
            os.close(handle)

    def _other_case(self, root: str, name: str) -> str | None:
        """The name as the disk spells it, each part as asked for if there is such a one; None: no such
        file."""
        folder, parts = root, list[str]()
        for asked in name.split("/"):
            part: str | None = asked
            if not os.path.lexists(os.path.join(folder, asked)):
                part = self._listing(folder).get(asked.lower())
            if part is None:
                return None
            parts.append(part)
            folder = os.path.join(folder, part)
        return "/".join(parts)

    def _listing(self, folder: str) -> dict[str, str]:
        """Lower case to real name of what lies in a folder; from memory while the folder is unchanged."""
        try:
            changed = os.stat(folder).st_mtime_ns
            kept = self._listings.get(folder)
            if kept is not None and kept[0] == changed:
                return kept[1]
            with os.scandir(folder) as entries:
                names = [entry.name for entry in islice(entries, _LISTED)]
        except OSError:
            return {}
        listing = {name.lower(): name for name in sorted(names, reverse=True)}
        # What changed just now may change again within the same tick of the file system's clock.
        if time.time_ns() - changed > 2_000_000_000:
            if len(self._listings) >= _LISTINGS:
                self._listings.clear()
            self._listings[folder] = changed, listing
        return listing


def _refusal(error: OSError) -> Exception:
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        return error  # our trouble of this moment, not a property of the name
    return AccessViolation(f"The file cannot be opened: {error.strerror}")


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
