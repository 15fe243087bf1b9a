"""The test task: memory, what the disks say of themselves, and reading them; a sentence for what is wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from imaging.agent.disks import Disk, human, read
from imaging.agent.errors import AgentError
from imaging.agent.progress import Progress
from imaging.agent.report import Result
from imaging.health import memory, smart, surface
from imaging.other_options import TestOptions

# Where a disk does not say how long its own test takes.
_SELF_TEST_SECONDS = {"short": 900.0, "long": 12 * 3600.0}


def test(options: TestOptions, disks: Sequence[Disk], progress: Progress) -> Result:
    """Test what ``options`` ask for; the outcome's ``test`` has all results.

    Raises ``AgentError`` ``test-failed`` with what to do when something is broken.
    """
    report: dict[str, Any] = {"memory": None, "disks": []}
    progress.notes["test"] = report
    advice: list[str] = []
    if options.memory:
        advice += _memory(options, report, progress)
    for disk in disks:
        advice += _disk(options, disk, report, progress)
    report["passed"] = not advice
    if advice:
        raise AgentError("test-failed", " ".join(advice))
    return Result()


def _memory(options: TestOptions, report: dict[str, Any], progress: Progress) -> list[str]:
    progress.enter("test", 0, "memory")

    def tell(done: int, total: int) -> None:
        progress.done, progress.total = done, total

    found = memory.test_memory(
        available(), options.memory_mb, options.memory, os.cpu_count() or 1,
        progress=tell, check=progress.check,
    )  # fmt: skip
    report["memory"] = found.to_json()
    word = "passed" if found.passed else "failed"
    progress.say(f"agent: test memory={word} mb={found.megabytes} failures={len(found.failures)}")
    if found.failures:
        return [
            "Memory is faulty: run Memtest86+ from the boot menu with one module at a time, and replace the "
            f"one that fails (first: {found.failures[0]})."
        ]
    return [f"Memory was not tested: {found.problem}."] if found.problem else []


def available(path: str = "/proc/meminfo") -> int:
    """Bytes of memory that a program may take."""
    with open(path, encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def _disk(options: TestOptions, disk: Disk, report: dict[str, Any], progress: Progress) -> list[str]:
    row: dict[str, Any] = {
        "path": disk.path, "serial": disk.serial, "model": disk.model, "size": disk.size,
        "smart": None, "self_test": None, "surface": None, "passed": False,
    }  # fmt: skip
    report["disks"].append(row)
    problems: list[str] = []
    if options.smart != "none" and disk.transport != "file":
        problems += _smart(options.smart, disk, row, progress)
    if options.surface != "none":
        problems += _surface(options.surface == "full", disk, row, progress)
    row["passed"] = not problems
    word = "passed" if not problems else "failed"
    progress.say(f"agent: test disk={disk.path} {word}")
    if not problems:
        return []
    name = f"{disk.path} ({disk.serial or disk.model})"
    return [f"{name}: {'; '.join(problems)}. Save its data (task rescue), then replace it."]


def _smart(kind: str, disk: Disk, row: dict[str, Any], progress: Progress) -> list[str]:
    progress.enter("test", 0, f"{disk.path}: SMART")
    found = smart.read_smart(smart.ask(disk.path))
    row["smart"] = found.to_json() if found.known else None
    problems = list(found.problems)
    if kind == "health" or not found.known:
        return problems
    progress.enter("test", 100, f"{disk.path}: {kind} self-test")

    def tell(percent: int) -> None:
        progress.done = percent

    result = smart.self_test(disk.path, kind, limit=_SELF_TEST_SECONDS[kind], tell=tell, check=progress.check)
    row["self_test"] = {"kind": kind, "state": result.state, "text": result.text}
    if result.state == "failed":
        problems.append(f"its {kind} self-test failed ({result.text or 'no details'})")
    return problems


def _surface(full: bool, disk: Disk, row: dict[str, Any], progress: Progress) -> list[str]:
    progress.enter("test", disk.size, f"{disk.path}: surface")
    found = surface.scan(
        disk.path, full=full, progress=lambda done: progress.add(done=done), check=progress.check
    )
    row["surface"] = found.to_json() | {"full": full, "rotational": _rotational(disk)}
    if found.bad:
        where = ", ".join(str(start) for start, _ in surface.merged(found.bad)[:3])
        return [f"{human(sum(length for _, length in found.bad))} cannot be read (at byte {where})"]
    return []


def _rotational(disk: Disk) -> bool:
    return disk.rotational or read(f"/sys/block/{disk.name}/queue/rotational") == "1"
