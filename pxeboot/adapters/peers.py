"""Who may exchange chunks with whom: the tracker of `imaging.peers` with our settings and our tasks.

In memory only: after a restart of the daemon the next reports make it anew, and the secrets are the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from imaging.peers.tracker import Tracker
from pxeboot.adapters.multicast import SessionManager
from pxeboot.adapters.store import StoreGateway
from pxeboot.db.models import ImageVersion, Operation
from pxeboot.services import tasks
from pxeboot.services.task_states import WORKING
from pxeboot.settings import Settings

MAX_KNOWN = 20_000  # tasks whose swarm we remember


class Left(BaseModel):
    """A neighbour that a host does not ask any more."""

    address: str = Field(max_length=40)
    port: int = Field(ge=0, le=65535)
    reason: str = Field(default="", max_length=300)


class Hello(BaseModel):
    """How a host says that it takes part."""

    model_config = ConfigDict(extra="ignore")
    port: int = Field(ge=0, le=65535)
    prefix: int = Field(default=32, ge=0, le=32)
    have: int = Field(default=0, ge=0)
    complete: bool = False
    way: str = Field(default="", max_length=20)
    left: list[Left] = Field(default_factory=list, max_length=200)


class Swarm(NamedTuple):
    """What a task is part of."""

    operation: str
    manifest: str
    transport: str


class PeerTable:
    """One per daemon; every method may be called from any thread."""

    def __init__(
        self, settings: Callable[[], Settings], store: StoreGateway, sessions: SessionManager
    ) -> None:
        self._settings, self._store, self._sessions = settings, store, sessions
        self._tracker = Tracker()
        self._lock = threading.Lock()
        self._known: dict[str, Swarm] = {}

    def order(self, session: Session, task_id: str) -> dict[str, Any] | None:
        """`peers` of TASK (docs/ARCHITECTURE.md §4); None: it fetches from us alone."""
        rules = self._settings().peers
        swarm = self._swarm(session, task_id)
        if not rules.enabled or swarm is None or swarm.transport == "http":
            return None
        return {
            "secret": self._store.derived(f"peers {swarm.operation} {swarm.manifest}"),
            "port": rules.port,
            "across": rules.across_subnets,
            "linger": rules.linger_seconds,
            "rate": rules.rate_mbit,
        }

    def hello(self, session: Session, task_id: str, address: str, said: Hello) -> dict[str, Any]:
        """Take a host's report; whom it may ask, how much it may ask us, whether others need it. Its subnet
        is the prefix it tells, around the address it speaks from."""
        rules = self._settings().peers
        swarm = self._swarm(session, task_id)
        working = tasks.row(session, task_id).state in WORKING
        network = _network(address, said.prefix)
        if not rules.enabled or swarm is None or swarm.transport == "http" or network is None:
            return {"neighbours": [], "connections": 0, "others": 0, "needed": False, "sent": None}
        if rules.across_subnets:
            network = ""
        now = time.monotonic()
        with self._lock:
            advice = self._tracker.hello(
                (swarm.operation, swarm.manifest, network),
                task_id,
                (address, said.port),
                have=said.have,
                complete=said.complete or not working,
                way=said.way,
                now=now,
            )
            for left in said.left:
                self._tracker.accuse(task_id, (left.address, left.port))
            needed = self._tracker.needed(task_id, now)
        return {
            "neighbours": list(advice.neighbours),
            "connections": advice.connections,
            "others": advice.others,
            "needed": needed,
            "sent": self._sessions.sent(swarm.operation, swarm.manifest),
        }

    def grant(self, task_id: str, hashes: Sequence[bytes]) -> int | None:
        """Which of these chunks a host gets from us now; None: its neighbours have them or are about to."""
        with self._lock:
            return self._tracker.grant(task_id, hashes, time.monotonic())

    def note(self, task_id: str, hash: bytes) -> None:
        """A host fetches this chunk from us, whatever its neighbours have."""
        with self._lock:
            self._tracker.note(task_id, hash, time.monotonic())

    def _swarm(self, session: Session, task_id: str) -> Swarm | None:
        found = self._known.get(task_id)
        if found is None:
            task = tasks.row(session, task_id)
            operation = session.get(Operation, task.operation_id)
            version = session.get(ImageVersion, task.version_id) if task.version_id else None
            if operation is None or version is None:
                return None
            found = Swarm(operation.id, version.manifest, operation.transport)
            with self._lock:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[task_id] = found
        return found


def _network(address: str, prefix: int) -> str | None:
    """The subnet around an address; None when there is none (the request came by the Unix socket)."""
    try:
        return str(IPv4Interface(f"{address}/{prefix}").network)
    except ValueError:
        return None
