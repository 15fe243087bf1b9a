"""What every chunk store must do, as a class to inherit from (give it a fixture ``backend``).

A back end has ``path`` (everything durable lies below it), ``open()`` for the one that writes, ``reader()``
for another that only reads, ``at(path)`` for the same elsewhere, ``damage(hash)`` and
``damage_manifest(id)``. The suite asks for promises, not for a way to keep them: it passes for packs and for
one file per chunk.
"""

import contextlib
import os
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from imaging.chunks import compress, hash_chunk
from imaging.errors import (
    ChunkInvalid,
    ChunkMissing,
    ManifestError,
    ManifestIncomplete,
    ManifestMissing,
    StoreFull,
)
from imaging.manifest import DiskImage, Manifest, merge_runs
from tests.imaging.store.powercut import PowerCut

SIGNATURE = bytes(range(64))


class Backend(Protocol):
    """What the suite must be able to do to a store from outside."""

    path: Path

    def open(self) -> Any: ...
    def reader(self) -> Any: ...
    def at(self, path: Path) -> "Backend": ...
    def damage(self, hash: bytes) -> None: ...
    def damage_manifest(self, id: str) -> None: ...


def chunk(size: int = 1 << 20) -> tuple[bytes, bytes, bytes]:
    """(hash, frame, plain) of a new random chunk, which compresses well where it is long."""
    data = os.urandom(min(size, 4000)).ljust(size, b".")
    return hash_chunk(data), compress(data), data


def manifest_of(*hashes: bytes) -> Manifest:
    """A disk without a table, all of it used, of these chunks."""
    size = len(hashes) << 20
    return Manifest([DiskImage(size, 512, None, (), merge_runs([(0, size)]), b"".join(hashes))])


def version(store: Any, *known: bytes, fresh: int = 2, holder: str = "") -> tuple[str, list[bytes]]:
    """Capture a version of known chunks and some new ones: (identity, hashes)."""
    hashes = list(known)
    for _ in range(fresh):
        hash, frame, _ = chunk()
        store.add_frame(hash, frame, holder)
        hashes.append(hash)
    return store.put_manifest(manifest_of(*hashes).to_bytes(), SIGNATURE, holder), hashes


def run_suite(make: Callable[[Path], Backend], scratch: Path, only: str = "") -> dict[str, BaseException]:
    """Run every test (or one) against a fresh back end; what failed, by name: for suites of mutants."""
    suite, failed = StoreConformance(), {}
    names = [name for name in dir(suite) if name.startswith("test_") and only in ("", name)]
    assert names, f"the suite has no {only}"
    for name in names:
        place = scratch / name
        place.mkdir(parents=True)
        try:
            getattr(suite, name)(make(place / "store"))
        except (Exception, pytest.fail.Exception) as error:
            failed[name] = error
    return failed


