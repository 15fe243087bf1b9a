"""One sender of a multicast session: a process of its own, told what to do in JSON lines on its stdin.

It ends itself when its standard input does, so none outlives the daemon. What the lines mean:
docs/multicast-protocol.md §9.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imaging

log = logging.getLogger(__name__)

STOP_SECONDS = 1.0
_LINE_LIMIT = 4 << 20  # octets: a state line of some thousand hosts


class SenderProcess:
    """A running sender. `heard(kind, data)` is called for each line that it says, `ended(reason)` once, and
    only when it was not we who stopped it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        heard: Callable[[str, dict[str, Any]], None],
        ended: Callable[[str], None],
    ) -> None:
        self.process = process
        self._heard, self._ended = heard, ended
        self._stopping = False
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        order: dict[str, Any],
        heard: Callable[[str, dict[str, Any]], None],
        ended: Callable[[str], None],
    ) -> SenderProcess:
        """Start one and give it its order. Raises OSError when it cannot be started."""
        here = str(Path(imaging.__file__).resolve().parent.parent)
        path = os.pathsep.join(part for part in (here, os.environ.get("PYTHONPATH", "")) if part)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "imaging.multicast.send",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            limit=_LINE_LIMIT,
        )
        made = cls(process, heard, ended)
        # The order has the session's key: standard input, never an argument that `ps` shows.
        made.tell(order)
        return made

    def tell(self, line: dict[str, Any]) -> None:
        """Say something to it; one that is ending is not told."""
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(json.dumps(line).encode() + b"\n")

    async def stop(self) -> None:
        """The end of its standard input tells a sender to stop; a kill tells a deaf one."""
        self._stopping = True
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(self._reader, STOP_SECONDS)

    async def _read(self) -> None:
        """Follow it until it ends."""
        assert self.process.stdout is not None
        reason = ""
        while True:
            try:
                line = await self.process.stdout.readline()
            except ValueError:  # a line beyond the limit: not one of ours
                continue
            if not line:
                break
            try:
                event = json.loads(line)
                kind = str(event.pop("event"))
            except (ValueError, KeyError, TypeError, AttributeError):
                log.warning("multicast sender said: %s", line[:200])
                continue
            if kind == "failed":
                reason = str(event.get("reason", ""))
            self._heard(kind, event)
        code = await self.process.wait()
        if not self._stopping:
            self._ended(reason or f"The multicast sender ended with status {code}.")
