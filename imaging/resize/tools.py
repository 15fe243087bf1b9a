"""Running a file-system tool: with a time limit, its output kept, and its failure told in one sentence."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Collection

from imaging.errors import ResizeFailed, ToolMissing

Log = Callable[[str], None]
"""Takes one line for the log: what was run, how it ended, and what it printed."""

#: Seconds. Checking a file system of many million files on a slow disk, moving gigabytes out of the way.
LONG = 4 * 3600.0
#: Seconds. Tools that read or write a few blocks.
SHORT = 120.0
_MAX_OUTPUT = 4000  # characters of a tool's output that go to the log


def no_log(line: str) -> None:
    """A log that forgets."""


def run(
    *command: str, seconds: float, log: Log = no_log, ok: Collection[int] = (0,), advice: str = ""
) -> str:
    """The combined output of ``command``, which must end with a status in ``ok`` within ``seconds``.

    Output and duration go to ``log``. ``advice`` is what the person should do when it fails. Raises
    ToolMissing, ResizeFailed with the tool's last words.
    """
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Sentences are looked for in the output; a locale would change them.
            env={**os.environ, "LC_ALL": "C", "TERM": "dumb"},
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise ToolMissing(
            f"{command[0]} is not installed here: bring the boot environment up to date."
        ) from None
    except subprocess.TimeoutExpired as late:
        text = (late.stdout or b"").decode("utf-8", "replace")
        log(f"{' '.join(command)}: not done after {seconds:.0f} s\n{text[-_MAX_OUTPUT:]}")
        raise ResizeFailed(
            f"{command[0]} was not done after {seconds:.0f} s and was stopped: check the disk's health."
        ) from None
    text = done.stdout.decode("utf-8", "replace")
    ended = f"status {done.returncode}, {time.monotonic() - began:.1f} s"
    log(f"{' '.join(command)}: {ended}\n{text[-_MAX_OUTPUT:]}")
    if done.returncode not in ok:
        said = last_words(text) or f"status {done.returncode}"
        raise ResizeFailed(f"{command[0]} failed ({said}){f': {advice}' if advice else ''}.")
    return text


def last_words(output: str, lines: int = 3) -> str:
    """The last few lines of a tool's output as one phrase of at most 300 characters."""
    kept = [" ".join(line.split()) for line in output.replace("\r", "\n").splitlines() if line.strip()]
    return " / ".join(kept[-lines:])[-300:].rstrip(".")


def field(output: str, after: str) -> int:
    """The whole number that follows the words ``after`` in a tool's output; raises ResizeFailed."""
    _, found, rest = output.partition(after)
    words = rest.split()
    if not found or not words or not words[0].isascii() or not words[0].isdigit():
        raise ResizeFailed(f"The answer of a tool makes no sense here ({last_words(output)}).")
    return int(words[0])
