"""The consoles of the machine: every line goes to all of them, an answer is taken from whichever gives one.

A technician may sit at the screen or at a serial line; the kernel lists both in
/sys/class/tty/console/active. Lines that begin with ``agent: `` are for programs (the lab's ``expect``) and
are never translated; docs/agent.md lists them.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import threading
import time
from collections.abc import Iterable
from typing import TextIO

from imaging.agent.i18n import gettext as _

_WRITE_SECONDS = 1.0  # a serial line with flow control held must not hold the deploy
_BAR_EVERY, _LINE_EVERY = 0.25, 5.0  # seconds between redraws of a bar, between lines of a serial console
_BAR_WIDTH = 30
_MAX_LINE = 512


class AnswerTimeout(Exception):
    """Nobody answered in time, or there is no console left that could."""


class Terminal:
    """One console: a pair of file descriptors; ``bar`` = a screen where a line may be redrawn."""

    def __init__(self, name: str, source: int | None, target: int, *, bar: bool) -> None:
        self.name = name
        self.source = source
        self.target = target
        self.bar = bar
        self.usable = True
        self._pending = b""

    def write(self, data: bytes) -> None:
        """Write all within ``_WRITE_SECONDS`` or give the rest up; a console that fails is not used again."""
        deadline = time.monotonic() + _WRITE_SECONDS
        while data and self.usable:
            try:
                data = data[os.write(self.target, data) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([], [self.target], [], left)[1]:
                    return
            except OSError as error:
                self.usable = error.errno == errno.EINTR

    def read_line(self) -> str | None:
        """The next complete line that has arrived, ``None`` if there is none yet; call when readable."""
        if self.source is None:
            return None
        if b"\n" not in self._pending:
            try:
                data = os.read(self.source, 4096)
            except BlockingIOError:
                return None
            except OSError:
                data = b""
            if not data:
                self.source = None
                if not self._pending:
                    return None
                data = b"\n"
            self._pending += data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in self._pending:
            self._pending = self._pending[-_MAX_LINE:]
            return None
        line, _newline, self._pending = self._pending.partition(b"\n")
        text = line[:_MAX_LINE].decode("utf-8", "replace")
        return "".join(character for character in text if character.isprintable()).strip()

    @property
    def has_line(self) -> bool:
        """Is a complete line waiting in memory (so that select would not tell)?"""
        return b"\n" in self._pending


class Console:
    """All consoles together; ``log`` is a file that gets every line with its time."""

    def __init__(self, terminals: Iterable[Terminal], log: TextIO | None = None) -> None:
        self._terminals = list(terminals)
        self.failed = False  # a failure was printed: whoever stands there should have time to read it
        self._log = log
        self._lock = threading.RLock()
        self._bar_shown = False
        self._bar_at = self._line_at = 0.0
        self._last_stage = ""

    def say(self, text: str = "") -> None:
        """One line to every console and to the log."""
        with self._lock:
            data = text.encode("utf-8", "replace") + b"\n"
            for terminal in self._terminals:
                terminal.write((b"\r\x1b[K" if terminal.bar and self._bar_shown else b"") + data)
            self._bar_shown = False
            self.log(text)

    def log(self, text: str) -> None:
        """A line for the log only."""
        if self._log is not None:
            with self._lock:
                stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                self._log.write("".join(f"{stamp} {line}\n" for line in text.splitlines() or [""]))
                self._log.flush()

    def progress(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show how far a stage is: a bar on screens, now and then a line on serial consoles."""
        now = time.monotonic()
        percent = 100 * done // total if total else 0
        with self._lock:
            new = stage != self._last_stage
            if new or now - self._bar_at >= _BAR_EVERY:
                self._bar_at = now
                filled = _BAR_WIDTH * percent // 100
                bar = (
                    f"\r\x1b[K{stage:>9} [{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {percent:3d} %  {note}"
                )
                for terminal in self._terminals:
                    if terminal.bar:
                        terminal.write(bar[:100].encode("utf-8", "replace"))
                        self._bar_shown = True
            if new or now - self._line_at >= _LINE_EVERY:
                self._line_at = now
                line = f"agent: progress stage={stage} percent={percent} {note}".rstrip()
                for terminal in self._terminals:
                    if not terminal.bar:
                        terminal.write(line.encode("utf-8", "replace") + b"\n")
                self.log(line)
            self._last_stage = stage

    def ask(self, prompt: str, default: str, deadline: float) -> str:
        """Print ``prompt [default]: `` and return the first line that comes; an empty one means the default.

        ``deadline`` is ``time.monotonic()``'s. Raises AnswerTimeout.
        """
        shown = f"{prompt} [{default}]: "
        with self._lock:
            for terminal in self._terminals:
                terminal.write((b"\r\x1b[K" if self._bar_shown and terminal.bar else b"") + shown.encode())
            self._bar_shown = False
            self.log(shown)
        answering, line = self._wait_line(deadline)
        answer = line or default
        with self._lock:
            for terminal in self._terminals:
                # The console that answered has echoed what was typed; the others learn of it here.
                if terminal is not answering or not os.isatty(terminal.target):
                    terminal.write(answer.encode("utf-8", "replace") + b"\n")
            self.log(answer)
        return answer

    def choose(self, title: str, choices: list[str], default: int, deadline: float) -> int:
        """A numbered list; returns the index chosen, by number or by the choice's own text. Raises
        AnswerTimeout.
        """
        for number, choice in enumerate(choices):
            self.say(f"  {number}) {choice}")
        while True:
            answer = self.ask(title, str(default), deadline)
            if answer.isdecimal() and int(answer) < len(choices):
                return int(answer)
            folded = [choice.casefold() for choice in choices]
            if answer.casefold() in folded:
                return folded.index(answer.casefold())
            self.say(_("Please type a number from 0 to {last}.").format(last=len(choices) - 1))

    def pause(self, seconds: float) -> None:
        """Leave what was printed readable: wait, or until Enter is pressed on a console."""
        if any(terminal.source is not None for terminal in self._terminals):
            try:
                self._wait_line(time.monotonic() + seconds)
            except AnswerTimeout:
                return

    def stopped_within(self, seconds: float) -> bool:
        """Did somebody press Enter on a console within this time?"""
        try:
            self._wait_line(time.monotonic() + seconds)
        except AnswerTimeout:
            return False
        return True

    def _wait_line(self, deadline: float) -> tuple[Terminal, str]:
        while True:
            for terminal in self._terminals:
                if terminal.has_line and (line := terminal.read_line()) is not None:
                    return terminal, line
            sources = {t.source: t for t in self._terminals if t.source is not None}
            left = deadline - time.monotonic()
            if left <= 0 or not sources:
                raise AnswerTimeout
            for ready in select.select(list(sources), [], [], min(left, 1.0))[0]:
                if (line := sources[ready].read_line()) is not None:
                    return sources[ready], line


