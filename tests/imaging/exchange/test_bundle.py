"""A version travels to another server in one file, and nothing changes on the way unnoticed."""

import io
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.chunks import compress, hash_chunk
from imaging.errors import ImagingError
from imaging.exchange import bundle
from imaging.exchange.errors import BundleInvalid
from imaging.manifest import DiskImage, Manifest, Runs
from imaging.store import ChunkStore

MIB = 1 << 20
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw().hex()
CHUNKS = [os.urandom(1000) + bytes(MIB - 1000) for _ in range(3)]
CHUNKS.append(CHUNKS[0])  # one that comes twice travels once
FRAMES = {hash_chunk(chunk): compress(chunk) for chunk in CHUNKS}
MANIFEST = Manifest(
    [DiskImage(4 * MIB, 512, None, (), Runs([(0, 4 * MIB)]), b"".join(map(hash_chunk, CHUNKS)))]
)
TOLD = bundle.Description("debian", "debian@3", "with Ünicode", "2026-11-25T00:00:00Z", PUBLIC)


def made(description: bundle.Description = TOLD) -> bytes:
    out = io.BytesIO()
    data = MANIFEST.to_bytes()
    assert bundle.write(out, description, data, KEY.sign(data), FRAMES.__getitem__) == len(out.getvalue())
    return out.getvalue()


WHOLE = made()


def taken(path: Path, store: ChunkStore, trusted: str = PUBLIC) -> tuple[bundle.Opened, int]:
    sent = []

    def upload(records: object) -> None:
        for hash, frame in records:  # type: ignore[attr-defined]
            sent.append(hash)
            store.add_frame(hash, frame)

    opened = bundle.read(path, trusted=frozenset({trusted}), missing=store.missing, upload=upload)
    return opened, len(sent)


def test_a_bundle_brings_a_version_and_only_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "debian.pxi"
    path.write_bytes(WHOLE)
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        store.add_frame(*next(iter(FRAMES.items())))
        opened, sent = taken(path, store)
        assert (opened.description, opened.manifest, sent) == (TOLD, MANIFEST, 2)
        assert store.put_manifest(opened.manifest.to_bytes(), bytes(64)) == MANIFEST.id
        assert taken(path, store)[1] == 0


def test_a_strangers_signature_is_shown_and_nothing_stored(tmp_path: Path) -> None:
    path = tmp_path / "debian.pxi"
    path.write_bytes(WHOLE)
    assert bundle.look(path).description.key == PUBLIC
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        with pytest.raises(bundle.SignerUnknown, match=PUBLIC):
            taken(path, store, "00" * 32)
        assert store.totals().chunks == 0


def test_a_forged_key_or_description_does_not_pass(tmp_path: Path) -> None:
    path = tmp_path / "debian.pxi"
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    for key in (other, "nonsense", ""):
        path.write_bytes(made(bundle.Description("a", "b", "", "", key)))
        with pytest.raises(BundleInvalid, match="signature does not fit"):
            bundle.look(path)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255), st.booleans())
def test_no_changed_byte_and_no_cut_passes(
    tmp_path_factory: pytest.TempPathFactory, at: int, mask: int, cut: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.pxi"
    data = bytearray(WHOLE)
    if cut:
        del data[at:]
    else:
        data[at] ^= mask
    path.write_bytes(data)
    stored: dict[bytes, bytes] = {}
    with pytest.raises(ImagingError):
        bundle.read(
            path,
            trusted=frozenset({PUBLIC}),
            missing=lambda hashes: [True] * len(hashes),
            upload=lambda records: stored.update(records),
        )
    assert all(FRAMES[hash] == frame for hash, frame in stored.items())


def test_bytes_behind_the_end_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "long.pxi"
    path.write_bytes(WHOLE + b"x")
    with ChunkStore(tmp_path / "store", reserve=0) as store, pytest.raises(BundleInvalid, match="goes on"):
        taken(path, store)
