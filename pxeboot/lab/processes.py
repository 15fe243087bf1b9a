"""Children that never outlive us: started in a namespace, killed by the kernel when this process dies.

PR_SET_PDEATHSIG is tied to the *thread* that forked (prctl(2)): a machine started by a worker thread would
be killed when that thread ends. So one thread that lives as long as the process forks them all, and
`setpriv --pdeathsig` sets the signal after the fork, where no Python code has to run between fork and exec.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pxeboot.lab.errors import LabError, ToolMissing
from pxeboot.lab.netns import path_of

_PACKAGES = {
    "setpriv": "util-linux",
    "nsenter": "util-linux",
    "mkswap": "util-linux",
    "sfdisk": "fdisk",
    "qemu-system-x86_64": "qemu-system-x86",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mmd": "mtools",
    "mke2fs": "e2fsprogs",
    "ip": "iproute2",
}


def need(program: str) -> str:
    """The program's path; ToolMissing (with its Debian package) when it is not installed."""
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise ToolMissing(f"{program} is not installed (Debian package {_PACKAGES.get(program, program)})")
    return found


def start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot (proc(5), field 22): tells a process from a later one
    with its pid.

    None when there is no such process or only its zombie.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in (b"Z", b"X") else int(after_name[19])


class _Spawner:
    """The one thread that forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._orders: queue.SimpleQueue[tuple[list[str], dict[str, Any], Future[subprocess.Popen[bytes]]]]
        self._orders = queue.SimpleQueue()
        self._owner = 0

    def start(self, argv: list[str], options: dict[str, Any]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None or self._owner != os.getpid():  # a fork has none of our threads
                self._owner, self._orders = os.getpid(), queue.SimpleQueue()
                self._thread = threading.Thread(
                    target=self._run, args=(self._orders,), name="spawner", daemon=True
                )
                self._thread.start()
        future: Future[subprocess.Popen[bytes]] = Future()
        self._orders.put((argv, options, future))
        return future.result(timeout=30)

    @staticmethod
    def _run(
        orders: queue.SimpleQueue[tuple[list[str], dict[str, Any], Future[subprocess.Popen[bytes]]]],
    ) -> None:
        while True:
            argv, options, future = orders.get()
            try:
                future.set_result(subprocess.Popen(argv, **options))
            except BaseException as error:  # the one who asked decides
                future.set_exception(error)


_spawner = _Spawner()


def command_in(namespace: str | None, argv: Sequence[str]) -> list[str]:
    """``argv`` wrapped so that it dies with its parent and runs in ``namespace`` (None: the parent's)."""
    wrapped = [need("setpriv"), "--pdeathsig", "KILL"]
    if namespace is not None:
        wrapped += [need("nsenter"), f"--net={path_of(namespace)}", "--"]
    return [*wrapped, *argv]


def spawn(argv: Sequence[str], *, namespace: str | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start ``argv`` in ``namespace``, tied to our life; ``options`` are subprocess.Popen's.

    It gets its own session (a Ctrl-C in the terminal reaches only us, and we stop our children in order)
    and, unless told otherwise, no standard input.
    """
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("start_new_session", True)
    return _spawner.start(command_in(namespace, argv), options)


def run(argv: Sequence[str], *, timeout: float, namespace: str | None = None, **options: Any) -> bytes:
    """Run ``argv`` to its end and return its output; LabError with the end of what it said when it fails."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.STDOUT)
    given = options.pop("input", None)
    if given is not None:
        options["stdin"] = subprocess.PIPE
    process = spawn(argv, namespace=namespace, **options)
    try:
        out, _ = process.communicate(given, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise LabError(f"{argv[0]} took longer than {timeout:.0f} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode != 0:
        tail = (out or b"").decode("utf-8", "replace").strip()[-1500:]
        raise LabError(f"{argv[0]} ended with status {process.returncode}: {tail or 'it said nothing'}")
    return out or b""


def stop(process: subprocess.Popen[bytes], *, grace: float = 3.0) -> int:
    """SIGTERM, then SIGKILL after ``grace`` seconds; returns the exit status (never raises for a dead
    process).
    """
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait(10)
