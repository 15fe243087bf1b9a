"""A machine's serial line: everything it shows is kept, and a technician's hands type on it.

Firmware, GRUB and the kernel share the line and paint with terminal escapes; matching is done on the text
without them, in the order it came. The raw bytes go to a log file.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pxeboot.lab.errors import ConsoleTimeout, LabError

# ECMA-48: CSI sequences, OSC strings, charset selections and two-byte escapes; then control bytes but \n
# and \t.
_ESCAPE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+#][0-9A-Za-z]|[ -/]*[0-Z\\-~])"
)
# Moving the cursor to another place ends what was written: keep words of different screen lines apart.
_MOVE = re.compile(rb"\x1b\[[0-9;]*[HfABEFGd]")
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*|[()*+#]|)\Z")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]+")


class Screen:
    """Turns the bytes of a serial line into plain text, piece by piece, whatever the cut (pure)."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> str:
        """The text that ``data`` adds; an escape sequence cut in two is held back until it is whole."""
        data, self._held = self._held + data, b""
        if (cut := _UNFINISHED.search(data)) and len(cut.group()) < 64:
            data, self._held = data[: cut.start()], cut.group()
        data = _ESCAPE.sub(b"", _MOVE.sub(b"\n", data))
        return _CONTROL.sub(b"", data).decode("utf-8", "replace")


class Console:
    """One serial console over QEMU's Unix socket, read by a thread until the machine is off.

    ``listener`` (if any) is called with each piece of text as it comes, from the reading thread.
    """

    def __init__(self, log: Path, listener: Callable[[str], None] | None = None) -> None:
        self._log, self._listener = log, listener
        self._changed = threading.Condition()
        self._text = ""
        self._marks: list[tuple[int, float]] = []
        self._cursor = 0
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def attach(self, path: Path, timeout: float) -> None:
        """Connect to the machine's serial socket; LabError when it is not there within ``timeout``
        seconds.
        """
        self._socket = connect_unix(path, timeout)
        self._thread = threading.Thread(target=self._read, args=(self._socket,), daemon=True)
        self._thread.start()

    def _read(self, line: socket.socket) -> None:
        screen = Screen()
        with self._log.open("ab", buffering=0) as log, line:
            while True:
                try:
                    data = line.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    break
                log.write(data)
                text = screen.feed(data)
                with self._changed:
                    self._marks.append((len(self._text), time.monotonic()))
                    self._text += text
                    self._changed.notify_all()
                if self._listener and text:
                    self._listener(text)
        with self._changed:
            if self._socket is line:
                self._socket = None
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """All that was shown, without escapes, over all power cycles."""
        return self._text

    @property
    def attached(self) -> bool:
        return self._socket is not None

    def skip(self) -> None:
        """Forget what was shown so far: the next ``expect`` looks only at what comes now."""
        with self._changed:
            self._cursor = len(self._text)

    def when(self, position: int) -> float:
        """time.monotonic() at which the text's character ``position`` came in."""
        index = bisect.bisect_right(self._marks, (position, float("inf"))) - 1
        return self._marks[max(index, 0)][1]

    def expect(self, pattern: str, timeout: float) -> re.Match[str]:
        """Wait until ``pattern`` (a regular expression) shows up after the last match; its match.

        Raises ConsoleTimeout after ``timeout`` seconds, or at once when the line is gone for good.
        """
        return self.expect_any([pattern], timeout)[1]

    def expect_any(self, patterns: Sequence[str], timeout: float) -> tuple[int, re.Match[str]]:
        """Wait for the first of several patterns: which (index) and its match. See ``expect``."""
        compiled = [re.compile(p, re.MULTILINE) for p in patterns]
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [
                    (match.start(), index, match)
                    for index, expression in enumerate(compiled)
                    if (match := expression.search(self._text, self._cursor))
                ]
                if found:
                    _, index, match = min(found, key=lambda item: item[:2])
                    self._cursor = match.end()
                    return index, match
                left = deadline - time.monotonic()
                if left <= 0 or not self.attached:
                    why = f"within {timeout:.0f} s" if left <= 0 else "before the machine went off"
                    tail = "\n".join(self._text[-2000:].splitlines()[-15:])
                    wanted = " or ".join(patterns)
                    raise ConsoleTimeout(f"the console did not show {wanted!r} {why}; last lines:\n{tail}")
                self._changed.wait(left)

    def send(self, text: str, *, pace: float = 0.03) -> None:
        """Type ``text``, one character every ``pace`` seconds: boot loaders have a keyboard buffer of 16
        at most.
        """
        for character in text:
            line = self._socket
            if line is None:
                raise LabError("cannot type: the machine is off")
            line.sendall(character.encode())
            time.sleep(pace)

    def answer(self, pattern: str, text: str, timeout: float) -> None:
        """Wait for a question, then type the answer and Enter."""
        self.expect(pattern, timeout)
        self.send(text + "\r")

    def detach(self) -> None:
        """Close the line and wait for its reader."""
        line, thread = self._socket, self._thread
        if line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)


def connect_unix(path: Path, timeout: float) -> socket.socket:
    """A connection to a Unix socket that is about to appear; LabError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            line.connect(str(path))
            return line
        except OSError as error:
            line.close()
            if time.monotonic() > deadline:
                raise LabError(f"cannot connect to {path.name} of the machine: {error}") from None
            time.sleep(0.05)
