"""What a run of the room owns, written down before it is made, so that whoever comes later can remove it.

One JSON file per run under /run/pxeboot-lab: namespaces, processes (pid and start time, so that a reused
pid is never killed) and loop devices. The file of a run whose owner is dead is an order to clean.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pxeboot.lab import netns
from pxeboot.lab.processes import need, start_time

STATE_DIRECTORY = Path("/run/pxeboot-lab")


class Ledger:
    """The open book of one run; every change is on disk (atomic rename) before the call returns.

    Raises FileExistsError when the run id is in use.
    """

    def __init__(self, run: str, directory: Path = STATE_DIRECTORY) -> None:
        self.run, self.runtime = run, directory / run
        self.path = directory / f"{run}.json"
        self._lock = threading.Lock()
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.runtime.mkdir(mode=0o700)
        me = os.getpid()
        self._book: dict[str, Any] = {
            "owner": {"pid": me, "start": start_time(me)}, "namespaces": [], "processes": [], "loops": [],
        }  # fmt: skip
        self._write()

    def _write(self) -> None:
        draft = self.path.with_suffix(".json.new")
        draft.write_text(json.dumps(self._book))
        draft.rename(self.path)

    def add_namespace(self, name: str) -> None:
        with self._lock:
            self._book["namespaces"].append(name)
            self._write()

    def add_process(self, pid: int) -> None:
        with self._lock:
            alive = [p for p in self._book["processes"] if start_time(p["pid"]) == p["start"]]
            self._book["processes"] = [*alive, {"pid": pid, "start": start_time(pid)}]
            self._write()

    def add_loop(self, device: str) -> None:
        with self._lock:
            self._book["loops"].append(device)
            self._write()

    def settle(self) -> list[str]:
        """Remove everything this run owns, then the book itself; returns what was removed, in words."""
        with self._lock:
            return _remove(self.path, self._book)


def _processes_in(inodes: set[int]) -> list[int]:
    """Processes living in one of these network namespaces: ours by definition, whoever started them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if netns.inode_of(pid=entry.name) in inodes:
                    found.append(int(entry.name))
    return found


def _kill_all(pids: set[int], limit: float = 5.0) -> None:
    deadline = time.monotonic() + limit
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(start_time(pid) is not None for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)


def _remove(path: Path, book: dict[str, Any]) -> list[str]:
    removed: list[str] = []
    inodes = set()
    for name in book["namespaces"]:
        with contextlib.suppress(OSError):
            inodes.add(netns.inode_of(name))
    inodes.discard(netns.inode_of())  # whatever happens: never our own
    pids = {p["pid"] for p in book["processes"] if p["start"] and start_time(p["pid"]) == p["start"]}
    pids |= set(_processes_in(inodes)) if inodes else set()
    pids -= {os.getpid()}
    _kill_all(pids)
    removed += [f"process {pid}" for pid in sorted(pids)]
    for name in book["namespaces"]:
        with contextlib.suppress(OSError):
            netns.remove(name)
            removed.append(f"namespace {name}")
    for device in book["loops"]:
        if subprocess.run([need("losetup"), "-d", device], capture_output=True).returncode == 0:
            removed.append(f"loop device {device}")
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    path.unlink(missing_ok=True)
    return removed


def clean(run: str | None = None, directory: Path = STATE_DIRECTORY, *, living: bool = False) -> list[str]:
    """Remove what dead runs left behind (or the one named), returning what was removed, in words.

    A run whose owner still lives is left alone unless ``living``. An unreadable book is an error of ours
    and raises.
    """
    removed: list[str] = []
    for path in sorted(directory.glob("*.json")):
        if run is not None and path.stem != run:
            continue
        try:
            book = json.loads(path.read_text())
        except FileNotFoundError:
            continue  # settled this moment by its owner
        owner = book["owner"]
        if owner["start"] is not None and start_time(owner["pid"]) == owner["start"] and not living:
            continue
        removed += _remove(path, book)
    return removed


def clean_after(run: str, owner: int, limit: float = 60.0) -> None:
    """Clean up ``run``, whose owner is about to end: its files are closed a moment before it is dead."""
    deadline, born = time.monotonic() + limit, start_time(owner)
    while born is not None and start_time(owner) == born and time.monotonic() < deadline:
        time.sleep(0.05)
    clean(run)


def watch(run: str) -> subprocess.Popen[bytes]:
    """A shell that cleans up ``run`` when our end of its standard input closes: also when we are SIGKILLed.

    The shell ignores signals meant for us; only when it is needed does it become a Python. Its own dead
    owner is how ``clean`` knows that this run is over.
    """
    root = Path(__file__).resolve().parents[2]
    code = f"from pxeboot.lab.ledger import clean_after; clean_after({run!r}, {os.getpid()})"
    script = 'trap "" INT TERM HUP; read -r end && exit 0; exec "$0" -c "$1"'
    environment = {**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.Popen(
        ["/bin/sh", "-c", script, sys.executable, code],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, env=environment,
    )  # fmt: skip
