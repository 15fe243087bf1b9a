"""What is said of the image store, and of what two versions have in common."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from pxeboot.services.views import JobView, VersionView, View


class CareView(View):
    """Work over the whole store (scrub, recompress): what runs, and how the last one ended."""

    running: JobView | None = None
    at: datetime | None = None  # when the last one ended; null: never
    result: dict[str, Any] = Field(default_factory=dict)
    error: str = ""
    next_at: datetime | None = None  # when it is due; null: never


class StoreView(View):
    """The image store in numbers; sizes in bytes."""

    path: str
    versions: int  # manifests kept
    chunks: int
    stored: int
    damaged: int  # chunks that are known to be bad and missed
    free: int  # on its file system
    reserve: int  # of this, what captures never take
    scrub: CareView
    recompress: CareView


class UsageView(View):
    """What a version takes in the store, alone and together with others; bytes as stored."""

    own: int  # what deleting it and pruning would give back
    shared: int
    own_chunks: int
    shared_chunks: int


class VersionDetail(VersionView):
    """A version with what it takes and who holds it."""

    usage: UsageView | None = None  # null: the store cannot tell
    held_by: list[str] = Field(default_factory=list)


class PartitionDiff(View):
    """One partition in both versions."""

    disk: int
    number: int | None  # null: outside partitions
    name: str = ""
    filesystem: str = ""
    change: str  # same | changed | added | removed
    bytes: int = 0  # of its area that differ
    note: str = ""  # what else changed: size, file system


class DiffView(View):
    """What differs from version `a` to version `b`."""

    a: str
    b: str
    same: bool
    added_chunks: int  # in b and not in a: what a reset from a to b sends
    added_bytes: int  # plain
    added_stored: int
    removed_chunks: int
    removed_bytes: int
    removed_stored: int
    common_chunks: int
    partitions: list[PartitionDiff]
