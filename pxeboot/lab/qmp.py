"""QEMU's control line (QMP): one JSON object a line, greeting first, events at any time (QEMU
docs/interop/qmp-spec).
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pxeboot.lab.console import connect_unix
from pxeboot.lab.errors import LabError


class Qmp:
    """A connection to one QEMU. ``on_event`` gets each event (name, data) on the reading thread."""

    def __init__(self, path: Path, on_event: Callable[[str, dict[str, Any]], None], timeout: float) -> None:
        self._socket = connect_unix(path, timeout)
        self._socket.settimeout(timeout)
        self._file = self._socket.makefile("r", encoding="utf-8")
        if "QMP" not in json.loads(self._file.readline() or "{}"):
            raise LabError("QEMU's control line did not greet")
        self._socket.settimeout(None)
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._on_event, self._lock = on_event, threading.Lock()
        threading.Thread(target=self._read, name="qmp", daemon=True).start()
        self.execute("qmp_capabilities", timeout=timeout)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in self._file:
                message = json.loads(line)
                if "event" in message:
                    self._on_event(message["event"], message.get("data", {}))
                else:
                    self._answers.put(message)
        self._answers.put({"error": {"desc": "QEMU ended"}})

    def execute(self, command: str, *, timeout: float = 30.0, **arguments: Any) -> Any:
        """Run a QMP command and return its ``return`` value; LabError when it fails or is not answered
        in time.
        """
        with self._lock:
            started = time.monotonic()
            try:
                self._socket.sendall(
                    json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
                )
                answer = self._answers.get(timeout=max(0.1, timeout - (time.monotonic() - started)))
            except (OSError, queue.Empty) as error:
                raise LabError(f"QEMU did not answer {command}: {error!r}") from None
        if "error" in answer:
            raise LabError(f"QEMU refused {command}: {answer['error'].get('desc')}")
        return answer.get("return")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
