"""The record of what was done: each step with its place, its success, its time and a piece of its output."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from imaging.errors import CustomiseError

MAX_OUTPUT = 2048  # characters kept of one step
_MAX_STEPS, _MAX_TOTAL = 400, 48 << 10  # of all: an outcome is kept in the database, and listed


class Note:
    """What a step may say about itself."""

    def __init__(self) -> None:
        self.output = ""
        self.ok = True


class Steps:
    """The steps in order, as the outcome carries them.

    ``tell`` gets a line per finished step for the console, ``begin`` a few words when one begins.
    """

    def __init__(
        self,
        tell: Callable[[str], None] = lambda line: None,
        mask: Callable[[str], str] = str,
        begin: Callable[[str], None] = lambda words: None,
    ) -> None:
        self.records: list[dict[str, Any]] = []
        self._tell, self._mask, self._begin = tell, mask, begin
        self._room = _MAX_TOTAL

    @contextlib.contextmanager
    def step(self, kind: str, name: str = "", where: str = "") -> Iterator[Note]:
        """Record one step. An error of the system becomes a CustomiseError that names the step."""
        note, started = Note(), time.monotonic()
        self._begin(" ".join(filter(None, (kind, name, where))))
        try:
            yield note
        except OSError as error:
            note.ok, note.output = False, note.output or (error.strerror or type(error).__name__)
            raise CustomiseError(self._mask(_failed(kind, name, where, error))) from error
        except BaseException as error:
            note.ok, note.output = False, note.output or str(error)
            raise
        finally:
            self._record(kind, name, where, note, time.monotonic() - started)

    def _record(self, kind: str, name: str, where: str, note: Note, seconds: float) -> None:
        output = self._mask(note.output)[-min(MAX_OUTPUT, self._room) :] if self._room else ""
        self._room -= len(output)
        if len(self.records) < _MAX_STEPS:
            self.records.append(
                {
                    "step": kind, "name": name, "where": where, "ok": note.ok,
                    "seconds": round(seconds, 3), "output": output,
                }
            )  # fmt: skip
        said = "ok" if note.ok else "failed"
        self._tell(" ".join(filter(None, ("agent: customise", f"step={kind}", name and f"name={name}",
                   where and f"where={where.replace(' ', '-')}", f"result={said}",
                   f"seconds={seconds:.1f}"))))  # fmt: skip


def _failed(kind: str, name: str, where: str, error: OSError) -> str:
    what = " ".join(filter(None, (kind, name, where and f"on {where}")))
    file = f" ({error.filename})" if error.filename else ""
    return f"The step {what} failed: {error.strerror or type(error).__name__}{file}. Check the image."
