"""Recompression makes frames smaller and changes nothing else, whoever reads meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from imaging.chunks import compress, hash_chunk, open_frame
from imaging.errors import StoreBusy, StoreError
from imaging.store import ChunkStore
from tests.imaging.store.backends import PackBackend
from tests.imaging.store.conformance import SIGNATURE, manifest_of
from tests.imaging.store.samples import FakeTime, add_version, opened, text_chunk


def test_frames_become_smaller_and_chunks_stay_the_same(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        id, hashes = add_version(store, range(20))
        plain = [store.get(hash) for hash in hashes]
        before = store.statistics()
        seen: list[tuple[int, int]] = []
        done = store.recompress(12, lambda *at: seen.append(at))
        after = store.statistics()
        assert done.chunks == 20
        assert done.before - done.after == before.stored - after.stored > before.stored * 0.03
        assert after.packed < before.packed
        assert after.compression_ratio > before.compression_ratio
        assert done.packs == before.packs
        assert seen[-1][0] == seen[-1][1] == before.packs
        assert [store.get(hash) for hash in hashes] == plain
        assert list(store.verify(id)) == []
        assert store.recompress(12).chunks == 0  # it knows where it was
        assert not store.scrub().findings
    with opened(tmp_path) as store:
        assert store.recompress(9).chunks == 0
        assert [store.get(hash) for hash in hashes] == plain


def test_what_does_not_get_smaller_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        hashes = []
        for _ in range(9):
            data = os.urandom(9000).ljust(1 << 20, b"\0")
            hashes.append(hash_chunk(data))
            store.add_frame(hashes[-1], compress(data))
        store.put_manifest(manifest_of(*hashes).to_bytes(), SIGNATURE)
        packs = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packs").iterdir()}
        done = store.recompress(12)
        assert (done.chunks, done.packs, done.stopped) == (0, 0, False)
        assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packs").iterdir()} == packs


def test_it_goes_on_where_it_was_stopped_and_keeps_the_rate(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        id, _ = add_version(store, range(30))
    time, chunks, rounds = FakeTime(), 0, 0
    while True:
        budget = iter([False] * 25)
        with opened(tmp_path) as store:
            done = store.recompress(
                12,
                stop=lambda budget=budget: next(budget, True),  # type: ignore[misc]
                rate=50_000,
                clock=time.clock,
                sleep=time.sleep,
            )
            assert list(store.verify(id)) == []
        chunks, rounds = chunks + done.chunks, rounds + 1
        if not done.stopped:
            break
        assert rounds < 30
    assert rounds > 1
    assert chunks == 30
    assert time.now > 5


def test_a_damaged_chunk_is_not_compressed_again_but_marked(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        id, hashes = add_version(store, range(10))
    PackBackend(tmp_path).damage(hashes[4])
    with opened(tmp_path) as store:
        store.recompress(12)
        assert store.missing([hashes[4]]) == [True]
        assert [bad.hash for bad in store.verify(id)] == [hashes[4]]
        store.add_frame(*text_chunk(4))
        assert list(store.verify(id)) == []


def test_another_process_that_reads_sees_the_same_frames_until_it_closes(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        _, hashes = add_version(store, range(10))
        with ChunkStore(tmp_path, readonly=True) as reader:
            frames = [reader.frame(hash) for hash in hashes]
            done = store.recompress(12)
            assert done.readers
            assert done.stopped
            assert done.chunks == 0
            assert [reader.frame(hash) for hash in hashes] == frames
        assert store.recompress(12).chunks == 10


def test_a_reader_that_comes_in_the_middle_sees_no_change_from_then_on(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        _, hashes = add_version(store, range(30))
        readers: list[ChunkStore] = []
        frames: list[bytes] = []

        def arrive(done: int, total: int) -> None:
            if done == 1:
                readers.append(ChunkStore(tmp_path, readonly=True))
                frames.extend(readers[0].frame(hash) for hash in hashes)

        done = store.recompress(12, arrive)
        assert done.readers
        assert 0 < done.chunks < 30
        assert [readers[0].frame(hash) for hash in hashes] == frames
        readers[0].close()
        assert store.recompress(12).chunks == 30 - done.chunks


def test_who_reads_meanwhile_never_gets_a_wrong_chunk(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        _, hashes = add_version(store, range(40))
        over, failures, reads = threading.Event(), [], [0]

        def read() -> None:
            try:
                while not over.is_set():
                    for hash in hashes:
                        open_frame(hash, store.frame(hash))
                        reads[0] += 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for level in (4, 6, 9, 12):
                store.recompress(level)
                store.prune(grace=0)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not failures
        assert reads[0] > 100
        assert store.totals().damaged == 0


def test_one_work_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        add_version(store, range(3))
        with pytest.raises(StoreBusy, match="being pruned or recompressed"):
            store.recompress(9, lambda done, total: store.prune() and None)
        with pytest.raises(ValueError, match="levels 1 to 22"):
            store.recompress(99)
        assert store.recompress(9).chunks == 3
    with ChunkStore(tmp_path, readonly=True) as reader, pytest.raises(StoreError, match="reading only"):
        reader.recompress()
