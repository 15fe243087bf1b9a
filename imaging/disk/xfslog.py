"""Whether the log of an XFS holds changes that are not in the file system yet.

After a clean unmount the last record of the log is an *unmount record* and nothing follows it (XFS Algorithms
& Data Structures, "Journaling Log"; the kernel asks the same question in xlog_check_unmount_rec). Every
512-byte block of the log starts with the number of the round in which it was written, except record headers,
where it stands second: the head of the log is where that number drops.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from imaging.disk.gpt import ReadAt

CycleOf = Callable[[int], int]
_BLOCK = 512
_MAGIC = 0xFEEDBABE
_UNMOUNT = 0x20  # XLOG_UNMOUNT_TRANS
_CYCLE_BYTES = 32 << 10  # of a record that one header block can describe
_FARTHEST = 1024  # blocks from a record's header to its end: 256 KiB and its headers, with room


def is_clean(read_at: ReadAt, start: int, size: int) -> bool:
    """Whether the log of ``size`` bytes at ``start`` ends in an unmount record. In doubt it does not.

    Raises DiskError.
    """
    blocks = size // _BLOCK
    if blocks < 2:
        return False

    def block(number: int) -> bytes:
        return read_at(start + number % blocks * _BLOCK, _BLOCK)

    def cycle(number: int) -> int:
        data = block(number)
        first, second = struct.unpack_from(">II", data)
        return int(second if first == _MAGIC else first)

    head = _head(cycle, blocks)
    for distance in range(1, min(_FARTHEST, blocks) + 1):
        at = (head - distance) % blocks
        data = block(at)
        if struct.unpack_from(">I", data)[0] == _MAGIC:
            return _is_unmount(data, block(at + _header_blocks(data)), distance)
    return False


def _head(cycle: CycleOf, blocks: int) -> int:
    """The first block that the current round has not reached; ``blocks`` when it has reached all."""
    first = cycle(0)
    if cycle(blocks - 1) == first:
        return blocks
    low, high = 0, blocks - 1  # cycle(low) is the first's, cycle(high) is not
    while high - low > 1:
        middle = (low + high) // 2
        if cycle(middle) == first:
            low = middle
        else:
            high = middle
    return high


def _header_blocks(header: bytes) -> int:
    version, size = struct.unpack_from(">I", header, 8)[0], struct.unpack_from(">I", header, 320)[0]
    return -(-int(size) // _CYCLE_BYTES) if version & 2 and size > _CYCLE_BYTES else 1


def _is_unmount(header: bytes, body: bytes, distance: int) -> bool:
    length, operations = struct.unpack_from(">I", header, 12)[0], struct.unpack_from(">I", header, 40)[0]
    whole = _header_blocks(header) + -(-int(length) // _BLOCK) == distance
    return whole and operations == 1 and bool(body[9] & _UNMOUNT)
