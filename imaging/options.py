"""What may be asked of a capture or a deploy beside the image's name: values, defaults, and what is refused.

The server checks with these what people set, and sends them in a TASK (``"capture": {…}``,
``"deploy": {…}``); the agent reads them with the same code. A key nobody knows is refused, not ignored: one
older than its server must not write a disk in another way than it was told. Standard library only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from imaging.errors import ImagingError

#: Kinds of content that ``whole`` may name: they have no map of used blocks, or one that cannot be read.
#: ``dirty`` = a file system that was not shut down cleanly, with all its bytes as they are.
WHOLE_KINDS = ("apfs", "bitlocker", "dirty", "jbd", "luks", "mdraid", "refs", "unknown", "zfs")
#: How a disk may be named. The first group takes a value, the second does not.
RULES_WITH_VALUE = ("serial", "wwn", "path", "size", "model")
RULES_WITHOUT_VALUE = ("only", "smallest", "largest")
GROW = ("none", "last")
IDENTITIES = ("keep", "renew")
MAX_PARTITION = 1024
_MAX_DISKS = 64
_MAX_TEXT = 256


class OptionsError(ImagingError):
    """An option is not known or has a value that makes no sense; ``str()`` names it and what to set."""

    code = "options-invalid"

    def __init__(self, key: str, value: object, remedy: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"The option {key} cannot be {shown}: {remedy}.")
        self.key, self.value, self.remedy = key, value, remedy


@dataclass(frozen=True, slots=True)
class DiskRule:
    """Which disk of a machine is meant; ``value`` is "" for rules that need none."""

    rule: str
    value: str = ""

    def to_task(self) -> dict[str, str]:
        return {"rule": self.rule, "value": self.value} if self.value else {"rule": self.rule}


#: Every internal disk, for a capture.
ALL_DISKS = DiskRule("all")


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """TASK ``capture``: what of a machine goes into the image."""

    partitions: tuple[int, ...] | None = None
    """Partitions taken with their content, by number, ascending; None = all. The table is always complete."""
    whole: tuple[str, ...] = ()
    """Kinds of content without a readable map (``WHOLE_KINDS``) that are taken byte for byte, not refused."""
    exclude_windows_files: bool = True
    """Leave out what is in Windows' pagefile.sys, swapfile.sys and hiberfil.sys: they read as zeros."""
    disks: tuple[DiskRule, ...] | None = None
    """The disks of the image, in its order; None = the one disk the task's own rule means.

    ``(ALL_DISKS,)`` = every internal disk of the machine.
    """

    NAME: ClassVar[str] = "capture"

    @classmethod
    def from_task(cls, data: Mapping[str, Any] | None) -> CaptureOptions:
        """Read the value of TASK's ``capture`` (None = all defaults); raises OptionsError."""
        return read_options(cls.NAME, cls, data, _CAPTURE)

    def to_task(self) -> dict[str, Any]:
        """Only what differs from the defaults, as JSON values; ``from_task`` gives the same options again."""
        return write_options(self)


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """TASK ``deploy``: how an image is put on a machine."""

    partitions: tuple[int, ...] | None = None
    """Only these partitions are written, ascending; the disk's table must match already. None = all."""
    grow: str | tuple[int, ...] = "none"
    """``none``, ``last``, or numbers of the partitions that share the room of a larger disk."""
    shrink: bool = False
    """Whether file systems may be shrunk so that the image fits on a smaller disk."""
    identities: str = "keep"
    """``keep`` or ``renew`` GUIDs and UUIDs."""
    discard: bool = False
    """Tell the disk which of its blocks are unused (TRIM)."""
    disks: tuple[DiskRule, ...] | None = None
    """One rule per disk of the image; None = the task's own rule."""
    verify: bool = True
    """Read everything back after writing."""

    NAME: ClassVar[str] = "deploy"

    @classmethod
    def from_task(cls, data: Mapping[str, Any] | None) -> DeployOptions:
        """Read the value of TASK's ``deploy`` (None = all defaults); raises OptionsError."""
        options = read_options(cls.NAME, cls, data, _DEPLOY)
        if options.partitions is not None:
            # A part of a disk keeps its place and size: what is beside it is not ours to move.
            for key in ("grow", "shrink"):
                value = getattr(options, key)
                if value not in ("none", False):
                    raise OptionsError(
                        f"deploy.{key}", _plain(value), "deploy all partitions, or leave it away"
                    )
        return options

    def to_task(self) -> dict[str, Any]:
        """Only what differs from the defaults, as JSON values; ``from_task`` gives the same options again."""
        return write_options(self)