def open_consoles(
    log: TextIO | None = None, active: str = "/sys/class/tty/console/active", dev: str = "/dev"
) -> Console:
    """The consoles the kernel writes to; standard input and output when none can be opened."""
    try:
        with open(active, encoding="ascii") as file:
            names = file.read().split()
    except OSError:
        names = []
    terminals = []
    for name in names:
        # tty0 means "the screen now in front"; read from it and a switch of screens takes the keyboard away.
        path = f"{dev}/tty1" if name == "tty0" and os.path.exists(f"{dev}/tty1") else f"{dev}/{name}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue
        _cook(fd)
        terminals.append(Terminal(name, fd, fd, bar=not name.startswith("ttyS") and name != "hvc0"))
    return Console(terminals, log) if terminals else standard_console(log)


def standard_console(
    log: TextIO | None = None, stdin: int | None = None, stdout: int | None = None
) -> Console:
    """Standard input and output: simulated hosts and tests."""
    source = sys.stdin.fileno() if stdin is None else stdin
    target = sys.stdout.fileno() if stdout is None else stdout
    return Console([Terminal("stdio", source, target, bar=False)], log)


def _cook(fd: int) -> None:
    """Line editing, echo and CR/LF translation on, whatever ran on this terminal before; old input thrown
    away.
    """
    import termios

    try:
        mode = termios.tcgetattr(fd)
        mode[0] |= termios.ICRNL
        mode[1] |= termios.OPOST | termios.ONLCR
        mode[3] |= termios.ICANON | termios.ECHO | termios.ECHOE | termios.ISIG
        termios.tcsetattr(fd, termios.TCSANOW, mode)
        termios.tcflush(fd, termios.TCIFLUSH)
    except termios.error:
        return  # not a terminal (a pipe in a test): nothing to set
