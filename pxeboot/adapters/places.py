"""On which of our interfaces the machine of a task is: a session leaves by one, and waits for those there."""

from __future__ import annotations

import socket
import time
from collections.abc import Collection
from math import inf
from typing import Final

MAX_KNOWN: Final = 20_000  # tasks, addresses
_ASK_SECONDS: Final = 30.0  # routes change seldom


class Places:
    """Thread-safe: each method does one thing to a dictionary."""

    def __init__(self, usual: str) -> None:
        """`usual`: our address on the interface that is named "" here."""
        self._usual = usual
        self._asked: dict[str, str] = {}
        self._routes: dict[str, tuple[float, str | None]] = {}

    def asked(self, task: str, address: str) -> None:
        """The machine of a task has talked to this address of ours ("": the usual one)."""
        if len(self._asked) >= MAX_KNOWN:
            self._asked.clear()
        self._asked[task] = address

    def of(self, task: str, host: str, others: Collection[str]) -> str | None:
        """Where the machine of a task is: "" or one of `others`, our further addresses; None: nobody knows.

        It is where it asked for its session; else (it has not booted yet, or we were restarted) where the
        kernel would send what goes to `host`, its last address.
        """
        known = self._asked.get(task)
        if known is not None and (not known or known in others):
            return known
        ours = self._route(host) if host else None
        if ours is None or ours in others:
            return ours
        return "" if ours == self._usual else None

    def _route(self, host: str) -> str | None:
        at, ours = self._routes.get(host, (-inf, None))
        if time.monotonic() - at > _ASK_SECONDS:
            if len(self._routes) >= MAX_KNOWN:
                self._routes.clear()
            ours = own_address(host)
            self._routes[host] = time.monotonic(), ours
        return ours


def own_address(host: str) -> str | None:
    """Our address on the way to `host`, by the kernel's routes; None when there is no way. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])