def disk_rule(key: str, item: object) -> DiskRule:
    """Read one ``{"rule": …, "value": …}``; ``key`` is its name in errors. Raises OptionsError."""
    known = ", ".join(RULES_WITHOUT_VALUE + RULES_WITH_VALUE)
    if not isinstance(item, Mapping) or not set(item) <= {"rule", "value"}:
        raise OptionsError(key, item, 'give {"rule": …, "value": …}')
    rule, value = item.get("rule"), item.get("value")
    if rule in RULES_WITHOUT_VALUE:
        if value not in (None, ""):
            raise OptionsError(key, value, f"the rule {rule} takes no value")
        return DiskRule(rule)
    if rule not in RULES_WITH_VALUE:
        raise OptionsError(f"{key}.rule", rule, f"choose one of {known}")
    if type(value) is int and rule == "size":
        value = str(value)
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_TEXT:
        raise OptionsError(f"{key}.value", value, f"say which {rule} is meant")
    return DiskRule(rule, value.strip())


# --- one reader per kind of value: (key, value) -> value, or OptionsError ---

Reader = Callable[[str, Any], Any]
_Options = TypeVar("_Options")


def flag(key: str, value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise OptionsError(key, value, "choose true or false")
    return value


def _numbers(key: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise OptionsError(key, value, "list the partitions' numbers, or leave it away for all")
    for number in value:
        if type(number) is not int or not 1 <= number <= MAX_PARTITION:
            raise OptionsError(key, number, f"a partition's number is 1 to {MAX_PARTITION}")
    if len(set(value)) != len(value):
        raise OptionsError(key, value, "name each partition once")
    return tuple(sorted(value))


def _numbers_or_all(key: str, value: Any) -> tuple[int, ...] | None:
    return None if value is None else _numbers(key, value)


def _whole(key: str, value: Any) -> tuple[str, ...]:
    remedy = f"list kinds out of {', '.join(WHOLE_KINDS)}"
    if not isinstance(value, list | tuple):
        raise OptionsError(key, value, remedy)
    for kind in value:
        if kind not in WHOLE_KINDS:
            raise OptionsError(key, kind, remedy)
    return tuple(sorted(set(value)))


def _disks(key: str, value: Any) -> tuple[DiskRule, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= _MAX_DISKS:
        raise OptionsError(key, value, f"list 1 to {_MAX_DISKS} rules, one per disk of the image")
    rules = tuple(disk_rule(f"{key}[{at}]", item) for at, item in enumerate(value))
    if len(set(rules)) != len(rules):
        raise OptionsError(key, value, "name each disk once")
    return rules


def source_disks(key: str, value: Any) -> tuple[DiskRule, ...] | None:
    """As ``_disks``, and ``[{"rule": "all"}]``: a capture may take a machine as it is, a deploy may not."""
    if isinstance(value, list | tuple) and [ALL_DISKS.to_task()] == list(value):
        return (ALL_DISKS,)
    return _disks(key, value)


def one_of(*choices: str) -> Reader:
    """One of these words."""

    def read(key: str, value: Any) -> str:
        if value not in choices:
            raise OptionsError(key, value, f"choose one of {', '.join(choices)}")
        return str(value)

    return read


def _grow(key: str, value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str):
        if value not in GROW:
            raise OptionsError(key, value, f"choose {', '.join(GROW)} or list the partitions' numbers")
        return value
    return _numbers(key, value)


_CAPTURE: dict[str, Reader] = {
    "partitions": _numbers_or_all,
    "whole": _whole,
    "exclude_windows_files": flag,
    "disks": source_disks,
}
_DEPLOY: dict[str, Reader] = {
    "partitions": _numbers_or_all,
    "grow": _grow,
    "shrink": flag,
    "identities": one_of(*IDENTITIES),
    "discard": flag,
    "disks": _disks,
    "verify": flag,
}


def read_options(
    name: str, make: Callable[..., _Options], data: object, readers: Mapping[str, Reader]
) -> _Options:
    """The options of section ``name`` in ``data`` (None = all defaults); raises OptionsError."""
    if data is None:
        return make()
    if not isinstance(data, Mapping):
        raise OptionsError(name, data, "give an object of options, or leave it away")
    for key in data:
        if key not in readers:
            raise OptionsError(
                f"{name}.{key}", data[key], "this program does not know it; update it, or leave it away"
            )
    return make(**{key: readers[key](f"{name}.{key}", value) for key, value in data.items()})


def write_options(options: Any) -> dict[str, Any]:
    """Only what differs from the defaults of an options' dataclass, as JSON values."""
    return {
        field.name: _plain(value)
        for field in dataclasses.fields(options)
        if (value := getattr(options, field.name)) != field.default
    }


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.to_task() if isinstance(value, DiskRule) else value
