"""A process that captures, deletes, prunes and recompresses until it is killed, and says what it promised.

``+ID`` after a version was kept, ``-ID`` before one is deleted.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from imaging.chunks import compress
from imaging.manifest import Manifest
from imaging.store import ChunkStore
from tests.imaging.store.conformance import SIGNATURE, manifest_of
from tests.imaging.store.samples import text_chunk


def say(text: str) -> None:
    print(text, flush=True)


def main(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    made = [text_chunk(number, 3000) for number in range(40)]
    # pack_size: a handful of chunks, so that a prune rewrites and deletes packs all the time.
    with ChunkStore(path, reserve=0, pack_size=12 << 10) as store:
        say("ready")
        while True:
            chosen = chance.sample(made, chance.randrange(2, 12))
            hashes = [hash for hash, _ in chosen]
            for (hash, frame), lacks in zip(chosen, store.missing(hashes, "capture"), strict=True):
                if lacks:
                    store.add_frame(hash, frame, "capture")
                if chance.random() < 0.2:
                    store.commit()
            id = store.put_manifest(manifest_of(*hashes).to_bytes(), SIGNATURE, "capture")
            assert Manifest.from_bytes(store.manifest(id)[0]).id == id
            say(f"+{id}")
            kept = store.manifests()
            if len(kept) > 3:
                gone = chance.choice(kept)
                say(f"-{gone}")
                store.delete_manifest(gone)
                store.prune(grace=0)
            if chance.random() < 0.5:
                store.recompress(chance.randrange(2, 12))


if __name__ == "__main__":
    assert compress(b"x")  # what is imported late would blur the moments
    main(Path(sys.argv[1]), int(sys.argv[2]))
