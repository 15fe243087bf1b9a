"""Showing that a disk was wiped: places are read before and after, past the caches.

What reads as zeros afterwards held nothing back. Where the method promises no zeros (formatting, sanitizing),
a place that held data counts as wiped when something else is read there now.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from imaging.disk.device import Disk

SAMPLE = 4096
_COUNT = 2048
_EDGE = 64 << 10  # at both ends: partition tables, boot code, signatures
_PIECE = 4 << 20


@dataclass(slots=True)
class Proof:
    """What was read after the wipe; counts of samples (of whole pieces for ``full``)."""

    promise: str  # zeros | gone
    samples: int = 0
    zeros: int = 0
    unchanged: int = 0  # still hold what they held before, and that is not one byte repeated
    unreadable: int = 0

    @property
    def holds(self) -> bool:
        """Is the disk proved to be wiped?"""
        if not self.samples or self.unreadable:
            return False
        return self.zeros == self.samples if self.promise == "zeros" else not self.unchanged

    def sentence(self) -> str:
        """What failed, for people."""
        if self.unreadable:
            return f"{self.unreadable} of {self.samples} places could not be read again"
        wrong = self.samples - self.zeros if self.promise == "zeros" else self.unchanged
        what = "do not read as zeros" if self.promise == "zeros" else "still hold what they held before"
        return f"{wrong} of {self.samples} places {what}"

    def to_json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def places(size: int, count: int = _COUNT, seed: int = 0) -> list[int]:
    """Offsets of samples: both ends of the disk, and one at random in each of ``count`` equal parts."""
    last = (size - SAMPLE) // SAMPLE * SAMPLE
    if last < 0:
        return []
    rng = random.Random(seed)
    edge = range(0, min(_EDGE, last + 1), SAMPLE)
    found = {*edge, *(last - at for at in edge)}
    part = max(SAMPLE, size // count)
    for start in range(0, last + 1, part):
        found.add(min(last, rng.randrange(start, start + part) // SAMPLE * SAMPLE))
    return sorted(at for at in found if at >= 0)


def remember(disk: Disk, offsets: list[int]) -> dict[int, bytes]:
    """What samples hold now, as hashes; those of one byte repeated, or unreadable, are left out."""
    found = {}
    for at in offsets:
        try:
            data = os.pread(disk.fd, SAMPLE, at)
        except OSError:
            continue
        if data and data.count(data[0]) != len(data):
            found[at] = hashlib.blake2b(data, digest_size=16).digest()
    return found


def prove(disk: Disk, offsets: list[int], before: dict[int, bytes], *, zeros: bool) -> Proof:
    """Read the samples again; caches were dropped by then."""
    proof = Proof("zeros" if zeros else "gone")
    # Not through the cache: one bad block would take its neighbours along.
    with disk.past_the_cache() as fd, mmap.mmap(-1, SAMPLE) as buffer:
        for at in offsets:
            proof.samples += 1
            try:
                data = buffer[: os.preadv(fd, [buffer], at)]
            except OSError:
                proof.unreadable += 1
                continue
            if not data.strip(b"\0"):
                proof.zeros += 1
            elif before.get(at) == hashlib.blake2b(data, digest_size=16).digest():
                proof.unchanged += 1
    return proof


def prove_all(disk: Disk, progress: Callable[[int], None]) -> Proof:
    """Read the whole disk and look for zeros; ``progress`` gets bytes read since its last call."""
    proof = Proof("zeros")
    with mmap.mmap(-1, _PIECE) as buffer:
        for at in range(0, disk.size, _PIECE):
            length = min(_PIECE, disk.size - at)
            proof.samples += 1
            try:
                got = os.preadv(disk.fd, [memoryview(buffer)[:length]], at)
            except OSError:
                proof.unreadable += 1
                got = 0
            else:
                # Compared where it lies: a copy would cost as much as the reading.
                if got == length and buffer[:length] == _NOTHING[:length]:
                    proof.zeros += 1
            os.posix_fadvise(disk.fd, at, length, os.POSIX_FADV_DONTNEED)
            progress(length)
    return proof


_NOTHING = bytes(_PIECE)
