"""The chunk store under kill -9, flipped bits, full disks, many threads and pruning."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.chunks import compress, hash_chunk
from imaging.errors import ChunkInvalid, ChunkMissing, ManifestError, StoreBusy, StoreError, StoreFull
from imaging.store import ChunkStore
from tests.imaging.store.conformance import SIGNATURE, manifest_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChunkStore]:
    with ChunkStore(tmp_path / "store", reserve=0, pack_size=8 << 20) as opened:
        yield opened


def chunk(size: int = 1 << 20) -> tuple[bytes, bytes, bytes]:
    """(hash, frame, plain) of a new random chunk that does not compress."""
    data = os.urandom(size)
    return hash_chunk(data), compress(data), data


def packs(store: ChunkStore) -> list[Path]:
    return sorted((store.path / "packs").glob("*.pack"))


def flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << random.randrange(8)]))


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    chunks = [chunk(3000) for _ in range(10)]
    with ChunkStore(tmp_path, reserve=0) as store:
        for hash, frame, _ in chunks:
            store.add_frame(hash, frame)
    with ChunkStore(tmp_path, reserve=0) as store:
        assert [store.get(hash) for hash, _, _ in chunks] == [data for _, _, data in chunks]
        more = chunk(3000)
        store.add_frame(more[0], more[1])
        store.commit()
        assert len(packs(store)) == 1  # a pack with room goes on


def test_a_frame_of_ones_own_is_not_opened_again_but_still_proven_when_it_is_read(store: ChunkStore) -> None:
    hash, frame, plain = chunk(3000)
    other = hash_chunk(b"other")
    with pytest.raises(ChunkInvalid):
        store.add_frame(other, frame)
    with pytest.raises(ChunkInvalid):
        store.add_frame(other, b"no frame at all", own=True)
    assert store.add_frame(hash, frame, own=True)
    assert not store.add_frame(hash, frame, own=True)
    assert store.get(hash) == plain
    store.add_frame(other, frame, own=True)  # a lie to oneself
    with pytest.raises(ChunkInvalid):
        store.get(other)


def test_one_writer_and_many_readers(store: ChunkStore) -> None:
    hash, frame, _ = chunk(3000)
    store.add_frame(hash, frame)
    store.commit()
    with pytest.raises(StoreBusy):
        ChunkStore(store.path)
    with ChunkStore(store.path, readonly=True) as reader:
        assert reader.frame(hash) == frame
        later, later_frame, _ = chunk(3000)
        store.add_frame(later, later_frame)
        store.commit()
        assert reader.frame(later) == later_frame
        with pytest.raises(StoreError, match="reading only"):
            reader.add_frame(later, later_frame)


def test_reading_a_store_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no chunk store"):
        ChunkStore(tmp_path / "nowhere", readonly=True)


@pytest.mark.parametrize("where", ["hash", "lengths", "check", "first", "middle", "last"])
def test_a_flipped_bit_is_never_served(store: ChunkStore, where: str) -> None:
    hash, frame, _ = chunk(100_000)
    store.add_frame(hash, frame)
    id = store.put_manifest(manifest_of(*[full_chunk(store)]).to_bytes(), SIGNATURE)
    record, body = 16, 16 + 56
    at = {"hash": record + 5, "lengths": record + 36, "check": record + 50}
    at |= {"first": body, "middle": body + len(frame) // 2, "last": body + len(frame) - 1}
    flip(packs(store)[0], at[where])
    with pytest.raises(ChunkInvalid):
        store.frame(hash)
    with pytest.raises(ChunkInvalid):
        store.get(hash)
    assert [bad.hash for bad in store.verify()] == [hash]
    assert list(store.verify(id)) == []  # the other image does not use it


def full_chunk(store: ChunkStore) -> bytes:
    hash, frame, _ = chunk()
    store.add_frame(hash, frame)
    return hash


def test_a_damaged_chunk_is_asked_for_again_and_healed(store: ChunkStore) -> None:
    hash, frame, data = chunk(100_000)
    store.add_frame(hash, frame)
    store.commit()
    flip(packs(store)[0], 5000)
    assert [type(bad.error) for bad in store.verify()] == [ChunkInvalid]
    assert store.totals().damaged == 1
    assert store.missing([hash]) == [True]
    assert store.add_frame(hash, frame) is True
    assert store.get(hash) == data
    assert list(store.verify()) == []


def test_a_pack_cut_short_is_damage_not_a_crash(store: ChunkStore) -> None:
    hash, frame, _ = chunk(100_000)
    store.add_frame(hash, frame)
    store.commit()
    os.truncate(packs(store)[0], 1000)
    with pytest.raises(ChunkInvalid, match="cut short"):
        store.frame(hash)


def test_a_changed_manifest_is_not_served(store: ChunkStore) -> None:
    id = store.put_manifest(manifest_of(full_chunk(store)).to_bytes(), SIGNATURE)
    flip(store.path / "manifests" / f"{id}.manifest", 100)
    with pytest.raises(ManifestError):
        store.manifest(id)


def test_a_torn_tail_is_cut_off_and_whole_records_are_kept(tmp_path: Path) -> None:
    committed, whole, torn = chunk(50_000), chunk(50_000), chunk(50_000)
    with ChunkStore(tmp_path, reserve=0) as store:
        store.add_frame(committed[0], committed[1])
        store.commit()
        end = packs(store)[0].stat().st_size
        store.add_frame(whole[0], whole[1])
        store.add_frame(torn[0], torn[1])
        pack = packs(store)[0]
        after_crash = pack.read_bytes()[:-100]
        index = (tmp_path / "index.sqlite").read_bytes(), (tmp_path / "index.sqlite-wal").read_bytes()
    # Put back what a power cut would have left: the index as committed, the pack's tail torn.
    pack.write_bytes(after_crash)
    (tmp_path / "index.sqlite").write_bytes(index[0])
    (tmp_path / "index.sqlite-wal").write_bytes(index[1])
    with ChunkStore(tmp_path, reserve=0) as store:
        assert store.missing([committed[0], whole[0], torn[0]]) == [False, False, True]
        assert store.get(whole[0]) == whole[2]
        assert end < pack.stat().st_size < len(after_crash)
        assert store.add_frame(torn[0], torn[1])
        assert list(store.verify()) == []


def test_a_lost_index_is_rebuilt_from_the_packs(tmp_path: Path) -> None:
    chunks = [chunk(3000) for _ in range(20)]
    with ChunkStore(tmp_path, reserve=0, pack_size=16_000) as store:
        for hash, frame, _ in chunks:
            store.add_frame(hash, frame)
        assert len(packs(store)) > 2
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    with ChunkStore(tmp_path, reserve=0) as store:
        assert not any(store.missing([hash for hash, _, _ in chunks]))
        assert list(store.verify()) == []


def test_an_index_that_is_no_database_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"rubbish" * 1000)
    with pytest.raises(StoreError, match="move it away"):
        ChunkStore(tmp_path)


def test_the_reserve_is_kept_and_the_store_stays_usable(tmp_path: Path) -> None:
    stat = os.statvfs(tmp_path)
    with ChunkStore(tmp_path / "store", reserve=stat.f_blocks * stat.f_frsize) as store:
        hash, frame, _ = chunk(5000)
        with pytest.raises(StoreFull, match="no room for") as caught:
            store.add_frame(hash, frame)
        assert caught.value.needed == len(frame) + 56
        assert caught.value.free > 0
        assert store.missing([hash]) == [True]
        store.commit()


def test_many_threads_add_and_read_at_once(store: ChunkStore) -> None:
    chunks = [chunk(20_000) for _ in range(60)]
    fresh: list[bool] = []
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        order = chunks[:]
        random.Random(seed).shuffle(order)
        try:
            for number, (hash, frame, data) in enumerate(order):
                fresh.append(store.add_frame(hash, frame))
                assert store.get(hash) == data
                if number % 10 == 0:
                    store.commit()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(fresh) >= len(chunks)
    store.commit()
    assert list(store.verify()) == []
    assert store.totals().chunks == len(chunks)


def test_prune_gives_back_what_no_manifest_names(store: ChunkStore) -> None:
    kept, dead = [], []
    for number in range(24):  # three packs of eight; in the first two one chunk of seven is kept
        hash = full_chunk(store)
        (kept if number % 7 == 0 else dead).append(hash)
    keep = store.put_manifest(manifest_of(*kept).to_bytes(), SIGNATURE)
    gone = store.put_manifest(manifest_of(*dead[:3]).to_bytes(), SIGNATURE)
    store.delete_manifest(gone)
    before = sum(path.stat().st_size for path in packs(store))
    assert store.prune().held == len(dead) - 3  # whoever added them may yet send a manifest
    pruned = store.prune(grace=0)
    after = sum(path.stat().st_size for path in packs(store))
    assert pruned.chunks == len(dead) - 3
    assert before - after > 15 << 20
    assert abs(pruned.bytes - (before - after)) < 1000
    assert list(store.verify(keep)) == []
    for hash in dead:
        with pytest.raises(ChunkMissing):
            store.frame(hash)
    assert store.prune().chunks == 0
    # And the store goes on: what was pruned can come back, also after reopening.
    again = full_chunk(store)
    store.commit()
    path = store.path
    store.close()
    with ChunkStore(path, reserve=0) as reopened:
        assert list(reopened.verify()) == []
        assert not any(reopened.missing([*kept, again]))


def test_prune_deletes_nothing_while_a_manifest_cannot_be_read(store: ChunkStore) -> None:
    hash = full_chunk(store)
    id = store.put_manifest(manifest_of(hash).to_bytes(), SIGNATURE)
    flip(store.path / "manifests" / f"{id}.manifest", 100)
    with pytest.raises(ManifestError):
        store.prune()
    assert store.missing([hash]) == [False]


WRITER = """
import os, sys
from imaging.chunks import compress, hash_chunk
from imaging.store import ChunkStore
store = ChunkStore(sys.argv[1], reserve=0, pack_size=3 << 20)
number = 0
while True:
    data = number.to_bytes(8, "big") * 2000 + os.urandom(20000)
    store.add_frame(hash_chunk(data), compress(data))
    number += 1
    if number % 7 == 0:
        store.commit()
        print(hash_chunk(data).hex(), flush=True)
