"""The chunk store: frames named by hash in pack files, an SQLite index, and signed manifests."""

from imaging.store.chunkstore import ChunkStore
from imaging.store.diff import Diff, Region
from imaging.store.values import (
    BadChunk,
    Finding,
    Pruned,
    Recompressed,
    ScrubReport,
    Statistics,
    StoreTotals,
    Usage,
)

__all__ = [
    "BadChunk",
    "ChunkStore",
    "Diff",
    "Finding",
    "Pruned",
    "Recompressed",
    "Region",
    "ScrubReport",
    "Statistics",
    "StoreTotals",
    "Usage",
]
