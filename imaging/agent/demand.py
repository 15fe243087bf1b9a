"""Which chunks this disk still needs: one byte of state per chunk, shared by scanner, receivers and fetchers.

A chunk is worked on by whoever claimed it, so that no two threads write the same place and the scanner never
reads a chunk that is being written.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from typing import Protocol

UNKNOWN, SCANNING, WANTED, BUSY, DONE = range(5)


class Follower(Protocol):
    """Told, outside the lock, what has become wanted and what is on the disk: multicast receiver, peers."""

    def on_wanted(self, indexes: list[int]) -> None: ...

    def on_done(self, index: int) -> None: ...


class Demand:
    """States of ``count`` chunks; every method is safe from any thread.

    UNKNOWN → SCANNING → DONE | WANTED; UNKNOWN | WANTED → BUSY → DONE | WANTED.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.skipped = 0
        self._followers: list[Follower] = []
        self.changed = threading.Condition()
        self._states = bytearray(count)
        self._number = [count, 0, 0, 0, 0]
        self._urgent: set[int] = set()
        # Every machine of a room starts its HTTP requests somewhere else, so that the server's cache is of
        # use to the others, and no part of the image is asked for by all at once.
        self._cursor = random.randrange(count) if count else 0

    def follow(self, follower: Follower) -> None:
        """Tell ``follower`` from now on."""
        self._followers = [*self._followers, follower]

    def unfollow(self, follower: Follower) -> None:
        """Tell it no more; once more it may still be told."""
        self._followers = [other for other in self._followers if other is not follower]

    def _set(self, index: int, state: int) -> None:
        self._number[self._states[index]] -= 1
        self._states[index] = state
        self._number[state] += 1

    def want_all(self) -> list[int]:
        """Everything that is still unknown is wanted (no scan, or the rest of one); returns those indexes."""
        with self.changed:
            indexes = [index for index, state in enumerate(self._states) if state == UNKNOWN]
            for index in indexes:
                self._set(index, WANTED)
            self.changed.notify_all()
        for follower in self._followers:
            follower.on_wanted(indexes)
        return indexes

    def only(self, indexes: Iterable[int]) -> None:
        """Everything but these is taken to be on the disk."""
        wanted = set(indexes)
        with self.changed:
            for index in range(self.count):
                self._set(index, WANTED if index in wanted else DONE)

    def skip(self, indexes: Iterable[int]) -> None:
        """These are not for this machine: they count as being there."""
        with self.changed:
            for index in indexes:
                if self._states[index] == UNKNOWN:
                    self._set(index, DONE)
                    self.skipped += 1

    def start_scan(self, index: int) -> bool:
        """Claim a chunk for reading it from the disk; False when its state is known or being made."""
        with self.changed:
            if self._states[index] != UNKNOWN:
                return False
            self._set(index, SCANNING)
            return True

    def end_scan(self, index: int, good: bool) -> None:
        """The disk already holds this chunk, or it is wanted."""
        self._settle(index, good)

    def claim(self, index: int) -> bool:
        """Claim a chunk whose frame has arrived; False when nobody needs it (any more)."""
        with self.changed:
            if self._states[index] not in (UNKNOWN, WANTED):
                return False
            self._set(index, BUSY)
            return True

    def claim_next(self) -> int | None:
        """Claim the next wanted chunk in disk order, wrapping round; ``None`` when none is wanted now."""
        with self.changed:
            index = self._states.find(WANTED, self._cursor)
            if index < 0:
                index = self._states.find(WANTED)
            if index < 0:
                return None
            self._cursor = index + 1
            self._set(index, BUSY)
            return index

    def finish(self, index: int, good: bool) -> None:
        """A claimed chunk is on the disk (``good``), or is wanted again."""
        self._settle(index, good)

    def _settle(self, index: int, good: bool) -> None:
        with self.changed:
            self._set(index, DONE if good else WANTED)
            if good:
                self._urgent.discard(index)
            # A chunk more on the disk is nothing that anybody waits for, until it is the last one: waking
            # all fetchers for each made a scan half as dear again.
            if not good or self.complete:
                self.changed.notify_all()
        for follower in self._followers:
            if good:
                follower.on_done(index)
            else:
                follower.on_wanted([index])

    def urge(self, index: int) -> None:
        """This chunk will not come by multicast."""
        with self.changed:
            if self._states[index] != DONE:
                self._urgent.add(index)
                self.changed.notify_all()

    def claim_urgent(self) -> int | None:
        """Claim a chunk that only HTTP can bring; ``None`` when there is none."""
        with self.changed:
            for index in self._urgent:
                if self._states[index] in (UNKNOWN, WANTED):
                    self._set(index, BUSY)
                    return index
            return None

    def open_indexes(self) -> tuple[list[int], list[int]]:
        """(unknown, wanted) indexes: what a multicast session that is joined now should take and ask for."""
        with self.changed:
            states = bytes(self._states)
        return (
            [index for index, state in enumerate(states) if state == UNKNOWN],
            [index for index, state in enumerate(states) if state == WANTED],
        )

    def is_wanted(self, index: int) -> bool:
        """Whether this chunk is wanted and nobody works on it."""
        return self._states[index] == WANTED

    @property
    def wanted(self) -> int:
        """How many chunks are known to be wanted and nobody works on."""
        return self._number[WANTED]

    @property
    def done(self) -> int:
        """How many chunks the disk holds."""
        return self._number[DONE]

    @property
    def complete(self) -> bool:
        """Does the disk hold all?"""
        return self._number[DONE] == self.count

    def wake(self) -> None:
        """End every :meth:`wait`: what may be done with chunks has changed."""
        with self.changed:
            self.changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until something becomes wanted or all is there, at most ``seconds``."""
        with self.changed:
            self.changed.wait(seconds)
