"""What every benchmark shares: entries with a name and a peer, rounds within a time limit, table and JSON.

A round measures ours and the peer one after the other, so that a machine that is busy for a while is busy for
both; the figure of an entry is the median over its rounds. What could not be measured says so in its note.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TextIO

#: Seconds after which no further round begins, and after which an entry is cut off (contract: 180).
SOFT_LIMIT, HARD_LIMIT = 150.0, 172.0
#: Debian puts servers where a plain user's PATH does not look.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class TimeUp(Exception):
    """An entry was cut off at HARD_LIMIT."""


class NotMeasured(Exception):
    """This entry cannot be measured here; the text says why, and goes into the note."""


@dataclass
class Measurement:
    """What one entry found: a sample per round of ours and of the peer, and remarks for the note.

    ``scale`` shrinks images and periods (1 = as published); ``scratch`` is a directory in memory, ``disk``
    one on a disk; both are gone afterwards.
    """

    scale: float
    scratch: Path
    disk: Path
    say: Callable[[str], None] = lambda sentence: None
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def rounds(self, count: int, clock: Callable[[], float] = time.monotonic) -> Iterator[int]:
        """Round numbers 0, 1 … up to ``count``; ends sooner when another round as long as the longest
        would pass the soft limit.
        """
        longest = 0.0
        for number in range(count):
            start = clock()
            if number and start - self.began + longest > SOFT_LIMIT:
                self.remark(f"{number} of {count} rounds in {SOFT_LIMIT:.0f} s")
                return
            yield number
            longest = max(longest, clock() - start)
            self.say(f"round {number + 1}: " + ", ".join(self._last()))

    def _last(self) -> list[str]:
        pairs = (("ours", self.ours), ("peer", self.peer))
        return [f"{who} {number(values[-1])}" for who, values in pairs if values]

    def remark(self, text: str) -> None:
        """Add to the note, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def megabytes(self, full: int, least: int = 8) -> int:
        """A size in MB, scaled."""
        return max(least, round(full * self.scale))


@dataclass(frozen=True)
class Entry:
    """One benchmark. ``peer`` is a Debian package, or None when the figure is held against ``goal``;
    ``lower``: less is better. ``measure`` fills a Measurement; None: not in this version.
    """

    name: str
    unit: str
    measure: Callable[[Measurement], None] | None = None
    peer: str | None = None
    goal: float | None = None
    lower: bool = False
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """A line of bench.json (DESIGN: contract of ``make bench``). ``ratio`` above 1: ours is better."""

    name: str
    unit: str
    ours: float | None
    peer: float | None
    peer_name: str
    ratio: float | None
    runs: int
    note: str


def median(values: Sequence[float]) -> float | None:
    """The median, None of nothing."""
    return statistics.median(values) if values else None


def ratio(ours: float | None, peer: float | None, *, lower: bool) -> float | None:
    """How many times better ours is; None when one side is missing or the quotient means nothing."""
    if ours is None or peer is None:
        return None
    above, below = (peer, ours) if lower else (ours, peer)
    return above / below if below > 0 else None


def number(value: float | None) -> str:
    """Three significant digits, thousands separated; a dash for nothing."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def missing(commands: Sequence[str]) -> list[str]:
    """Which of the commands are not installed."""
    return [command for command in commands if shutil.which(command, path=_PATH) is None]


def package_name(package: str) -> str:
    """``dnsmasq-base 2.90-4``, or the name alone where dpkg does not know it."""
    command = ["dpkg-query", "-W", "-f=${Version}", package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return package
    return f"{package} {done.stdout.strip()}" if done.returncode == 0 and done.stdout else package


def load_remark(load: float, cores: int) -> str:
    """Other work on the machine falsifies every figure: say so."""
    return f"under load: {load:.1f} on {cores} cores before it began" if load > cores * 0.75 else ""


def result_of(entry: Entry, found: Measurement | None, peer_name: str, trouble: str = "") -> Result:
    """The line for an entry; without samples of ours it gives no figure, and ``trouble`` says why."""
    ours = median(found.ours) if found else None
    peer = entry.goal if entry.peer is None else median(found.peer) if found else None
    notes = [trouble, *(found.remarks if found else ())]
    return Result(
        entry.name,
        entry.unit,
        _rounded(ours),
        _rounded(peer),
        peer_name,
        _rounded(ratio(ours, peer, lower=entry.lower)),
        len(found.ours) if found else 0,
        "; ".join(note for note in notes if note),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def write_json(path: Path, results: Sequence[Result]) -> None:
    """The file appears whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)


def table(results: Sequence[Result]) -> str:
    """The results for people, one a line, notes below the figures they belong to."""
    rows = [("name", "ours", "peer", "unit", "ratio", "runs", "peer is")]
    rows += [
        (
            r.name,
            number(r.ours),
            number(r.peer),
            r.unit,
            f"{r.ratio:.2f}" if r.ratio is not None else "-",
            str(r.runs),
            r.peer_name,
        )
        for r in results
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = {1, 2, 4, 5}
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    for line, result in reversed(list(enumerate(results, 1))):
        if result.note:
            lines.insert(line + 1, f"    {result.note}")
    return "\n".join(lines)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the main thread when the block takes longer."""

    def ring(signal_number: int, frame: FrameType | None) -> None:
        raise TimeUp(f"cut off after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_entry(entry: Entry, found: Measurement) -> Result:
    """Measure one entry; whatever goes wrong ends in its note, never in a figure."""
    if entry.measure is None:
        return result_of(entry, None, entry.peer or "goal", "not measured by this version")
    peer_name = package_name(entry.peer) if entry.peer else "goal"
    if lacking := missing(entry.needs):
        sentence = f"not measured: {', '.join(lacking)} not installed (scripts/setup bench installs it)"
        return result_of(entry, None, peer_name, sentence)
    if os.geteuid() != 0:
        return result_of(entry, None, peer_name, "not measured: needs root, for namespaces and loop devices")
    load = load_remark(os.getloadavg()[0], os.cpu_count() or 1)
    trouble = ""
    try:
        with time_limit(HARD_LIMIT):
            entry.measure(found)
    except NotMeasured as reason:
        trouble = f"not measured: {reason}"
    except TimeUp as reason:
        trouble = str(reason)
    except Exception as error:
        found.ours.clear()
        trouble = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if load:
        found.remark(load)
    if found.scale != 1:
        found.remark(f"scale {found.scale:g}")
    return result_of(entry, found, peer_name, trouble)


def failed(result: Result) -> bool:
    """An entry that should have given a figure and did not: a defect of ours, not of the machine."""
    return result.note.startswith(("failed:", "cut off")) and result.ours is None


def progress(stream: TextIO, position: str, name: str) -> Callable[[str], None]:
    """A ``say`` for a Measurement."""
    began = time.monotonic()

    def say(sentence: str) -> None:
        stream.write(f"{position} {name:<26} {time.monotonic() - began:6.1f} s  {sentence}\n")
        stream.flush()

    return say
