"""Reading a disk to find what it cannot read, and how fast it is. Nothing is written."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from imaging.disk.device import Disk

_PIECE = 1 << 20
_QUICK = 64  # every so many pieces is read
_SLOW = 1.0  # seconds for a piece: a disk that tries again and again by itself
_MAX_BAD = 1000


@dataclass(slots=True)
class Surface:
    """What reading found; offsets and lengths in bytes, speeds in bytes a second."""

    bytes: int = 0
    seconds: float = 0.0
    bad: list[tuple[int, int]] = field(default_factory=list)
    slow: list[int] = field(default_factory=list)  # where a piece took longer than a second
    slowest: float = 0.0  # the longest a piece took
    ended: bool = True  # False: given up because of too many bad places

    def to_json(self) -> dict[str, Any]:
        """For the outcome; neighbouring bad places are one."""
        return {
            "bytes": self.bytes,
            "bytes_per_second": round(self.bytes / self.seconds) if self.seconds else 0,
            "bad": [list(each) for each in merged(self.bad)[:200]],
            "bad_bytes": sum(length for _, length in self.bad),
            "slow": self.slow[:200],
            "slowest_seconds": round(self.slowest, 3),
            "ended": self.ended,
        }


def merged(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending places without gaps between neighbours."""
    out: list[tuple[int, int]] = []
    for start, length in sorted(found):
        if out and out[-1][0] + out[-1][1] >= start:
            out[-1] = (out[-1][0], max(out[-1][0] + out[-1][1], start + length) - out[-1][0])
        else:
            out.append((start, length))
    return out


def scan(path: str, *, full: bool, progress: Callable[[int], None], check: Callable[[], None]) -> Surface:
    """Read a disk, past the page cache where it can be; ``progress`` gets bytes of the disk passed over.

    Raises DiskError when it cannot be opened, and what ``check`` raises.
    """
    found = Surface()
    step = _PIECE if full else _PIECE * _QUICK
    with Disk(path) as disk, disk.past_the_cache() as fd, mmap.mmap(-1, _PIECE) as buffer:
        least = max(disk.physical_sector_size, 512)
        for at in range(0, disk.size, step):
            check()
            length = min(_PIECE, disk.size - at)
            began = time.monotonic()
            _read(fd, memoryview(buffer), at, length, least, found.bad)
            took = time.monotonic() - began
            found.bytes += length
            found.seconds += took
            found.slowest = max(found.slowest, took)
            if took > _SLOW:
                found.slow.append(at)
            progress(min(step, disk.size - at))
            if len(found.bad) > _MAX_BAD:
                found.ended = False
                break
    return found


def _read(fd: int, buffer: memoryview, at: int, length: int, least: int, bad: list[tuple[int, int]]) -> None:
    """Read a stretch; where that fails, its halves, down to one block."""
    try:
        if os.preadv(fd, [buffer[:length]], at) == length:
            return
    except OSError:
        pass
    if length <= least or len(bad) > _MAX_BAD:
        bad.append((at, length))
        return
    half = (length // 2 + least - 1) // least * least
    _read(fd, buffer, at, half, least, bad)
    if half < length:
        _read(fd, buffer, at + half, length - half, least, bad)
