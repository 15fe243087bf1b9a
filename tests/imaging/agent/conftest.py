"""A room (server with store), a console that a test can type on, and a way to run the agent as `main`
does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imaging.agent import i18n
from imaging.agent.console import Console, standard_console
from imaging.agent.main import Options, run
from tests.imaging.agent.room import Room


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path / "store")
    yield room
    room.close()


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    yield
    i18n.use("en")


class Typist:
    """A console on two pipes: `types` is what a person enters beforehand, `screen` what was printed."""

    def __init__(self, types: str = "", hang_up: bool = True) -> None:
        self._in, typing = os.pipe()
        self._screen, self._out = os.pipe()
        os.set_blocking(self._screen, False)
        os.write(typing, types.encode())
        self._typing = typing
        if hang_up:
            os.close(typing)
        self.console: Console = standard_console(None, self._in, self._out)
        self._text = ""

    @property
    def screen(self) -> str:
        try:
            while data := os.read(self._screen, 65536):
                self._text += data.decode()
        except BlockingIOError:
            pass
        return self._text


RunAgent = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run_agent(room: Room, tmp_path: Path) -> RunAgent:
    """Run one boot of a simulated host: (exit status, then, everything printed)."""

    def run_it(
        *, disk: Path | str | None = None, cmdline: str | None = None, types: str = "", patience: float = 20.0
    ) -> tuple[int, str, str]:
        path = disk or tmp_path / "disk.img"
        if "," not in str(path) and not Path(path).exists():
            with open(path, "wb") as file:
                file.truncate(16 << 20)
        typist = Typist(types)
        status, then = run(
            Options(cmdline or room.cmdline(), str(path), True, None, None, patience), typist.console
        )
        return status, then, typist.screen

    return run_it
