"""Choosing files of a mounted file system by patterns, as an untrusted tree: links are never followed.

Every directory is opened by its name below an open one with O_NOFOLLOW, so nothing outside the tree can be
reached, whatever is in it. Names are kept byte for byte (surrogateescape).
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_MAX_DEPTH = 256
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that was chosen: path below the root, its own attributes, and the directory it lies in."""

    path: str
    info: os.stat_result
    parent: int  # an open descriptor, good until the next entry is asked for
    name: str

    def open(self) -> int:
        """A regular file's descriptor. Raises OSError."""
        return os.open(self.name, _FILE, dir_fd=self.parent)

    def target(self) -> str:
        """Where a symbolic link points. Raises OSError."""
        return os.readlink(self.name, dir_fd=self.parent)


class Chooser:
    """Patterns of what is taken and what is left out; ``ignore_case`` as Windows compares names."""

    def __init__(
        self, paths: Sequence[str], exclude: Sequence[str] = (), *, ignore_case: bool = False
    ) -> None:
        self._fold: Callable[[str], str] = str.casefold if ignore_case else str
        self._paths = [self._fold(path).split("/") for path in paths]
        # A pattern without "/" is a name wherever it is.
        self._names = [self._fold(path) for path in exclude if "/" not in path]
        self._places = [self._fold(path).split("/") for path in exclude if "/" in path]

    def wanted(self, names: Sequence[str]) -> str:
        """``taken`` with all below it, ``through`` (something below it may be), or "" for neither."""
        folded = [self._fold(name) for name in names]
        if any(fnmatch.fnmatchcase(name, pattern) for name in folded for pattern in self._names):
            return ""
        if any(_fits(folded, place) for place in self._places):
            return ""
        through = False
        for pattern in self._paths:
            if _fits(folded, pattern):
                return "taken"
            through = through or _fits(folded, pattern[: len(folded)], exact=True)
        return "through" if through else ""


def _fits(names: Sequence[str], pattern: Sequence[str], exact: bool = False) -> bool:
    """Does a pattern mean these names, or (unless ``exact``) something above them?"""
    if len(names) < len(pattern) or (exact and len(names) != len(pattern)):
        return False
    return all(fnmatch.fnmatchcase(name, each) for name, each in zip(names, pattern, strict=False))


def walk(root: int, chooser: Chooser, unreadable: Callable[[str, str], None]) -> Iterator[Entry]:
    """What is chosen below the open directory ``root``, each directory before what lies in it, names sorted.

    Directories on the way to something chosen are not entries themselves. ``unreadable`` gets path and reason
    of what cannot be looked at.
    """
    yield from _below(root, [], chooser, unreadable)


def _below(
    parent: int, above: list[str], chooser: Chooser, unreadable: Callable[[str, str], None]
) -> Iterator[Entry]:
    try:
        with os.scandir(parent) as found:
            names = sorted(entry.name for entry in found)
    except OSError as error:
        unreadable("/".join(above) or ".", error.strerror or "cannot be read")
        return
    for name in names:
        path = [*above, name]
        wanted = chooser.wanted(path)
        if not wanted:
            continue
        shown = "/".join(path)
        try:
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            unreadable(shown, error.strerror or "cannot be read")
            continue
        folder = stat.S_ISDIR(info.st_mode)
        if wanted == "taken":
            yield Entry(shown, info, parent, name)
        if not folder:
            continue
        if len(path) >= _MAX_DEPTH:
            unreadable(shown, f"it lies more than {_MAX_DEPTH} folders deep")
            continue
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=parent)
        except OSError as error:
            unreadable(shown, error.strerror or "cannot be read")
            continue
        with contextlib.closing(_Fd(fd)):
            yield from _below(fd, path, chooser, unreadable)


class _Fd:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        os.close(self._fd)
