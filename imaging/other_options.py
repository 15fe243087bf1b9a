"""What may be asked of the tasks beside capture and deploy: wipe, test, debug shell, rescue.

As in :mod:`imaging.options`, server and agent read them with the same code. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from imaging.options import (
    ALL_DISKS,
    DiskRule,
    OptionsError,
    Reader,
    flag,
    one_of,
    read_options,
    source_disks,
    write_options,
)
from imaging.sshkeys import KeyInvalid, checked_key

WIPE_METHODS = ("auto", "overwrite", "discard", "ata-secure-erase", "nvme-format", "nvme-sanitize")
SMART_TESTS = ("none", "health", "short", "long")
SURFACES = ("none", "quick", "full")
MAX_PASSES = 7
MAX_KEYS = 32
MAX_PATHS = 64
_MAX_PATH = 1000


@dataclass(frozen=True, slots=True)
class WipeOptions:
    """TASK ``wipe``: which disks lose their content, and how."""

    disks: tuple[DiskRule, ...] | None = None
    """None = the one disk the task's own rule means; ``(ALL_DISKS,)`` = every internal one."""
    method: str = "auto"
    """One of ``WIPE_METHODS``; ``auto`` takes the most thorough that the disk says it can."""
    passes: int = 1
    """Of ``overwrite``: all but the last write random bytes, the last writes zeros."""
    fallback: bool = False
    """Overwrite where the method that was asked for cannot be done, instead of refusing."""
    verify: str = "samples"
    """``samples`` reads some 2,000 places again, ``full`` the whole disk (where zeros are promised)."""
    countdown: int = 30
    """Seconds in which somebody at the console may stop it; 0 = unattended."""

    NAME: ClassVar[str] = "wipe"

    @classmethod
    def from_task(cls, data: Mapping[str, Any] | None) -> WipeOptions:
        """Read the value of TASK's ``wipe``; raises OptionsError."""
        return read_options(cls.NAME, cls, data, _WIPE)

    def to_task(self) -> dict[str, Any]:
        """Only what differs from the defaults, as JSON values."""
        return write_options(self)


@dataclass(frozen=True, slots=True)
class TestOptions:
    """TASK ``test``: what of the machine is tested. Nothing is written to its disks."""

    __test__: ClassVar[bool] = False  # not a class of tests, whatever pytest thinks of the name

    disks: tuple[DiskRule, ...] | None = (ALL_DISKS,)
    memory: int = 1
    """Passes over the memory; 0 = none."""
    memory_mb: int = 0
    """How much of it, in MiB; 0 = what is free, less what the system needs."""
    smart: str = "short"
    """``health`` reads what the disk says of itself, ``short`` and ``long`` also run its self-test."""
    surface: str = "quick"
    """Reading the disk: ``quick`` every 64th MiB, ``full`` all of it."""

    NAME: ClassVar[str] = "test"

    @classmethod
    def from_task(cls, data: Mapping[str, Any] | None) -> TestOptions:
        """Read the value of TASK's ``test``; raises OptionsError."""
        return read_options(cls.NAME, cls, data, _TEST)

    def to_task(self) -> dict[str, Any]:
        """Only what differs from the defaults, as JSON values."""
        return write_options(self)


@dataclass(frozen=True, slots=True)
class ShellOptions:
    """TASK ``shell``: an SSH server in the boot environment, for a while."""

    keys: tuple[str, ...] = ()
    """Public keys that may sign in, as in authorized_keys but without options."""
    minutes: int = 60
    """How long it stays open."""

    NAME: ClassVar[str] = "shell"

    @classmethod
    def from_task(cls, data: Mapping[str, Any] | None) -> ShellOptions:
        """Read the value of TASK's ``shell``; raises OptionsError."""
        return read_options(cls.NAME, cls, data, _SHELL)

    def to_task(self) -> dict[str, Any]:
        """Only what differs from the defaults, as JSON values."""
        return write_options(self)


@dataclass(frozen=True, slots=True)
class RescueOptions:
    """TASK ``rescue``: which files are copied to the server."""

    paths: tuple[str, ...] = ()
    """Patterns from the root of a file system, ``/`` between names: ``home``, ``Users/*/Documents``."""
    exclude: tuple[str, ...] = ()
    """Patterns of what is left out; one without ``/`` means the name wherever it is."""
    disks: tuple[DiskRule, ...] | None = (ALL_DISKS,)
    limit_mb: int = 100_000
    """Refused when more than this was chosen, in MB."""

    NAME: ClassVar[str] = "rescue"

    @classmethod
    def from_task(cls, data: Mapping[str, Any] | None) -> RescueOptions:
        """Read the value of TASK's ``rescue``; raises OptionsError."""
        options = read_options(cls.NAME, cls, data, _RESCUE)
        if not options.paths:
            raise OptionsError(
                "rescue.paths", [], "name at least one folder or file, like home or Users/*/Documents"
            )
        return options

    def to_task(self) -> dict[str, Any]:
        """Only what differs from the defaults, as JSON values."""
        return write_options(self)


def _number(low: int, high: int, what: str) -> Reader:
    def read(key: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise OptionsError(key, value, f"say {what}, {low} to {high}")
        return value

    return read


def _keys(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_KEYS:
        raise OptionsError(key, value, f"list at most {MAX_KEYS} public keys")
    found = []
    for item in value:
        try:
            found.append(checked_key(item))
        except KeyInvalid as error:
            raise OptionsError(key, item, str(error)) from None
    return tuple(dict.fromkeys(found))


def _paths(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_PATHS:
        raise OptionsError(key, value, f"list at most {MAX_PATHS} patterns")
    return tuple(dict.fromkeys(_path(key, item) for item in value))


def _path(key: str, value: Any) -> str:
    """A pattern as names with ``/`` between them; a drive letter and the first slash are dropped."""
    if not isinstance(value, str) or len(value) > _MAX_PATH or not value.isprintable():
        raise OptionsError(key, value, "write a pattern like home or Users/*/Documents")
    text = value.replace("\\", "/").strip()
    if text[1:2] == ":" and text[0].isalpha():
        text = text[2:]
    names = [name for name in text.split("/") if name not in ("", ".")]
    if ".." in names:
        raise OptionsError(key, value, "a pattern goes down from the root of a file system, never up")
    if not names:
        raise OptionsError(key, value, "name a folder or file; * means all of a file system")
    return "/".join(names)


_WIPE: dict[str, Reader] = {
    "disks": source_disks,
    "method": one_of(*WIPE_METHODS),
    "passes": _number(1, MAX_PASSES, "how often the disk is written"),
    "fallback": flag,
    "verify": one_of("samples", "full"),
    "countdown": _number(0, 600, "seconds, 0 for none"),
}
_TEST: dict[str, Reader] = {
    "disks": source_disks,
    "memory": _number(0, 1000, "how many passes"),
    "memory_mb": _number(0, 1 << 24, "MiB of memory, 0 for what is free"),
    "smart": one_of(*SMART_TESTS),
    "surface": one_of(*SURFACES),
}
_SHELL: dict[str, Reader] = {"keys": _keys, "minutes": _number(1, 1440, "for how many minutes")}
_RESCUE: dict[str, Reader] = {
    "paths": _paths,
    "exclude": _paths,
    "disks": source_disks,
    "limit_mb": _number(1, 10_000_000, "how many MB at most"),
}
