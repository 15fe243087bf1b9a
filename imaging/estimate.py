"""How much a capture will add to a store, told from a few chunks before anything travels."""

from collections.abc import Callable, Sequence

from imaging.chunks import DEFAULT_LEVEL, compress, hash_chunk
from imaging.runs import Grid

#: At most this many chunks are looked at, and at most one in so many.
SAMPLES, EVERY = 64, 16
#: Said below what was found: only a capture that surely does not fit is refused early. The store itself
#: refuses the first chunk too many.
CAUTION = 0.9


def bytes_to_come(
    disks: Sequence[tuple[Callable[[int], tuple[bytearray | memoryview, int]], Grid]],
    missing: Callable[[Sequence[bytes]], Sequence[bool] | bytes],
    level: int = DEFAULT_LEVEL,
) -> int:
    """An estimate, on the low side, of the compressed bytes that the other side lacks.

    ``disks`` are pairs of a reader of chunks by ordinal (bytes, and how many of them are used) and the grid;
    ``missing`` as for a capture. Raises what these raise.
    """
    places = [(read, ordinal) for read, grid in disks for ordinal in range(0, len(grid), EVERY)]
    total = sum(len(grid) for _, grid in disks)
    if not places:
        return 0
    step = max(1, -(-len(places) // SAMPLES))
    found = size = 0
    for read, ordinal in places[::step]:
        data, _ = read(ordinal)
        found += 1
        if missing([hash_chunk(data)])[0]:
            size += len(compress(data, level))
    return int(CAUTION * size / found * total)
