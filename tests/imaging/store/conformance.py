"""What every chunk store must do, as a class to inherit from (give it a ``store`` fixture)."""

import os
from typing import Any

import pytest

from imaging.chunks import compress, hash_chunk
from imaging.errors import ChunkInvalid, ChunkMissing, ManifestError, ManifestIncomplete, ManifestMissing
from imaging.manifest import DiskImage, Manifest, merge_runs

SIGNATURE = bytes(range(64))


def chunk(size: int = 1 << 20) -> tuple[bytes, bytes, bytes]:
    """(hash, frame, plain) of a new random chunk."""
    data = os.urandom(size)
    return hash_chunk(data), compress(data), data


def manifest_of(*hashes: bytes) -> Manifest:
    size = len(hashes) << 20
    return Manifest([DiskImage(size, 512, None, (), merge_runs([(0, size)]), b"".join(hashes))])


class StoreConformance:
    """Subclass it in a test module that has a fixture named ``store``: an empty, writable store."""

    def test_a_chunk_comes_back_as_it_went_in(self, store: Any) -> None:
        hash, frame, data = chunk()
        assert store.missing([hash]) == [True]
        assert store.add_frame(hash, frame) is True
        assert store.missing([hash]) == [False]
        assert store.frame(hash) == frame
        assert store.get(hash) == data
        store.commit()
        assert store.frame(hash) == frame

    def test_the_same_chunk_is_kept_once(self, store: Any) -> None:
        hash, frame, _ = chunk()
        assert store.add_frame(hash, frame) is True
        assert store.add_frame(hash, frame) is False
        store.commit()
        assert store.add_frame(hash, frame) is False

    def test_a_chunk_under_a_wrong_hash_is_refused(self, store: Any) -> None:
        hash, frame, _ = chunk(5000)
        other, _, _ = chunk(5000)
        for bad_hash, bad_frame in ((other, frame), (hash, frame[:-1]), (hash, b""), (hash, b"not zstd")):
            with pytest.raises(ChunkInvalid):
                store.add_frame(bad_hash, bad_frame)
            assert store.missing([bad_hash]) == [True]

    def test_what_is_not_there_is_missing(self, store: Any) -> None:
        with pytest.raises(ChunkMissing):
            store.frame(bytes(32))
        with pytest.raises(ChunkMissing):
            store.get(bytes(32))
        for id in ("0" * 64, "", "../../etc/passwd", "A" * 64, "0" * 63 + "/"):
            with pytest.raises(ManifestMissing):
                store.manifest(id)

    def test_missing_answers_in_the_order_of_the_question(self, store: Any) -> None:
        chunks = [chunk(1000) for _ in range(6)]
        for hash, frame, _ in chunks[::2]:
            store.add_frame(hash, frame)
        assert store.missing([c[0] for c in chunks]) == [False, True] * 3
        store.commit()
        assert store.missing([c[0] for c in reversed(chunks)]) == [True, False] * 3
        assert store.missing([]) == []

    def test_a_manifest_needs_all_its_chunks(self, store: Any) -> None:
        (a, frame_a, _), (b, frame_b, _) = chunk(), chunk()
        manifest = manifest_of(a, b, a)
        store.add_frame(a, frame_a)
        with pytest.raises(ManifestIncomplete, match="1 of the 3"):
            store.put_manifest(manifest.to_bytes(), SIGNATURE)
        with pytest.raises(ManifestMissing):
            store.manifest(manifest.id)
        store.add_frame(b, frame_b)
        assert store.put_manifest(manifest.to_bytes(), SIGNATURE) == manifest.id
        assert store.manifest(manifest.id) == (manifest.to_bytes(), SIGNATURE)

    def test_a_manifest_with_other_chunk_lengths_is_refused(self, store: Any) -> None:
        hash, frame, _ = chunk(4096)
        store.add_frame(hash, frame)
        with pytest.raises(ManifestError, match="4096 bytes"):
            store.put_manifest(manifest_of(hash).to_bytes(), SIGNATURE)

    def test_bytes_that_are_no_manifest_or_signature_are_refused(self, store: Any) -> None:
        hash, frame, _ = chunk()
        store.add_frame(hash, frame)
        with pytest.raises(ManifestError):
            store.put_manifest(b"nonsense", SIGNATURE)
        with pytest.raises(ManifestError):
            store.put_manifest(manifest_of(hash).to_bytes(), b"short")

    def test_a_sound_store_verifies(self, store: Any) -> None:
        hash, frame, _ = chunk()
        store.add_frame(hash, frame)
        id = store.put_manifest(manifest_of(hash).to_bytes(), SIGNATURE)
        assert list(store.verify()) == []
        assert list(store.verify(id)) == []
