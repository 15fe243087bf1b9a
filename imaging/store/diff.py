"""What differs between two versions: chunks that came and went, and where on which disk."""

from typing import NamedTuple

from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest
from imaging.store.index import Index


class Region(NamedTuple):
    """Neighbouring chunks of a disk with the same fate: ``kind`` is ``added``, ``removed`` or ``changed``.

    ``offset`` and ``length`` are bytes on the disk; ``partition`` is the number of the partition in which
    the region begins (of the newer version where it has one there), None outside partitions.
    """

    disk: int
    offset: int
    length: int
    kind: str
    partition: int | None


class Diff(NamedTuple):
    """From version ``a`` to ``b``. Chunks count once each; ``*_plain`` and ``*_stored`` are bytes.

    ``added``: in b and not in a (what a reset from a to b sends); ``removed``: the other way; ``common``: in
    both, wherever they lie. Stored bytes of chunks that the store lacks count as 0.
    """

    added: int
    added_plain: int
    added_stored: int
    removed: int
    removed_plain: int
    removed_stored: int
    common: int
    regions: tuple[Region, ...]


def diff(a: Manifest, b: Manifest, index: Index) -> Diff:
    """Compare two versions. Raises StoreError."""
    old, new = set(a.hashes), set(b.hashes)
    added, removed = new - old, old - new
    rows = index.rows([*added, *removed])
    sizes = []
    for hashes in (added, removed):
        places = [rows[hash].place for hash in hashes if hash in rows]
        sizes.append((sum(place.plain for place in places), sum(place.length for place in places)))
    return Diff(len(added), *sizes[0], len(removed), *sizes[1], len(old & new), tuple(regions(a, b)))


def regions(a: Manifest, b: Manifest) -> list[Region]:
    """Where two versions differ, disk by disk (paired by their place in the list), ascending."""
    found: list[Region] = []
    for disk in range(max(len(a.disks), len(b.disks))):
        before = a.disks[disk] if disk < len(a.disks) else None
        after = b.disks[disk] if disk < len(b.disks) else None
        old, new = _by_place(before), _by_place(after)
        sizes = [image.size for image in (before, after) if image]
        for offset in sorted(old.keys() | new.keys()):
            was, will = old.get(offset), new.get(offset)
            if was == will:
                continue
            kind = "added" if was is None else "removed" if will is None else "changed"
            length = min(CHUNK_SIZE, max(sizes) - offset)
            partition = _partition(after, offset, length)
            if partition is None:
                partition = _partition(before, offset, length)
            last = found[-1] if found else None
            if (
                last
                and (last.disk, last.kind, last.partition) == (disk, kind, partition)
                and last.offset + last.length == offset
            ):
                found[-1] = last._replace(length=last.length + length)
            else:
                found.append(Region(disk, offset, length, kind, partition))
    return found


def _by_place(disk: DiskImage | None) -> dict[int, bytes]:
    if disk is None:
        return {}
    hashes = disk.hashes
    return {disk.grid[n][0]: hashes[32 * n : 32 * n + 32] for n in range(len(disk.grid))}


def _partition(disk: DiskImage | None, offset: int, length: int) -> int | None:
    for p in disk.partitions if disk else ():
        if p.start < offset + length and offset < p.start + p.size:
            return p.number
    return None
