"""Testing memory from inside a running system, with ``memtester``, on all processors at once.

What the kernel and the agent themselves use cannot be tested so; Memtest86+ of the boot menu can.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from imaging.errors import ToolMissing

_PAUSE = 0.1  # seconds
_MOST_FAILURES = 50
_KEEP = 192 << 20  # for kernel, agent and console
_MOST_PROCESSES = 8
_TESTS = 18  # of one pass, memtester 4.7
_FAILURE = "FAILURE: "
#: memtester(8): bits of its exit status.
_NO_MEMORY, _STUCK_ADDRESS, _OTHER = 0x01, 0x02, 0x04
_MAX_SECONDS = 48 * 3600.0


@dataclass(slots=True)
class Memory:
    """What was tested; ``failures`` are memtester's own lines."""

    megabytes: int = 0
    passes: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    problem: str = ""  # why it could not be tested

    @property
    def passed(self) -> bool:
        """Was it tested, and is it good?"""
        return not self.failures and not self.problem

    def to_json(self) -> dict[str, Any]:
        """For the outcome."""
        return {
            "megabytes": self.megabytes, "passes": self.passes, "seconds": round(self.seconds, 1),
            "passed": self.passed, "failures": self.failures[:50], "problem": self.problem,
        }  # fmt: skip


def shares(available: int, asked_mb: int, processors: int) -> list[int]:
    """How many MiB each process tests: what was asked for, else what is free less ``_KEEP``."""
    most = max(0, available - _KEEP) >> 20
    total = min(asked_mb or most, most)
    count = max(1, min(processors, _MOST_PROCESSES, total // 64))
    return [total // count] * count if total else []


class Output:
    """What one memtester prints, line by line: a test is an indented line, drawn over with backspaces."""

    def __init__(self) -> None:
        self.tests = 0  # that came to their end
        self.failures: list[str] = []
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take what was printed since the last call."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:64] + self._rest[64:][-2048:]  # a name, and the last of what it draws
        for line in lines:
            text = re.sub(rb"[\x00-\x1f]+", b" ", line).decode("ascii", "replace")
            if _FAILURE in text and len(self.failures) < _MOST_FAILURES:
                self.failures.append(text.partition(_FAILURE)[2].strip())
            self.tests += text.startswith("  ") and ":" in text and _FAILURE not in text


def test_memory(
    available: int,
    asked_mb: int,
    passes: int,
    processors: int,
    *,
    progress: Callable[[int, int], None],
    check: Callable[[], None],
) -> Memory:
    """Run memtester; ``progress`` gets (tests done, of how many). Raises ToolMissing and as ``check``."""
    parts = shares(available, asked_mb, processors)
    found = Memory(sum(parts), passes)
    if not parts:
        found.problem = f"only {available >> 20} MiB of memory are free"
        return found
    began = time.monotonic()
    running: list[subprocess.Popen[bytes]] = []
    said = [Output() for _ in parts]
    try:
        for megabytes in parts:
            running.append(_start(megabytes, passes))
        _follow(running, said, passes, progress, check)
        for number, process in enumerate(running):
            status = process.wait(30)
            found.failures += said[number].failures
            if status & (_STUCK_ADDRESS | _OTHER) and not said[number].failures:
                found.failures.append(f"memtester ended with status {status}")
            if status & _NO_MEMORY:
                found.problem = "the memory could not be locked"
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        found.seconds = time.monotonic() - began
    return found


def _start(megabytes: int, passes: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["memtester", f"{megabytes}M", str(passes)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ToolMissing("The program memtester is not installed.") from error


def _follow(
    running: list[subprocess.Popen[bytes]],
    said: list[Output],
    passes: int,
    progress: Callable[[int, int], None],
    check: Callable[[], None],
) -> None:
    """Read what they print until all have ended."""
    sources = {process.stdout: number for number, process in enumerate(running) if process.stdout}
    deadline = time.monotonic() + _MAX_SECONDS
    while sources and time.monotonic() < deadline:
        check()
        for source in select.select(list(sources), [], [], 1.0)[0]:
            data = os.read(source.fileno(), 65536)
            if not data:
                del sources[source]
                continue
            said[sources[source]].feed(data)
        time.sleep(_PAUSE)  # it draws character by character
        progress(sum(each.tests for each in said), len(running) * passes * _TESTS)
