"""What differs between two versions, partition by partition, from what the store says of chunks."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from imaging.store import Diff
from pxeboot.services.store_views import DiffView, PartitionDiff
from pxeboot.services.views import VersionView

Partitions = dict[tuple[int, int], dict[str, Any]]


def describe(a: VersionView, b: VersionView, diff: Diff) -> DiffView:
    """Regions summed up by partition; one that came or went is named even if nothing of it differs."""
    before, after = _partitions(a.summary), _partitions(b.summary)
    different: dict[tuple[int, int | None], int] = defaultdict(int)
    for region in diff.regions:
        different[region.disk, region.partition] += region.length
    keys = [*sorted(before.keys() | after.keys())]
    rows = [_partition(key, before.get(key), after.get(key), different.get(key, 0)) for key in keys]
    rows += [
        PartitionDiff(disk=disk, number=number, change="changed", bytes=count)
        for (disk, number), count in sorted(different.items(), key=lambda item: (item[0][0], item[0][1] or 0))
        if number is None or (disk, number) not in before.keys() | after.keys()
    ]
    return DiffView(
        a=a.name,
        b=b.name,
        same=a.manifest == b.manifest,
        added_chunks=diff.added,
        added_bytes=diff.added_plain,
        added_stored=diff.added_stored,
        removed_chunks=diff.removed,
        removed_bytes=diff.removed_plain,
        removed_stored=diff.removed_stored,
        common_chunks=diff.common,
        partitions=rows,
    )


def _partitions(summary: dict[str, Any]) -> Partitions:
    return {
        (place, int(partition["number"])): partition
        for place, disk in enumerate(summary.get("disks") or [])
        for partition in disk.get("partitions") or []
    }


def _partition(
    key: tuple[int, int], before: dict[str, Any] | None, after: dict[str, Any] | None, differing: int
) -> PartitionDiff:
    now = after or before or {}
    notes = []
    if before is None or after is None:
        change = "removed" if after is None else "added"
    else:
        for field in ("size", "filesystem", "name"):
            if before.get(field) != after.get(field):
                notes.append(f"{field}: {before.get(field)} → {after.get(field)}")
        change = "changed" if differing or notes else "same"
    return PartitionDiff(
        disk=key[0],
        number=key[1],
        name=str(now.get("name") or now.get("label") or ""),
        filesystem=str(now.get("filesystem") or ""),
        change=change,
        bytes=differing,
        note=", ".join(notes),
    )