class StoreConformance:
    """Subclass it in a test module that has a fixture named ``backend``: nothing is below its path yet."""

    # --- chunks ---

    def test_a_chunk_comes_back_as_it_went_in(self, backend: Backend) -> None:
        hash, frame, data = chunk()
        with backend.open() as store:
            assert store.missing([hash]) == [True]
            assert store.add_frame(hash, frame) is True
            assert store.missing([hash]) == [False]
            assert store.frame(hash) == frame
            assert store.get(hash) == data
            store.commit()
            assert store.frame(hash) == frame
        with backend.open() as store:
            assert store.get(hash) == data

    def test_the_same_chunk_is_kept_once(self, backend: Backend) -> None:
        hash, frame, _ = chunk()
        with backend.open() as store:
            assert store.add_frame(hash, frame) is True
            assert store.add_frame(hash, frame) is False
            store.commit()
            assert store.add_frame(hash, frame) is False

    def test_a_chunk_under_a_wrong_hash_is_refused(self, backend: Backend) -> None:
        hash, frame, _ = chunk(5000)
        other, _, _ = chunk(5000)
        with backend.open() as store:
            for bad_hash, bad_frame in ((other, frame), (hash, frame[:-1]), (hash, b""), (hash, b"not zstd")):
                with pytest.raises(ChunkInvalid):
                    store.add_frame(bad_hash, bad_frame)
                assert store.missing([bad_hash]) == [True]

    def test_what_is_not_there_is_missing(self, backend: Backend) -> None:
        with backend.open() as store:
            with pytest.raises(ChunkMissing):
                store.frame(bytes(32))
            with pytest.raises(ChunkMissing):
                store.get(bytes(32))
            for id in ("0" * 64, "", "../../etc/passwd", "A" * 64, "0" * 63 + "/"):
                with pytest.raises(ManifestMissing):
                    store.manifest(id)
                with pytest.raises(ManifestMissing):
                    store.delete_manifest(id)

    def test_missing_answers_in_the_order_of_the_question(self, backend: Backend) -> None:
        chunks = [chunk(1000) for _ in range(6)]
        with backend.open() as store:
            for hash, frame, _ in chunks[::2]:
                store.add_frame(hash, frame)
            assert store.missing([c[0] for c in chunks]) == [False, True] * 3
            store.commit()
            assert store.missing([c[0] for c in reversed(chunks)]) == [True, False] * 3
            assert store.missing([chunks[0][0]] * 3) == [False] * 3
            assert store.missing([]) == []

    def test_there_is_room_or_a_sentence_with_numbers(self, backend: Backend) -> None:
        with backend.open() as store:
            assert store.room(1) > 0
            with pytest.raises(StoreFull, match="no room for") as caught:
                store.room(1 << 60)
            assert caught.value.needed == 1 << 60
            assert 0 < caught.value.free < 1 << 60

    # --- manifests ---

    def test_a_manifest_needs_all_its_chunks(self, backend: Backend) -> None:
        (a, frame_a, _), (b, frame_b, _) = chunk(), chunk()
        manifest = manifest_of(a, b, a)
        with backend.open() as store:
            store.add_frame(a, frame_a)
            with pytest.raises(ManifestIncomplete, match="1 of the 3"):
                store.put_manifest(manifest.to_bytes(), SIGNATURE)
            with pytest.raises(ManifestMissing):
                store.manifest(manifest.id)
            assert store.manifests() == []
        with backend.open() as store:
            assert store.manifests() == []
            store.add_frame(b, frame_b)
            assert store.put_manifest(manifest.to_bytes(), SIGNATURE) == manifest.id
            assert store.manifest(manifest.id) == (manifest.to_bytes(), SIGNATURE)
            assert store.manifests() == [manifest.id]
            assert backend.reader().manifest(manifest.id) == (manifest.to_bytes(), SIGNATURE)

    def test_a_manifest_with_other_chunk_lengths_is_refused(self, backend: Backend) -> None:
        hash, frame, _ = chunk(4096)
        with backend.open() as store:
            store.add_frame(hash, frame)
            with pytest.raises(ManifestError, match="4096"):
                store.put_manifest(manifest_of(hash).to_bytes(), SIGNATURE)
            assert store.manifests() == []

    def test_bytes_that_are_no_manifest_or_signature_are_refused(self, backend: Backend) -> None:
        hash, frame, _ = chunk()
        with backend.open() as store:
            store.add_frame(hash, frame)
            for data, signature in (
                (b"nonsense", SIGNATURE),
                (manifest_of(hash).to_bytes() + b"\0", SIGNATURE),
                (manifest_of(hash).to_bytes(), b"short"),
            ):
                with pytest.raises(ManifestError):
                    store.put_manifest(data, signature)
            assert store.manifests() == []

    def test_a_sound_store_verifies(self, backend: Backend) -> None:
        with backend.open() as store:
            id, _ = version(store)
            assert list(store.verify()) == []
            assert list(store.verify(id)) == []

    # --- damage ---

    def test_damage_is_told_asked_for_again_and_healed(self, backend: Backend) -> None:
        hash, frame, data = chunk()
        with backend.open() as store:
            store.add_frame(hash, frame)
            id = store.put_manifest(manifest_of(hash).to_bytes(), SIGNATURE)
            other, _ = version(store)
        backend.damage(hash)
        with backend.open() as store:
            for ask in (store.frame, store.get, backend.reader().frame):
                with pytest.raises(ChunkInvalid):
                    ask(hash)
            assert [bad.hash for bad in store.verify()] == [hash]
            assert [bad.hash for bad in store.verify(id)] == [hash]
            assert list(store.verify(other)) == []
            assert store.missing([hash]) == [True]
            assert store.add_frame(hash, frame) is True
            assert store.get(hash) == data
            assert list(store.verify(id)) == []

    def test_a_version_is_not_completed_with_a_chunk_known_to_be_damaged(self, backend: Backend) -> None:
        with backend.open() as store:
            _, hashes = version(store)
        backend.damage(hashes[0])
        with backend.open() as store:
            with contextlib.suppress(ChunkInvalid):
                store.frame(hashes[0])
            with pytest.raises(ManifestIncomplete):
                version(store, hashes[0])

    def test_a_changed_manifest_is_not_served_and_stops_a_prune(self, backend: Backend) -> None:
        with backend.open() as store:
            id, hashes = version(store)
        backend.damage_manifest(id)
        with backend.open() as store:
            with pytest.raises(ManifestError):
                store.manifest(id)
            with pytest.raises(ManifestError):
                store.prune(grace=0)
            assert store.missing(hashes) == [False] * len(hashes)
            store.delete_manifest(id)
            assert store.prune(grace=0).chunks == len(hashes)

    # --- prune ---

    def test_prune_takes_what_no_version_names_and_nothing_else(self, backend: Backend) -> None:
        with backend.open() as store:
            keep, shared = version(store, fresh=3)
            gone, hashes = version(store, *shared[:2], fresh=4)
            assert store.prune().chunks == 0
            store.delete_manifest(gone)
            assert store.prune().chunks == 4
            assert store.manifests() == [keep]
            for hash in hashes[2:]:
                with pytest.raises(ChunkMissing):
                    store.frame(hash)
            assert list(store.verify(keep)) == []
            assert store.prune().chunks == 0
        with backend.open() as store:
            assert list(store.verify(keep)) == []
            assert list(store.verify()) == []

    def test_a_capture_under_way_keeps_what_it_brought_and_what_it_asked_for(self, backend: Backend) -> None:
        with backend.open() as store:
            old, hashes = version(store, fresh=2)
            (brought, frame, _), (later, later_frame, _) = chunk(), chunk()
            assert store.missing([*hashes, brought, later], "capture") == [False, False, True, True]
            store.add_frame(brought, frame, "capture")
            store.delete_manifest(old)
            assert store.prune().chunks == 0
            store.add_frame(later, later_frame, "capture")
            everything = manifest_of(*hashes, brought, later)
            id = store.put_manifest(everything.to_bytes(), SIGNATURE, "capture")
            assert list(store.verify(id)) == []
            store.delete_manifest(id)
            assert store.prune().chunks == 4

    def test_a_capture_that_was_given_up_leaves_nothing(self, backend: Backend) -> None:
        with backend.open() as store:
            hash, frame, _ = chunk()
            store.add_frame(hash, frame, "capture")
            store.commit()
            assert store.prune().chunks == 0
            store.release("capture")
            assert store.prune().chunks == 1

    def test_a_list_of_versions_to_keep_spares_those_completed_just_now(self, backend: Backend) -> None:
        with backend.open() as store:
            old, _ = version(store)
            young, _ = version(store)
            store.prune(keep=[old])
            assert store.manifests() == sorted([old, young])
            store.prune(keep=[young], grace=-1)
            assert store.manifests() == [young]
            assert list(store.verify(young)) == []

    # --- at once, and after a power cut ---

    def test_a_reader_never_sees_a_wrong_byte_or_half_a_version(self, backend: Backend) -> None:
        with backend.open() as store, ExitStack() as stack:
            id, hashes = version(store, fresh=4)
            plain = {hash: store.get(hash) for hash in hashes}
            failures: list[BaseException] = []
            over = threading.Event()

            def read(seed: int) -> None:
                chance = random.Random(seed)
                try:
                    reader = backend.reader()
                    while not over.is_set():
                        hash = chance.choice(hashes)
                        assert reader.get(hash) == plain[hash]
                        for name in reader.manifests():
                            with contextlib.suppress(ManifestMissing):
                                data, _ = reader.manifest(name)
                                assert not any(reader.missing(list(Manifest.from_bytes(data).hashes)))
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
            stack.callback(lambda: [thread.join() for thread in threads])
            stack.callback(over.set)
            for thread in threads:
                thread.start()
            for _ in range(8):
                version(store, hashes[0])
            store.prune()
            over.set()
            for thread in threads:
                thread.join()
            assert not failures, failures
            assert list(store.verify(id)) == []

    def test_what_was_committed_survives_a_power_cut(self, backend: Backend) -> None:
        backend.open().close()
        with PowerCut(backend.path) as power:
            store = backend.open()
            chunks = [chunk(3000) for _ in range(3)]
            for hash, frame, _ in chunks:
                store.add_frame(hash, frame)
            store.commit()
            lost = chunk(3000)
            store.add_frame(lost[0], lost[1])
            left = power.leave(backend.path.with_name("left"))
            store.close()
        with backend.at(left).open() as store:
            assert [store.get(hash) for hash, _, _ in chunks] == [data for _, _, data in chunks]
            if not store.missing([lost[0]])[0]:
                assert store.get(lost[0]) == lost[2]
            assert list(store.verify()) == []

    def test_the_current_may_fail_at_any_moment(self, backend: Backend) -> None:
        """At each fsync of a capture, a deletion and a prune: versions are whole, none that was promised is
        gone, and the store goes on.
        """
        with backend.open() as store:
            first, hashes = version(store)
            doomed, _ = version(store, hashes[0])
        left: list[tuple[Path, set[str]]] = []
        promised = {first, doomed}

        def cut() -> None:
            left.append((power.leave(backend.path.with_name(f"left{len(left)}")), set(promised)))

        with PowerCut(backend.path, cut) as power:
            with backend.open() as store:
                second, _ = version(store, *hashes)
                promised.add(second)
                promised.discard(doomed)
                store.delete_manifest(doomed)
                store.prune()
                third, _ = version(store)
                promised.add(third)
            cut()
        assert len(left) > 5
        for path, names in left:
            with backend.at(path).open() as store:
                assert names <= set(store.manifests())
                for id in store.manifests():
                    assert list(store.verify(id)) == []
                store.prune(grace=0)
                again, _ = version(store, *hashes)
                assert list(store.verify(again)) == []
