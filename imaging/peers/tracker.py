"""The server's part, pure: who is in which swarm, whom each is told of, which chunk the server gives whom.

A swarm is what may exchange chunks: one operation, one manifest, one subnet. Everything here is rebuilt from
the next reports after a restart. The server gives each chunk about once: one that is on its way to, or held
by, a member that lives is left to that member's neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

NEIGHBOURS = 10  # more than ln N for any room, so that the mesh hangs together
SEEDS = 32  # members of a swarm that may fetch from the server at the same time
CONNECTIONS = 8  # of all members together, when there are few
ALIVE_SECONDS = 8.0  # a member that was not heard for so long is gone
HOLD_SECONDS = 15.0  # a chunk given to a living member is not given again for so long
FORGET_SECONDS = 120.0

Address = tuple[str, int]


@dataclass
class Member:
    """A host in a swarm: ``way`` is how it gets its chunks, ``port`` 0 when it serves none."""

    id: str
    address: Address
    have: int
    complete: bool
    way: str
    heard: float


@dataclass(frozen=True)
class Advice:
    """What a member is told: ``others`` is how many more are there."""

    neighbours: tuple[Address, ...]
    connections: int
    others: int


@dataclass
class _Swarm:
    members: dict[str, Member] = field(default_factory=dict)
    given: dict[bytes, tuple[str, float]] = field(default_factory=dict)
    accused: dict[Address, set[str]] = field(default_factory=dict)


class Tracker:
    """All swarms. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._swarms: dict[Hashable, _Swarm] = {}
        self._where: dict[str, Hashable] = {}

    def hello(
        self, key: Hashable, id: str, address: Address, *, have: int, complete: bool, way: str, now: float
    ) -> Advice:
        """A member reports; it may have moved to another swarm."""
        self._tidy(now)
        if self._where.get(id, key) != key:
            self.leave(id)
        self._where[id] = key
        swarm = self._swarms.setdefault(key, _Swarm())
        before = swarm.members.get(id)
        if before is None or now - before.heard >= ALIVE_SECONDS:
            swarm.accused.pop(address, None)  # it was away, and is back: a restarted machine starts anew
        swarm.members[id] = Member(id, address, have, complete, way, now)
        alive = [m for m in swarm.members.values() if now - m.heard < ALIVE_SECONDS and m.id != id]
        # Each sees another ten of a large room, the same ones from report to report.
        near = sorted((m for m in alive if m.address[1]), key=lambda m: _distance(id, m.id))
        # One that several others found to lie or to be dead is not passed on.
        near = [m for m in near if len(swarm.accused.get(m.address, ())) < 2]
        neighbours = tuple(m.address for m in near[:NEIGHBOURS])
        hungry = [m for m in alive if not m.complete and m.way != "multicast"]
        ahead = sum(1 for m in hungry if _distance("", m.id) < _distance("", id))
        connections = 0 if ahead >= SEEDS else max(1, min(4, CONNECTIONS // (len(hungry) + 1)))
        return Advice(neighbours, connections, len(alive))

    def accuse(self, id: str, address: Address) -> None:
        """A member does not ask this neighbour any more."""
        swarm = self._swarm_of(id)
        if swarm is not None:
            swarm.accused.setdefault(address, set()).add(id)

    def grant(self, id: str, candidates: Sequence[bytes], now: float) -> int | None:
        """Which of these chunks the server gives this member now: the place in ``candidates``, or None when
        all of them are with others. A member that asks again for its own did not get it."""
        swarm = self._swarm_of(id)
        if swarm is None:
            return 0 if candidates else None
        for place, hash in enumerate(candidates):
            to, when = swarm.given.get(hash, ("", 0.0))
            member = swarm.members.get(to)
            held = member is not None and now - member.heard < ALIVE_SECONDS and now - when < HOLD_SECONDS
            if to == id or not held:
                swarm.given[hash] = (id, now)
                return place
        return None

    def note(self, id: str, hash: bytes, now: float) -> None:
        """The server gives this chunk anyway: over plain HTTP."""
        swarm = self._swarm_of(id)
        if swarm is not None:
            swarm.given[hash] = (id, now)

    def needed(self, id: str, now: float) -> bool:
        """Whether others in this member's swarm lack chunks and do not get them by multicast."""
        swarm = self._swarm_of(id)
        return swarm is not None and any(
            m.id != id and not m.complete and m.way != "multicast" and now - m.heard < ALIVE_SECONDS
            for m in swarm.members.values()
        )

    def leave(self, id: str) -> None:
        """This member is gone."""
        swarm = self._swarm_of(id)
        self._where.pop(id, None)
        if swarm is not None:
            swarm.members.pop(id, None)

    def _swarm_of(self, id: str) -> _Swarm | None:
        key = self._where.get(id)
        return self._swarms.get(key) if key is not None else None

    def _tidy(self, now: float) -> None:
        for key, swarm in list(self._swarms.items()):
            for member in [m for m in swarm.members.values() if now - m.heard > FORGET_SECONDS]:
                del swarm.members[member.id]
                self._where.pop(member.id, None)
            if not swarm.members:
                del self._swarms[key]


def _distance(a: str, b: str) -> bytes:
    return hashlib.blake2b(f"{a}|{b}".encode(), digest_size=8).digest()
