"""Killed at random moments, and a full disk: no version is ever half, none that was promised is ever gone."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imaging.errors import StoreError, StoreFull
from imaging.store import ChunkStore
from tests.imaging.store.conformance import SIGNATURE, manifest_of
from tests.imaging.store.samples import add_version, text_chunk
from tests.imaging.store.test_chunkstore import chunk

ROOT = Path(__file__).parents[3]


class Promises:
    """What the victim said it had kept, over all its lives."""

    def __init__(self, path: Path) -> None:
        self.path, self.kept = path, set[str]()
        self.rounds = 0

    def kill_after(self, seconds: float, seed: int) -> None:
        """Start a victim, kill it so long after it was ready, and listen to what it said."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.imaging.store.victim", str(self.path), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(seconds)
        finally:
            process.kill()
            lines = process.stdout.read().split("\n")
            process.stdout.close()
            process.wait()
        for line in lines[:-1]:  # what follows the last newline is half a line
            (self.kept.add if line[0] == "+" else self.kept.discard)(line[1:])
            self.rounds += line[0] == "+"

    def check(self) -> None:
        """Open as after a crash: everything is whole and everything promised is there."""
        with ChunkStore(self.path, reserve=0, pack_size=12 << 10) as store:
            assert self.kept <= set(store.manifests())
            for id in store.manifests():
                assert list(store.verify(id)) == []
            assert list(store.verify()) == []
            assert not store.scrub(restart=True).findings
            self.kept = set(store.manifests())  # one may have been kept and not yet told, or not yet deleted


def test_kill_9_at_a_few_moments(tmp_path: Path) -> None:
    promises = Promises(tmp_path / "store")
    for seed, seconds in enumerate((0.01, 0.06, 0.13, 0.25)):
        promises.kill_after(seconds, seed)
        promises.check()


@pytest.mark.disk
def test_kill_9_at_fifty_random_moments_of_capture_delete_prune_and_recompression(tmp_path: Path) -> None:
    chance = random.Random(4)
    promises = Promises(tmp_path / "store")
    for seed in range(50):
        promises.kill_after(chance.uniform(0, 0.35), seed)
        promises.check()
    assert promises.rounds > 20  # some hundred, fewer on a busy machine: else it was killed before it worked
    # And it wastes nothing for ever: what the crashes left behind is given back.
    with ChunkStore(promises.path, reserve=0, pack_size=12 << 10) as store:
        store.prune(grace=0)
        store.prune(grace=0)
        assert store.statistics().waste < store.statistics().packed * 0.6
        known = {f"{number:08d}.pack" for number in store._parts.index.ends()}
        assert {path.name for path in (promises.path / "packs").iterdir()} == known


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(store: ChunkStore) -> list[bytes]:
    """Add chunks until the store is full."""
    added = []
    for _ in range(200):
        hash, frame, _ = chunk(300_000)
        try:
            store.add_frame(hash, frame)
            store.commit()
        except StoreFull as error:
            assert "delete old image versions and prune" in str(error)  # noqa: PT017
            return added
        added.append(hash)
    raise AssertionError("never full")


def take_the_rest(path: Path) -> None:
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while file.write(bytes(512)):
            pass


@pytest.mark.disk
def test_a_full_disk_leaves_nothing_half_visible_and_room_brings_all_back(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "8m") as place:
        filler = place / "filler"
        filler.write_bytes(bytes(2 << 20))
        with ChunkStore(place / "store", reserve=0, pack_size=1 << 20) as store:
            kept, hashes = add_version(store, range(5))
            added = fill(store)
            # The last bytes go to something else: not even a manifest finds room.
            take_the_rest(place / "crumbs")
            refused = manifest_of(*hashes, *hashes * 1000)
            with pytest.raises(StoreError):
                store.put_manifest(refused.to_bytes(), SIGNATURE)
            assert store.manifests() == [kept]
            assert list(store.verify(kept)) == []
            assert not list((place / "store" / "manifests").glob("*.new"))
            with pytest.raises(StoreFull):
                store.room(1)
            filler.unlink()
            assert store.room(1 << 20) > 0
            assert store.put_manifest(refused.to_bytes(), SIGNATURE) == refused.id
            before = store.totals().free
            assert store.prune(grace=0).chunks == len(added)
            assert store.totals().free > before + len(added) * 300_000 * 0.9
            again, _ = add_version(store, range(10, 30))
            for id in (kept, refused.id, again):
                assert list(store.verify(id)) == []


@pytest.mark.disk
def test_a_store_that_is_full_when_it_is_opened_can_be_pruned(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "8m") as place:
        with ChunkStore(place / "store", reserve=256 << 10, pack_size=1 << 20) as store:
            kept, _ = add_version(store, range(5))
            fill(store)
        with ChunkStore(place / "store", reserve=256 << 10, pack_size=1 << 20) as store:
            fill(store)
            with pytest.raises(StoreFull) as caught:
                store.room(300_000)
            assert caught.value.reserve == 256 << 10
            assert store.prune(grace=0).bytes > 4 << 20
            assert store.add_frame(*text_chunk(99))
            assert list(store.verify(kept)) == []