"""


@pytest.mark.parametrize("delay", [0.02, 0.11, 0.3])
def test_kill_9_in_the_middle_loses_nothing_that_was_committed(tmp_path: Path, delay: float) -> None:
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    promised = [first, *process.stdout.readlines()]
    process.wait()
    process.stdout.close()
    with ChunkStore(tmp_path, reserve=0) as store:
        assert store.missing([bytes.fromhex(line) for line in promised]) == [False] * len(promised)
        assert list(store.verify()) == []
        data = os.urandom(1000)
        assert store.add_frame(hash_chunk(data), compress(data))
        store.commit()
        assert store.get(hash_chunk(data)) == data


@pytest.mark.disk
def test_a_full_disk_is_store_full_and_space_brings_it_back(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)], check=True)
    try:
        filler = place / "filler"
        filler.write_bytes(bytes(1 << 20))
        with ChunkStore(place / "store", reserve=0) as store:
            kept = []
            for hash, frame, _ in (chunk(700_000) for _ in range(20)):
                try:
                    store.add_frame(hash, frame)
                except StoreFull:
                    break
                kept.append(hash)
            assert 4 <= len(kept) < 20
            filler.unlink()
            store.commit()
            hash, frame, _ = chunk(700_000)
            assert store.add_frame(hash, frame)
            store.commit()
            assert list(store.verify()) == []
            assert not any(store.missing([*kept, hash]))
    finally:
        subprocess.run(["umount", str(place)], check=True)
