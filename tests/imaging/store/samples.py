"""Chunks and versions for tests of the store: text that compresses better the harder one tries."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imaging.chunks import compress, hash_chunk
from imaging.manifest import CHUNK_SIZE
from imaging.store import ChunkStore
from tests.imaging.store.conformance import SIGNATURE, manifest_of

WORDS = [bytes(random.Random(n).choices(b"abcdefghijklmnop", k=4 + n % 9)) for n in range(120)]


def text_chunk(seed: int, size: int = 30_000) -> tuple[bytes, bytes]:
    """(hash, frame) of a full chunk that begins with ``size`` bytes like those of a log file."""
    chance = random.Random(seed)
    text = b""
    while len(text) < size:
        text += b"%s %d: user%d /srv/%s/%s\n" % (
            chance.choice(WORDS),
            chance.randrange(9999),
            chance.randrange(40),
            chance.choice(WORDS),
            chance.choice(WORDS),
        )
    data = text[:size].ljust(CHUNK_SIZE, b"\0")
    return hash_chunk(data), compress(data, 1)


def add_version(store: ChunkStore, seeds: range | list[int], holder: str = "") -> tuple[str, list[bytes]]:
    """A version of these text chunks: (identity, hashes)."""
    hashes = []
    for seed in seeds:
        hash, frame = text_chunk(seed)
        store.add_frame(hash, frame, holder)
        hashes.append(hash)
    return store.put_manifest(manifest_of(*hashes).to_bytes(), SIGNATURE, holder), hashes


@contextmanager
def opened(path: Path) -> Iterator[ChunkStore]:
    """A store of small packs."""
    with ChunkStore(path, reserve=0, pack_size=64 << 10) as store:
        yield store


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
