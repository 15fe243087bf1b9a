"""The scan: which chunks of the image does this disk hold already?

It runs while chunks arrive, and leaves alone what is being written. A disk that holds nothing of the image
(blank, or foreign) is found out by a sample, so that a first deploy does not read the disk for nothing.
"""

from __future__ import annotations

import threading

from imaging.agent.restore import Restore
from imaging.chunks import hash_chunk

_SAMPLE = 64  # of a disk with 1 % of changes, none of 64 chunks matches once in 10^128 scans


class Scan:
    """Scanner threads over all chunks in disk order."""

    def __init__(self, restore: Restore, threads: int = 2) -> None:
        self.scanned = 0
        self._restore = restore
        self._next = 0
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, name=f"scan-{number}", daemon=True)
            for number in range(threads)
        ]

    def start(self) -> None:
        """Begin; returns at once."""
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        """Is there anything left to read?"""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, seconds: float) -> None:
        """Wait for the threads after a stop."""
        for thread in self._threads:
            thread.join(seconds)

    def _run(self) -> None:
        restore = self._restore
        demand, progress = restore.demand, restore.progress
        try:
            while not progress.stopping:
                with self._lock:
                    index = self._next
                    self._next += 1
                if index >= demand.count:
                    return
                if demand.start_scan(index):
                    good = restore.matches(index)
                    demand.end_scan(index, good)
                    if good:
                        progress.add(kept=1)
                self.scanned = max(self.scanned, index + 1)
        except Exception as error:
            progress.fail(error)
        finally:
            demand.wake()


def nothing_in_common(restore: Restore) -> bool:
    """Is this disk so foreign to the image that a scan is a waste? By a sample; zeros prove nothing."""
    unknown, _ = restore.demand.open_indexes()
    if len(unknown) <= _SAMPLE:
        return False
    for number in range(_SAMPLE):
        index = unknown[number * len(unknown) // _SAMPLE]
        chunk = restore.chunks[index]
        if chunk.hash != _hash_of_zeros(chunk.length) and restore.matches(index):
            return False
        restore.progress.check()
    return True


_zeros: dict[int, bytes] = {}


def _hash_of_zeros(length: int) -> bytes:
    if length not in _zeros:
        _zeros[length] = hash_chunk(bytes(length))
    return _zeros[length]
