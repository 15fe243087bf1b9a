"""`store_scale`: what the store's work costs at 10, 100 and 1,000 versions of a 50 GB-class image.

The code is the real one: packs, index, manifests, holds, prune. Synthetic are the frames (40 bytes of noise,
so that the 48,000 chunks of a version are not 17 GB) and with them the size of packs: each still holds 3,000
chunks. Each version changes 2 % of the chunks, half of them neighbours. The figure is the processor time of a
prune for each version kept, at the last scale over that at the second: 1 means that cost grows with the
number of versions and no faster; the note has the rest. Processor time, for other work is not ours.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from blake3 import blake3

from imaging.chunks import compress, hash_chunk
from imaging.manifest import DiskImage, Manifest, Runs
from imaging.store import ChunkStore
from tests.bench.harness import Entry, Measurement

CHUNKS, CHANGED, FRAME, PACK_CHUNKS = 48_000, 0.02, 40, 3_000
SCALES = (10, 100, 1000)
#: As many runs as a used NTFS or ext4 of that size typically has: one for each chunk.
RUN = 512 << 10
SIGNATURE = bytes(64)


class Synthetic:
    """Makes versions quickly: the header and the runs stay, the table of hashes changes in place."""

    def __init__(self, path: Path, chunks: int) -> None:
        self.path, self.chunks = path, chunks
        self.chance = random.Random(6)
        self.made = 0
        self.hashes = [self._name() for _ in range(chunks)]
        size = chunks << 20
        runs = Runs((n << 20, RUN) for n in range(chunks))
        self.head = Manifest([DiskImage(size, 512, None, (), runs, b"".join(self.hashes))]).to_bytes()
        self.head = self.head[: -32 * chunks]
        self.versions: list[str] = []

    def open(self) -> ChunkStore:
        return ChunkStore(self.path, reserve=0, pack_size=PACK_CHUNKS * (FRAME + 56))

    def _name(self) -> bytes:
        self.made += 1
        return blake3(self.made.to_bytes(8, "big")).digest()

    def change(self) -> list[bytes]:
        """The next version differs from the last in these chunks: one stretch, and as many scattered ones."""
        count = max(2, int(self.chunks * CHANGED))
        start = self.chance.randrange(self.chunks - count // 2)
        places = {*range(start, start + count // 2), *self.chance.sample(range(self.chunks), count // 2)}
        for place in places:
            self.hashes[place] = self._name()
        return [self.hashes[place] for place in places]

    def bytes(self) -> bytes:
        return self.head + b"".join(self.hashes)

    def grow(self, store: ChunkStore, versions: int) -> None:
        """Add versions past the checks of frames (their content is noise): all else is as in a capture."""
        while len(self.versions) < versions:
            fresh = self.change() if self.versions else list(self.hashes)
            for hash in fresh:
                store._parts.intake.add(hash, os.urandom(FRAME), 1 << 20)
            store.commit()
            data = self.bytes()
            id = blake3(data).hexdigest()
            (self.path / "manifests" / f"{id}.sig").write_bytes(SIGNATURE)
            (self.path / "manifests" / f"{id}.manifest").write_bytes(data)
            self.versions.append(id)


def seconds(work: Callable[[], object], rounds: int = 1) -> float:
    """Processor time, the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def add_version(made: Synthetic, store: ChunkStore) -> float:
    """What a capture asks of the store: missing() in the agent's portions, the chunks, the manifest."""
    fresh = set(made.change())
    real = {}
    for number, place in enumerate(place for place, hash in enumerate(made.hashes) if hash in fresh):
        data = number.to_bytes(4, "big") + made.made.to_bytes(8, "big")
        data = data.ljust(1 << 20, b"\0")
        made.hashes[place] = hash_chunk(data)
        real[made.hashes[place]] = compress(data)
    data = made.bytes()
    began = time.process_time()
    for at in range(0, len(made.hashes), 8192):
        store.missing(made.hashes[at : at + 8192], "capture")
    for hash, frame in real.items():
        store.add_frame(hash, frame, "capture")
    made.versions.append(store.put_manifest(data, SIGNATURE, "capture"))
    return time.process_time() - began


def measure_scale(measurement: Measurement) -> None:
    """Grow one store from scale to scale and measure at each."""
    made = Synthetic(measurement.scratch / "store", max(480, int(CHUNKS * measurement.scale)))
    per_version: list[float] = []
    with closing(made.open()):
        pass
    for versions in SCALES:
        with closing(made.open()) as store:
            made.grow(store, versions)
        found = {"open": seconds(lambda: made.open().close(), 3)}
        with closing(made.open()) as store:
            data = store.manifest(made.versions[-1])[0]
            found["parse"] = seconds(lambda data=data: Manifest.from_bytes(data), 3)  # type: ignore[misc]
            disks = Manifest.from_bytes(data).disks
            found["write"] = seconds(lambda disks=disks: Manifest(disks).to_bytes(), 3)  # type: ignore[misc]
            found["fetch"] = seconds(lambda: store.manifest(made.versions[-1]), 3)
            found["missing"] = seconds(lambda: store._parts.intake.missing(made.hashes), 3)
            found["add"] = add_version(made, store)
            found["usage"] = seconds(lambda: store.usage_of(made.versions[-1]))
            found["diff"] = seconds(lambda: store.diff(made.versions[-2], made.versions[-1]))
            found["statistics"] = seconds(store.statistics)
            for id in made.versions[: max(1, versions // 10)]:  # retention: a tenth of them, the oldest
                store.delete_manifest(id)
            del made.versions[: max(1, versions // 10)]
            began, wall = time.process_time(), time.monotonic()
            pruned = store.prune()
            found["prune"] = time.process_time() - began
            found["prune (wall)"] = time.monotonic() - wall
            per_version.append(found["prune"] / len(made.versions))
            totals = store.totals()
        text = " ".join(f"{name} {value * 1000:,.0f}" for name, value in found.items())
        measurement.remark(
            f"{versions} versions, {totals.chunks:,} chunks, {pruned.chunks:,} pruned, ms: {text}"
        )
        measurement.say(measurement.remarks[-1])
    measurement.ours.append(per_version[-1] / per_version[1])


ENTRIES = (Entry("store_scale", "× per version", measure_scale, goal=1.5, lower=True),)
