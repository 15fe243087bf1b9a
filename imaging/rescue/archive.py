"""Chosen files as one tar stream (pax format, POSIX.1-2001), written as it is read.

A file that cannot be read to its end keeps its place and size in the archive: what is missing are zeros, and
it is listed. Names keep their bytes (pax ``hdrcharset=BINARY`` where they are not UTF-8), links stay links.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from typing import Any, Protocol

from imaging.rescue.walk import Entry

_PIECE = 1 << 20
_BLOCK = 4096
#: Names of the list of what could not be read, as the last member.
LISTING = "UNREADABLE.txt"


class Sink(Protocol):
    """Where the stream goes."""

    def write(self, data: bytes, /) -> int: ...


class Archive:
    """A tar stream into ``sink``. ``check`` raises when the task must end; ``progress`` gets bytes."""

    def __init__(self, sink: Sink, check: Callable[[], None], progress: Callable[[int], None]) -> None:
        self.files = self.folders = self.links = self.bytes = 0
        self.unreadable: list[tuple[str, str]] = []
        self._check, self._progress = check, progress
        self._tar = tarfile.TarFile(
            "rescue.tar", "w", fileobj=_Writer(sink), format=tarfile.PAX_FORMAT, encoding="utf-8",
            errors="surrogateescape", copybufsize=_PIECE,
        )  # fmt: skip
        self._seen: dict[tuple[int, int], str] = {}

    def missed(self, path: str, reason: str) -> None:
        """Note what could not be read."""
        self.unreadable.append((path, reason))

    def begin_root(self) -> None:
        """Another file system follows: its inode numbers mean other files."""
        self._seen.clear()

    def add(self, entry: Entry, prefix: str) -> None:
        """Put one entry below ``prefix``; raises what ``check`` raises, and OSError of the sink."""
        self._check()
        name = f"{prefix}/{entry.path}"
        mode = entry.info.st_mode
        member = tarfile.TarInfo(name)
        member.mode, member.mtime = stat.S_IMODE(mode), int(entry.info.st_mtime)
        member.uid, member.gid = entry.info.st_uid, entry.info.st_gid
        if stat.S_ISDIR(mode):
            member.type = tarfile.DIRTYPE
            self._tar.addfile(member)
            self.folders += 1
        elif stat.S_ISLNK(mode):
            try:
                member.linkname = entry.target()
            except OSError as error:
                self.missed(name, error.strerror or "cannot be read")
                return
            member.type = tarfile.SYMTYPE
            self._tar.addfile(member)
            self.links += 1
        elif stat.S_ISREG(mode):
            self._add_file(entry, member)
        else:
            self.missed(name, "neither a file, a folder nor a link")

    def _add_file(self, entry: Entry, member: tarfile.TarInfo) -> None:
        key = (entry.info.st_dev, entry.info.st_ino)
        if entry.info.st_nlink > 1 and (first := self._seen.get(key)):
            member.type, member.linkname = tarfile.LNKTYPE, first
            self._tar.addfile(member)
            self.links += 1
            return
        try:
            fd = entry.open()
        except OSError as error:
            self.missed(member.name, error.strerror or "cannot be read")
            return
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                self.missed(member.name, "it is no file any more")
                return
            member.size = os.fstat(fd).st_size
            if entry.info.st_nlink > 1:
                self._seen[key] = member.name
            source = _Reader(fd, member.size, self._check, self._progress)
            self._tar.addfile(member, source)
            if source.damaged:
                self.missed(
                    member.name, f"{source.damaged} of {member.size} bytes cannot be read: they are zeros"
                )
        finally:
            os.close(fd)
        self.files += 1
        self.bytes += member.size

    def close(self, prefix: str) -> None:
        """The list of what is missing, and the end of the archive."""
        if self.unreadable:
            text = "".join(f"{path}\t{reason}\n" for path, reason in self.unreadable)
            data = text.encode("utf-8", "surrogateescape")
            member = tarfile.TarInfo(f"{prefix}/{LISTING}")
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))
        self._tar.close()


class _Writer(io.RawIOBase):
    """tarfile wants a file; it is only ever written to, from its beginning to its end."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._done = sink, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._sink.write(data)
        self._done += len(data)
        return len(data)

    def tell(self) -> int:
        return self._done


class _Reader(io.RawIOBase):
    """A file read to its size whatever happens: blocks that fail, or are no longer there, are zeros."""

    def __init__(
        self, fd: int, size: int, check: Callable[[], None], progress: Callable[[int], None]
    ) -> None:
        self.damaged = 0
        self._fd, self._size, self._at = fd, size, 0
        self._check, self._progress = check, progress

    def readable(self) -> bool:
        return True

    def read(self, length: int = -1) -> bytes:
        self._check()
        left = self._size - self._at
        length = min(left if length < 0 else length, left)
        data = self._piece(self._at, length, _PIECE)
        self._at += len(data)
        self._progress(len(data))
        return data

    def _piece(self, at: int, length: int, step: int) -> bytes:
        try:
            data = os.pread(self._fd, length, at)
        except OSError:
            if length <= _BLOCK:
                self.damaged += length
                return bytes(length)
            parts = (
                self._piece(start, min(_BLOCK, at + length - start), _BLOCK)
                for start in range(at, at + length, _BLOCK)
            )
            return b"".join(parts)
        lacking = length - len(data)  # it ends early: a file system that is not whole
        self.damaged += lacking
        return data + bytes(lacking) if lacking else data
