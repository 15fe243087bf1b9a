"""A disk that forgets at a power cut what was not flushed: a kill alone loses nothing that was written.

It is a file of this machine, whose fsync is a flush of the disk, and so may be an emulated machine's disk.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from pxeboot.lab import processes

_ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 60.0


class ForgetfulDisk:
    """:meth:`power_on` connects it, :meth:`cut` takes the power away; leaving it removes everything.

    ``path`` is the disk, as long as it has power; ``medium`` the file that keeps what is kept.
    """

    def __init__(self, medium: Path, *, seed: int = 1) -> None:
        self.medium, self._seed = medium, seed
        self._folder = tempfile.TemporaryDirectory(prefix="pxeboot-forgetful-", ignore_cleanup_errors=True)
        self.path, self._state = Path(self._folder.name) / "disk", Path(self._folder.name) / "state"
        self._stop = 0
        self._process: subprocess.Popen[bytes] | None = None

    def power_on(self, stop: int = 0) -> None:
        """``stop``: at this request to write or flush it answers no more (:attr:`stopped`)."""
        self._seed += 1
        self._stop = stop
        self._state.write_bytes(bytes(16))
        self.path.touch()
        command = [sys.executable, "-m", "tests.forgetful.serve"]
        command += [str(self.medium), str(self._state), str(self._seed), str(stop), str(self.path)]
        self._process = processes.spawn(command, cwd=_ROOT)
        give_up = time.monotonic() + _SECONDS
        while self.path.stat().st_size == 0:
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise AssertionError("the forgetful disk did not start")
            time.sleep(0.02)

    @property
    def at_stake(self) -> int:
        """Blocks (4 KiB) that a power cut would lose now."""
        return int.from_bytes(self._state.read_bytes()[:8], "little")

    @property
    def requests(self) -> int:
        """How often it was asked to write or to flush since it has power."""
        return int.from_bytes(self._state.read_bytes()[8:], "little")

    @property
    def stopped(self) -> bool:
        return self._stop > 0 and self.requests >= self._stop

    def cut(self) -> int:
        """No power any more; how many blocks the disk forgot. Who uses it gets errors."""
        if self._process is None:
            return 0
        self._process.kill()
        self._process.wait(60)
        self._process = None
        # A loop device of a process that died a moment ago may still hold it: take it out of the tree.
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["umount", "--lazy", str(self.path)], check=True, timeout=60)
        return self.at_stake

    def __enter__(self) -> ForgetfulDisk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        self._folder.cleanup()
