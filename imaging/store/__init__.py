"""The chunk store: frames named by hash in pack files, an SQLite index, and signed manifests."""

from imaging.store.chunkstore import BadChunk, ChunkStore, Pruned, StoreTotals

__all__ = ["BadChunk", "ChunkStore", "Pruned", "StoreTotals"]
