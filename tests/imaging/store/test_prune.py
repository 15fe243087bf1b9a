"""Pruning beside captures, without room, and stopped half-way."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from imaging.errors import StoreError
from imaging.store import ChunkStore
from imaging.store.writer import PackDirectory
from tests.imaging.store.backends import PackBackend
from tests.imaging.store.conformance import SIGNATURE, manifest_of
from tests.imaging.store.samples import add_version, opened, text_chunk


def test_captures_go_on_beside_a_prune_and_none_has_to_begin_again(tmp_path: Path) -> None:
    """They capture the same few chunks and delete them again: what one asks for is always about to go."""
    made = [text_chunk(number, 3000) for number in range(25)]
    failures: list[BaseException] = []
    versions = [0]
    with opened(tmp_path) as store:
        over = threading.Event()

        def capture(holder: str) -> None:
            chance = random.Random(holder)
            try:
                while not over.is_set():
                    chosen = chance.sample(made, 6)
                    hashes = [hash for hash, _ in chosen]
                    for (hash, frame), lacks in zip(chosen, store.missing(hashes, holder), strict=True):
                        if lacks:
                            store.add_frame(hash, frame, holder)
                    id = store.put_manifest(manifest_of(*hashes).to_bytes(), SIGNATURE, holder)
                    assert list(store.verify(id)) == []
                    store.delete_manifest(id)
                    versions[0] += 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=capture, args=(f"task-{number}",)) for number in range(3)]
        for thread in threads:
            thread.start()
        pruned = 0
        try:
            for _ in range(40):
                pruned += store.prune().chunks
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert not failures, failures
        assert versions[0] > 20
        assert pruned > 20
        store.prune()
        assert store.totals().chunks == 0


def test_it_tells_how_far_it_is_and_stops_when_asked(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        keep, hashes = add_version(store, range(0, 60, 10))
        gone, _ = add_version(store, range(60))
        store.delete_manifest(gone)
        for calls in (0, 1, 2, 4):
            budget = iter([False] * calls)
            assert store.prune(stop=lambda budget=budget: next(budget, True)).stopped  # type: ignore[misc]
            assert list(store.verify(keep)) == []
        seen: list[tuple[int, int]] = []
        pruned = store.prune(progress=lambda *at: seen.append(at))
        assert not pruned.stopped
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1]
        assert store.totals().chunks == len(hashes)


def test_without_room_to_rewrite_it_gives_back_what_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        keep, _ = add_version(store, [0, 59])
        gone, _ = add_version(store, range(1, 59))
        store.delete_manifest(gone)
        monkeypatch.setattr(PackDirectory, "free", lambda self: 0)
        pruned = store.prune()
        assert (pruned.chunks, pruned.rewritten) == (58, 0)
        assert pruned.packs > 3
        assert pruned.packs_left > 0
        monkeypatch.undo()
        again = store.prune()
        assert (again.rewritten, again.packs_left) == (pruned.packs_left, 0)
        assert list(store.verify(keep)) == []
        assert store.statistics().waste < 2000


def test_a_damaged_chunk_keeps_its_pack_until_it_is_healed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        keep, hashes = add_version(store, [0])
        gone, _ = add_version(store, range(1, 40))
        store.delete_manifest(gone)
    PackBackend(tmp_path).damage(hashes[0])
    with opened(tmp_path) as store:
        assert store.prune().packs_left == 1
        assert store.missing(hashes) == [True]
        store.add_frame(*text_chunk(0))
        store.commit()
        assert store.prune().packs_left == 0
        assert list(store.verify(keep)) == []


def test_numbers_of_packs_are_never_used_twice(tmp_path: Path) -> None:
    """Another process may still hold a place in a pack that is gone."""
    highest = 0
    for round in range(5):
        with opened(tmp_path) as store:
            id, _ = add_version(store, range(round * 10, round * 10 + 10))
            numbers = [int(path.stem) for path in (tmp_path / "packs").iterdir()]
            assert min(numbers) > highest
            highest = max(numbers)
            store.delete_manifest(id)
            store.prune()
            assert not list((tmp_path / "packs").iterdir())


def test_only_the_writer_prunes(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        add_version(store, [1])
    with ChunkStore(tmp_path, readonly=True) as reader, pytest.raises(StoreError, match="reading only"):
        reader.prune()
