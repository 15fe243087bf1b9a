"""A machine's serial line: everything it shows is kept, and a technician's hands type on it.

Firmware, GRUB and the kernel share the line and paint with terminal escapes; matching is done on the text
without them, in the order it came. The raw bytes go to a log file.
"""

from __future__ import annotations

import bisect
import codecs
import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pxeboot.lab.errors import ConsoleTimeout, LabError

# ECMA-48: CSI sequences, OSC strings, charset selections and two-byte escapes; one control byte; or plain
# text.
_TOKEN = re.compile(
    r"\x1b\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[()*+#][0-9A-Za-z]"
    r"|\x1b[ -/]*[0-Z\\-~]|(?P<control>[\x00-\x1f\x7f])|(?P<text>[^\x00-\x1f\x7f]+)"
)
# A serial line comes in pieces: what ends where the text ends may be half a word. So long it must be quiet,
# where more of the word would change the match (whoever emulates the machine may be kept from its processor).
QUIET = 2.0
_MORE = "aA0/+:=._- "
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*|[()*+#]|)\Z")


class Screen:
    """Turns the bytes of a serial line into plain text, piece by piece, whatever the cut (pure).

    Firmware paints: it moves the cursor even to where it already is. So the cursor is followed: text that
    goes on where the last ended is one word, a jump to the right a space, any other jump a new line.
    """

    def __init__(self) -> None:
        self._held = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._row, self._column = 1, 1

    def feed(self, data: bytes) -> str:
        """The text that ``data`` adds; an escape sequence or character cut in two is held back until it is
        whole.
        """
        text, self._held = self._held + self._decode(data), ""
        if (cut := _UNFINISHED.search(text)) and len(cut.group()) < 64:
            text, self._held = text[: cut.start()], cut.group()
        out: list[str] = []
        for token in _TOKEN.finditer(text):
            if token["text"]:
                out.append(token["text"])
                self._column += len(token["text"])
            elif token["control"]:
                out.append(self._control(token["control"]))
            elif token["final"] in ("H", "f"):
                row, column = (
                    int(n) if n.isdigit() else 1 for n in (token["parameters"] + ";;").split(";")[:2]
                )
                out.append(self._jump(row, column))
        return "".join(out)

    def _control(self, character: str) -> str:
        if character == "\n":
            self._row += 1
            return "\n"
        if character == "\t":
            self._column += 8
            return "\t"
        if character == "\r":
            self._column = 1
        elif character == "\b":
            self._column -= 1
        return ""

    def _jump(self, row: int, column: int) -> str:
        before = (self._row, self._column)
        self._row, self._column = row, column
        if before == (row, column):
            return ""
        return " " if row == before[0] and column > before[1] else "\n"


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

        A match up to the very end of the text that more text would change (``[^ ]+`` would, ``grub>`` would
        not) counts once the line has been quiet for QUIET seconds: the rest of the word may be on its way.
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
                    if (wait := self._growing(match, deadline)) > 0:
                        self._changed.wait(wait)
                        continue
                    self._cursor = match.end()
                    return index, match
                left = deadline - time.monotonic()
                if left <= 0 or not self.attached:
                    why = f"within {timeout:.0f} s" if left <= 0 else "before the machine went off"
                    tail = "\n".join(self._text[-2000:].splitlines()[-15:])
                    wanted = " or ".join(patterns)
                    raise ConsoleTimeout(f"the console did not show {wanted!r} {why}; last lines:\n{tail}")
                self._changed.wait(left)

    def _growing(self, match: re.Match[str], deadline: float) -> float:
        """Seconds to wait before ``match`` is sure to be whole; not above 0 when it is."""
        if match.end() < len(self._text) or not self.attached or not _may_grow(match):
            return 0.0
        return min(self._marks[-1][1] + QUIET, deadline) - time.monotonic()

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


def _may_grow(match: re.Match[str]) -> bool:
    """Whether a match that ends where its text ends would be another one if more came."""
    head, end = match.string[match.start() :], match.end() - match.start()
    others = (match.re.match(head + character) for character in _MORE)
    return any(other is None or other.end() > end for other in others)


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
