"""Running an administrator's shell script: bounded in time and output, and with an end for all it started.

The script is process 1 of a PID namespace of its own: when it ends, or is ended, the kernel ends whatever
it left running, so nothing holds a mounted disk afterwards. It sees the mounts of the calling thread.
"""

from __future__ import annotations

import dataclasses
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import IO

from imaging.errors import CustomiseError

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HEAD, _TAIL = 1024, 3072  # bytes kept of the beginning and the end
_PIECE = 64 << 10
_LAST_LINES = 3
#: util-linux's programs. The kernel ends the script when our thread ends, however that happens.
_WRAP = (
    *("setpriv", "--pdeathsig", "KILL"),
    # Propagation is that of the caller's namespace, which is private; in a chroot it could not be changed.
    *("unshare", "--mount", "--propagation", "unchanged"),
    *("--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """How a script ended. ``status``: as a shell says it, None when its time was over."""

    status: int | None
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Did it end with status 0?"""
        return self.status == 0

    def last_lines(self) -> str:
        """The last lines of its output, on one line."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return " / ".join(lines[-_LAST_LINES:])


def run_script(
    text: str,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    seconds: float,
    *,
    check: Callable[[], None] = lambda: None,
) -> Ran:
    """Run a shell script (``/bin/sh``, no input) to its end or for ``seconds``.

    ``check`` is called several times a second and may raise to give the script up. Raises CustomiseError when
    nothing could be started.
    """
    variables = {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb", **environment}
    with tempfile.TemporaryDirectory(prefix="pxeboot-script-") as directory:
        path = os.path.join(directory, "script")
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        started = time.monotonic()
        try:
            process = subprocess.Popen(
                [*_WRAP, "/bin/sh", path, *arguments],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=variables, cwd="/", start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise CustomiseError(f"The script cannot be started: {error}.") from error
        try:
            assert process.stdout is not None
            output = _follow(process, process.stdout, started + seconds, check)
            # Asked while its output is still open: closing that would end a script that is out of time.
            status = process.poll()
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        return Ran(status, output, time.monotonic() - started)


def _follow(
    process: subprocess.Popen[bytes], pipe: IO[bytes], deadline: float, check: Callable[[], None]
) -> str:
    """Read until the script and its children let go of the pipe, or the deadline; what it said, bounded."""
    head, tail, skipped = bytearray(), bytearray(), 0
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            check()
            if not selector.select(min(left, 0.2)):
                continue
            data = _read(pipe)
            if not data:
                _wait(process, deadline, check)
                break
            room = _HEAD - len(head)
            head += data[:room]
            tail += data[room:] if room > 0 else data
            skipped += max(0, len(tail) - _TAIL)
            del tail[:-_TAIL]
    gap = f"\n[… {skipped} bytes left out …]\n" if skipped else ""
    return _printable(head) + gap + _printable(tail)


def _read(pipe: IO[bytes]) -> bytes:
    return os.read(pipe.fileno(), _PIECE)


def _wait(process: subprocess.Popen[bytes], deadline: float, check: Callable[[], None]) -> None:
    """A script may close its output and go on."""
    while process.poll() is None and time.monotonic() < deadline:
        check()
        try:
            process.wait(min(0.2, max(0.01, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            continue


def _printable(data: bytearray) -> str:
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "�" for sign in text)
