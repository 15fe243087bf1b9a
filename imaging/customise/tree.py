"""The files of a mounted system, as an untrusted tree: every path is resolved inside it, links included.

An image may hold links to anywhere, FIFOs and devices under well-known names, and files without end. So each
path goes through openat2(2) with RESOLVE_IN_ROOT (an absolute link means the system's own root, as if it had
booted), nothing but regular files is read, and what is written replaces whatever bore the name.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Self

from imaging.errors import CustomiseError

_SYS_OPENAT2 = 437  # the same on every architecture (Linux 5.6)
_NO_MAGICLINKS, _IN_ROOT = 0x02, 0x10  # linux/openat2.h
_HOW = struct.Struct("=QQQ")
_MAX_TEXT = 1 << 20
_NEW = ".pxeboot-new"
_SELINUX = "security.selinux"
_MAX_NAMES = 100_000
_RACE_SECONDS = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


def parts(path: str) -> list[str]:
    """The names of a path inside a system, ``/`` or ``\\`` between them; a drive letter is dropped.

    Raises CustomiseError for a path that climbs (``..``), names nothing, or cannot be a path.
    """
    text = path.replace("\\", "/")
    if len(text) > 1 and text[1] == ":" and text[0].isalpha():
        text = text[2:]
    names = [name for name in text.split("/") if name not in ("", ".")]
    if not names or ".." in names or "\0" in text or any(len(os.fsencode(name)) > 255 for name in names):
        raise CustomiseError(
            f"{path[:200]!r} is no path of a file inside a system: write it whole, like /etc/motd."
        )
    return names


class Tree:
    """The directory ``path`` as a system sees it: its root.

    ``ignore_case``: names are looked up as Windows does, and owners and modes are left to the file system.
    Methods raise OSError for what the file system says and CustomiseError for what may not be.
    """

    def __init__(self, path: str, *, ignore_case: bool = False) -> None:
        self.path = path
        self.ignore_case = ignore_case
        self._root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def _openat2(self, names: list[str], flags: int) -> int:
        how = _HOW.pack(flags | os.O_CLOEXEC, 0, _IN_ROOT | _NO_MAGICLINKS)
        target = os.fsencode("/".join(names) or ".")
        deadline = time.monotonic() + _RACE_SECONDS
        while True:
            fd: int = _libc.syscall(_SYS_OPENAT2, self._root, target, how, len(how))
            if fd >= 0:
                return fd
            number = ctypes.get_errno()
            # EAGAIN: something was mounted or renamed meanwhile, anywhere on this machine, so the kernel
            # could not be sure of a "..": ask again (openat2(2)).
            if number != errno.EAGAIN or time.monotonic() > deadline:
                raise OSError(number, os.strerror(number), "/" + "/".join(names))
            time.sleep(0.001)

    def spelled(self, path: str) -> list[str]:
        """The names of ``path`` as they are written on the disk; what does not exist stays as given."""
        given = parts(path)
        if not self.ignore_case:
            return given
        found: list[str] = []
        for name in given:
            known = {entry.casefold(): entry for entry in self._names(found)}
            found.append(known.get(name.casefold(), name))
        return found

    def _names(self, names: list[str]) -> list[str]:
        try:
            fd = self._openat2(names, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            return []
        try:
            with os.scandir(fd) as entries:
                return [entry.name for _, entry in zip(range(_MAX_NAMES), entries, strict=False)]
        finally:
            os.close(fd)

    def names(self, path: str) -> list[str]:
        """What lies in a directory, sorted; [] when there is no such directory."""
        return sorted(self._names(self.spelled(path) if path.strip("/") else []))

    def open_file(self, path: str, flags: int = os.O_RDONLY) -> int | None:
        """A regular file's descriptor, or None when there is none (links are followed inside the tree)."""
        try:
            # O_NONBLOCK: a FIFO would have us wait for its other end.
            fd = self._openat2(self.spelled(path), flags | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR):
                return None
            raise
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
        return None

    def is_file(self, path: str) -> bool:
        """Is there a regular file (perhaps behind links)?"""
        fd = self.open_file(path)
        if fd is not None:
            os.close(fd)
        return fd is not None

    def read(self, path: str, limit: int = _MAX_TEXT) -> bytes | None:
        """A regular file's bytes, None when there is none. Raises CustomiseError for a longer one."""
        fd = self.open_file(path)
        if fd is None:
            return None
        with open(fd, "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise CustomiseError(f"{path} is longer than {limit} bytes, which such a file never is.")
        return data

    @contextlib.contextmanager
    def directory(self, names: list[str], *, make: bool = False) -> Iterator[int]:
        """A directory opened; ``make``: with those above it, if need be."""
        done: list[str] = []
        fd = self._openat2([], os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name in names:
                done.append(name)
                try:
                    below = self._openat2(done, os.O_RDONLY | os.O_DIRECTORY)
                except FileNotFoundError:
                    if not make:
                        raise
                    os.mkdir(name, 0o755, dir_fd=fd)
                    below = self._openat2(done, os.O_RDONLY | os.O_DIRECTORY)
                    _label(below, _label_of(fd))
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def write(
        self,
        path: str,
        data: bytes | Iterable[bytes],
        *,
        mode: int | None = None,
        owner: tuple[int, int] | None = None,
        make: bool = False,
    ) -> None:
        """Put a file there whole and durably, in the place of whatever has this name (a link itself, too).

        Mode, owner and SELinux label are those of the file before where not given, else 0644 of root with
        its directory's label. ``make``: also the directories.
        """
        *above, name = self.spelled(path)
        with self.directory(above, make=make) as directory:
            before = _stat(directory, name)
            if before is not None and stat.S_ISDIR(before.st_mode):
                raise CustomiseError(f"{path} is a directory in the image: no file can take its place.")
            label = _label_at(directory, name) if before is not None else None
            if before is not None and stat.S_ISREG(before.st_mode):
                mode = before.st_mode & 0o7777 if mode is None else mode
                owner = (before.st_uid, before.st_gid) if owner is None else owner
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_NEW, dir_fd=directory)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(_NEW, flags, 0o600, dir_fd=directory)
            try:
                with open(fd, "wb", buffering=0) as file:
                    for piece in (data,) if isinstance(data, bytes) else data:
                        _write_all(file.fileno(), piece)
                    if not self.ignore_case:
                        os.fchown(fd, *(owner or (0, 0)))
                        os.fchmod(fd, 0o644 if mode is None else mode)
                        _label(fd, label or _label_of(directory))
                    os.fsync(fd)
                os.rename(_NEW, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(_NEW, dir_fd=directory)
                raise
            os.fsync(directory)

    def overwrite(self, path: str, data: bytes) -> None:
        """Give a regular file other bytes, its permissions and links kept. CustomiseError: none there."""
        fd = self.open_file(path, os.O_WRONLY)
        if fd is None:
            raise CustomiseError(f"{path} is not there, or is no regular file.")
        with open(fd, "wb", buffering=0) as file:
            os.set_blocking(fd, True)
            _write_all(fd, data)
            file.truncate(len(data))
            os.fsync(fd)

    def link(self, path: str, target: str) -> None:
        """Put a symbolic link there, in the place of a file of this name."""
        *above, name = self.spelled(path)
        with self.directory(above) as directory:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            os.symlink(target, name, dir_fd=directory)

    def remove(self, path: str) -> bool:
        """Take a file (or the link of this name) away; False when there is none."""
        *above, name = self.spelled(path)
        try:
            with self.directory(above) as directory:
                os.unlink(name, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_regular(self, path: str) -> bool:
        """Is the name itself a regular file, not a link to one?"""
        *above, name = self.spelled(path)
        try:
            with self.directory(above) as directory:
                found = _stat(directory, name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return found is not None and stat.S_ISREG(found.st_mode)

    def owner(self, path: str) -> tuple[int, int, int] | None:
        """(mode, user, group) of a regular file, or None."""
        fd = self.open_file(path)
        if fd is None:
            return None
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
        return found.st_mode & 0o7777, found.st_uid, found.st_gid


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _stat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _label_at(directory: int, name: str) -> bytes | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    try:
        return _label_of(fd)
    finally:
        os.close(fd)


def _label_of(fd: int) -> bytes | None:
    try:
        return os.getxattr(fd, _SELINUX)
    except OSError:
        return None


def _label(fd: int, label: bytes | None) -> None:
    """Fedora's and Red Hat's services may not read a file without a label."""
    if label:
        with contextlib.suppress(OSError):
            os.setxattr(fd, _SELINUX, label)
