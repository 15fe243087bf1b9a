"""Which hashes of a version its neighbour does not have, found by skipping what is the same byte for byte.

Versions of an image differ in a few percent. Comparing tables with memcmp and looking only at what differs is
several times faster than putting every hash into a set, and it can only err by naming too many.
"""

from collections.abc import Iterator

from imaging.manifest import HASH_SIZE

#: How far chunks may have shifted by others that came or went, in bytes of table; beyond that all are named.
_WINDOW = 256 * HASH_SIZE
_LONGEST = 2048 * HASH_SIZE


def fresh(old: bytes, new: bytes) -> Iterator[bytes]:
    """The hashes of the table ``new``, without stretches that are also in the table ``old``, in order.

    Every hash that ``old`` lacks is among them; some that it has may be, too.
    """
    i = j = 0
    while True:
        i, j = _skip(old, j, new, i)
        if i >= len(new):
            return
        yield new[i : i + HASH_SIZE]
        i += HASH_SIZE
        j += HASH_SIZE
        ahead = new[i : i + HASH_SIZE]
        if old[j : j + HASH_SIZE] != ahead:
            # Some came or went: go on where the next one lies in the old table, if that is near.
            at = old.find(ahead, max(0, j - _WINDOW), j + _WINDOW) if ahead else -1
            if at >= 0 and at % HASH_SIZE == 0:
                j = at


def _skip(old: bytes, j: int, new: bytes, i: int) -> tuple[int, int]:
    """Both places moved behind what is the same from there on."""
    step = HASH_SIZE
    while i < len(new) and old[j : j + step] == new[i : i + step]:
        i, j, step = i + step, j + step, min(2 * step, _LONGEST)
    while step > HASH_SIZE and i < len(new):
        step //= 2
        if old[j : j + step] == new[i : i + step]:
            i, j = i + step, j + step
    return min(i, len(new)), j
