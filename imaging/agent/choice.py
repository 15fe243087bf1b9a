"""Which of the machine's disks a task means: by rule, never by the order in which the kernel found them.

Removable, USB, SD and read-only disks are never chosen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from imaging.agent.disks import Disk
from imaging.agent.errors import AgentError
from imaging.options import DiskRule

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
          "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
#: A "500 GB" disk has 500.1 GB, another one 480: as much as sizes with a unit may differ.
_ROUGHLY = 0.03


def choose(disks: Sequence[Disk], rule: str, value: str = "") -> Disk:
    """The one disk that a rule of a task means (docs/agent.md).

    ``serial`` (or WWN), ``wwn`` and ``path`` name a disk; ``only``, ``smallest``, ``largest``, ``size`` and
    ``model`` look for one among the internal disks. Raises ``AgentError``: ``disk-none``, ``disk-ambiguous``,
    ``disk-not-internal``, ``disk-rule``; the sentence names the disks seen.
    """
    seen = "; ".join(
        f"{d.described()}{f' [{d.why_not_internal()}]' if d.why_not_internal() else ''}" for d in disks
    )
    seen = seen or "no disk at all"
    if rule in _NAMING:
        matching = [disk for disk in disks if value.strip() and _NAMING[rule](disk, value.strip())]
    else:
        internal = [disk for disk in disks if not disk.why_not_internal()]
        if not internal:
            raise AgentError("disk-none", f"This machine has no internal disk to use; seen: {seen}.")
        matching = _search(internal, rule, value.strip())
    if not matching:
        raise AgentError("disk-none", f"No disk has the {rule} {value!r}; seen: {seen}.")
    if len(matching) > 1:
        names = "; ".join(disk.described() for disk in matching)
        what = {
            "only": f"This machine has {len(matching)} internal disks",
            "smallest": f"{len(matching)} internal disks are the smallest",
            "largest": f"{len(matching)} internal disks are the largest",
        }.get(rule, f"{len(matching)} disks have the {rule} {value!r}")
        raise AgentError("disk-ambiguous", f"{what} ({names}): choose one by serial number.")
    chosen = matching[0]
    if reason := chosen.why_not_internal():
        raise AgentError(
            "disk-not-internal", f"Disk {chosen.described()} is not used because it is {reason}."
        )
    return chosen


def choose_all(disks: Sequence[Disk], rules: Sequence[DiskRule]) -> list[Disk]:
    """One disk per rule, in the rules' order, none of them twice.

    Rules that name a disk go first; ``only`` and the like then mean what those have left. Raises as
    :func:`choose` does.
    """
    chosen: dict[int, Disk] = {}
    for position in sorted(range(len(rules)), key=lambda at: rules[at].rule not in _NAMING):
        rule = rules[position]
        if rule.rule in _NAMING:
            disk = choose(disks, rule.rule, rule.value)
            if disk in chosen.values():
                raise AgentError(
                    "disk-ambiguous",
                    f"Two disks of the image would go to {disk.described()}: name another one.",
                )
        else:
            left = [disk for disk in disks if disk not in chosen.values()]
            disk = choose(left, rule.rule, rule.value)
        chosen[position] = disk
    return [chosen[position] for position in range(len(rules))]


def _has_serial(disk: Disk, value: str) -> bool:
    return value.lower() in (disk.serial.lower(), disk.wwn.lower())


def _has_path(disk: Disk, value: str) -> bool:
    return os.path.realpath(disk.path) == os.path.realpath(value)


def _has_wwn(disk: Disk, value: str) -> bool:
    # The kernel writes naa.5000c500…, labels and inventories 0x5000C500… or just the digits.
    def digits(wwn: str) -> str:
        return wwn.lower().removeprefix("naa.").removeprefix("eui.").removeprefix("0x")

    return bool(disk.wwn) and digits(disk.wwn) == digits(value)


_NAMING: dict[str, Callable[[Disk, str], bool]] = {
    "serial": _has_serial,
    "wwn": _has_wwn,
    "path": _has_path,
}


def _search(internal: Sequence[Disk], rule: str, value: str) -> list[Disk]:
    if rule == "only":
        return list(internal)
    if rule in ("smallest", "largest"):
        size = (min if rule == "smallest" else max)(disk.size for disk in internal)
        return [disk for disk in internal if disk.size == size]
    if rule == "size":
        low, high = size_range(value)
        return [disk for disk in internal if low <= disk.size <= high]
    if rule == "model":
        return [disk for disk in internal if value and value.lower() in disk.model.lower()]
    raise AgentError("disk-rule", f"This agent does not know the disk rule {rule!r}.")


def size_range(text: str) -> tuple[int, int]:
    """The sizes in bytes that ``500107862016`` (exactly) or ``500 GB`` (within 3 %) mean.

    Raises ``AgentError`` ``disk-rule``.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    if not found or found[2] not in _UNITS:
        raise AgentError(
            "disk-rule", f"The disk size {text!r} is not understood: write it as bytes or like 500 GB."
        )
    size = float(found[1]) * _UNITS[found[2]]
    margin = size * _ROUGHLY if found[2] else 0.0
    return int(size - margin), int(size + margin)
