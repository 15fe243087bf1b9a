"""Who names which chunk: read from the manifests each time it matters, so that it can never be wrong.

There is no counter to drift, to repair or to keep in step with a crash; docs/decisions/0011 weighs that.
"""

from collections.abc import Iterable, Iterator, Sequence

from imaging.errors import ManifestMissing
from imaging.store.fresh import fresh
from imaging.store.index import Index
from imaging.store.manifests import ManifestFiles
from imaging.store.outline import names, outline
from imaging.store.values import Progress, Stop, Usage, never, no_progress

_SHARED = -1


def named(
    manifests: ManifestFiles, progress: Progress = no_progress, stop: Stop = never
) -> set[bytes] | None:
    """Every chunk that a manifest names; None when it was stopped.

    About 110 bytes of memory for each. Raises ManifestError when a manifest cannot be read.
    """
    live: set[bytes] = set()
    ids = by_age(manifests)
    neighbours = Neighbours()
    for done, id in enumerate(ids):
        if stop():
            return None
        try:
            live.update(neighbours.fresh(manifests.get(id)[0]))
        except ManifestMissing:
            continue  # deleted meanwhile
        progress(done + 1, len(ids))
    return live


def by_age(manifests: ManifestFiles) -> list[str]:
    """Identities, the oldest first: neighbours differ little."""
    return sorted(manifests.list(), key=lambda id: (manifests.written(id), id))


class Neighbours:
    """The last table of hashes seen for each size of disk, to look only at what differs from it."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, int], bytes] = {}

    def fresh(self, data: bytes) -> Iterator[bytes]:
        """The hashes of a stored manifest, at least all that none before it had. Raises ManifestError."""
        for number, disk in enumerate(outline(data)):
            yield from fresh(self._last.get((number, disk.size), b""), disk.hashes)
            self._last[number, disk.size] = disk.hashes


def usage(manifests: ManifestFiles, index: Index, ids: Sequence[str], stop: Stop = never) -> dict[str, Usage]:
    """What each of these versions takes alone and with others: one pass over all manifests.

    Raises ManifestMissing, ManifestError. Stopped: an empty answer.
    """
    owners: dict[bytes, int] = {}
    mine = [set(names(manifests.get(id)[0])) for id in ids]
    for number, hashes in enumerate(mine):
        for hash in hashes:
            owners[hash] = number if owners.setdefault(hash, number) == number else _SHARED
    asked = set(ids)
    neighbours = Neighbours()
    for id in by_age(manifests):
        if stop():
            return {}
        if id in asked:
            continue
        try:
            for hash in neighbours.fresh(manifests.get(id)[0]):
                if hash in owners:
                    owners[hash] = _SHARED
        except ManifestMissing:
            continue
    sizes = index.rows(list(owners))
    answer = {}
    for number, id in enumerate(ids):
        sums = [[0, 0, 0], [0, 0, 0]]
        for hash in mine[number]:
            if row := sizes.get(hash):
                sum = sums[owners[hash] == _SHARED]
                sum[0] += 1
                sum[1] += row.place.plain
                sum[2] += row.place.length
        answer[id] = Usage(*sums[0], *sums[1])
    return answer


def plain_size(manifests: ManifestFiles, ids: Iterable[str]) -> int:
    """Plain bytes of the chunks of all these versions, each counted as if it were alone."""
    total = 0
    for id in ids:
        try:
            total += sum(disk.plain for disk in outline(manifests.get(id)[0]))
        except ManifestMissing:
            continue
    return total
