"""What a disk says of its own health, and its self-test, through ``smartctl --json`` (smartmontools)."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_ASK_SECONDS = 60.0
_POLL = 5.0
#: Attributes whose raw value counts sectors in trouble (SMART attribute ids in common use).
_COUNTS = {5: "reallocated_sectors", 197: "pending_sectors", 198: "uncorrectable_sectors"}


@dataclass(slots=True)
class Smart:
    """A disk's own word. ``passed`` None: it says nothing. ``problems`` are sentences for people."""

    known: bool = False
    passed: bool | None = None
    temperature: int | None = None
    hours: int | None = None
    facts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the outcome."""
        return {
            "passed": self.passed, "temperature": self.temperature, "hours": self.hours, **self.facts,
        }  # fmt: skip


def read_smart(data: dict[str, Any]) -> Smart:
    """From the object that ``smartctl --json -a`` prints."""
    found = Smart()
    status = data.get("smart_status")
    if isinstance(status, dict) and isinstance(status.get("passed"), bool):
        found.known, found.passed = True, status["passed"]
        if not found.passed:
            found.problems.append("the disk itself says that it is failing")
    found.temperature = _int(_get(data, "temperature", "current"))
    found.hours = _int(_get(data, "power_on_time", "hours"))
    for row in _get(data, "ata_smart_attributes", "table") or []:
        if not isinstance(row, dict):
            continue
        count = _int(_get(row, "raw", "value"))
        if row.get("id") in _COUNTS and count is not None:
            found.known = True
            found.facts[_COUNTS[row["id"]]] = count
        if row.get("when_failed") == "now":
            found.problems.append(f"its value {row.get('name')} is below the maker's limit")
    _nvme(data.get("nvme_smart_health_information_log"), found)
    for name in ("pending_sectors", "uncorrectable_sectors"):
        if count := found.facts.get(name):
            found.problems.append(f"{count} {name.replace('_', ' ')}")
    return found


def _nvme(log: object, found: Smart) -> None:
    if not isinstance(log, dict):
        return
    found.known = True
    for name in ("critical_warning", "percentage_used", "media_errors", "available_spare"):
        if (value := _int(log.get(name))) is not None:
            found.facts[name] = value
    spare, least = _int(log.get("available_spare")), _int(log.get("available_spare_threshold"))
    if found.facts.get("critical_warning"):
        found.problems.append(f"it gives critical warning {found.facts['critical_warning']:#x}")
    if found.facts.get("media_errors"):
        found.problems.append(f"{found.facts['media_errors']} media errors")
    if spare is not None and least is not None and spare < least:
        found.problems.append(f"only {spare} % of its spare blocks are left")


@dataclass(frozen=True, slots=True)
class SelfTest:
    """How a self-test stands: ``state`` is none, running, passed, failed or aborted."""

    state: str
    left: int | None = None  # percent
    minutes: int | None = None  # how long the disk says it takes
    text: str = ""


def read_self_test(data: dict[str, Any], kind: str) -> SelfTest:
    """From the same object; ``kind`` is short or long.

    ATA: the status byte's upper four bits are 0xF while it runs, its lower ones tenths left (ACS-4 §9.5).
    NVMe: the Device Self-test log page, newest result first.
    """
    ata = _get(data, "ata_smart_data", "self_test")
    if isinstance(ata, dict):
        minutes = _int(_get(ata, "polling_minutes", "short" if kind == "short" else "extended"))
        value = _int(_get(ata, "status", "value")) or 0
        text = str(_get(ata, "status", "string") or "")
        upper = value >> 4
        if upper == 0xF:
            return SelfTest("running", (value & 0xF) * 10, minutes, text)
        state = "passed" if upper == 0 else "aborted" if upper in (1, 2, 3) else "failed"
        return SelfTest(state, None, minutes, text)
    log = data.get("nvme_self_test_log")
    if isinstance(log, dict):
        if _int(_get(log, "current_self_test_operation", "value")):
            done = _int(log.get("current_self_test_completion_percent")) or 0
            return SelfTest("running", 100 - done)
        rows = log.get("table")
        newest = rows[0] if isinstance(rows, list) and rows else {}
        result = _int(_get(newest, "self_test_result", "value"))
        text = str(_get(newest, "self_test_result", "string") or "")
        if result is None:
            return SelfTest("aborted", text="the disk kept no result")
        state = "passed" if result == 0 else "failed" if result in (5, 6, 7) else "aborted"
        return SelfTest(state, text=text)
    return SelfTest("none")


def ask(path: str) -> dict[str, Any]:
    """``smartctl --json -a``; {} when it says nothing that can be read."""
    return _smartctl("-a", path)


def self_test(
    path: str, kind: str, *, limit: float, tell: Callable[[int], None], check: Callable[[], None]
) -> SelfTest:
    """Start a disk's self-test and wait for it; ``tell`` gets percent done. Raises what ``check`` raises.

    ``limit``: seconds, where the disk does not say how long it takes.
    """
    before = read_self_test(ask(path), kind)
    if before.state == "none":
        return before
    if before.state != "running":
        said = _smartctl("-t", kind, path)
        if _int(_get(said, "smartctl", "exit_status")) not in (0, None) and _refused(said):
            return SelfTest("none", text=_refused(said))
    longest = max(limit, (before.minutes or 0) * 60 * 2)
    deadline = time.monotonic() + longest
    while True:
        for _ in range(int(_POLL)):
            check()
            time.sleep(1.0)
        now = read_self_test(ask(path), kind)
        if now.state != "running":
            return now
        tell(100 - (now.left or 0))
        if time.monotonic() > deadline:
            return SelfTest("aborted", text=f"not done after {longest / 60:.0f} minutes")


def _refused(said: dict[str, Any]) -> str:
    messages = _get(said, "smartctl", "messages") or []
    texts = [str(m.get("string")) for m in messages if isinstance(m, dict) and m.get("severity") == "error"]
    return texts[0] if texts else ""


def _smartctl(*arguments: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            ["smartctl", "--json", *arguments], stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_ASK_SECONDS, check=False,
        )  # fmt: skip
        data = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}
    return data if isinstance(data, dict) else {}


def _get(data: object, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
