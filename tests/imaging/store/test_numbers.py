"""Usage, differences and statistics say what is really there; outlines agree with manifests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.errors import ManifestError, ManifestMissing
from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest, merge_runs
from imaging.store import Region
from imaging.store.diff import regions
from imaging.store.outline import names, outline
from tests.imaging.store.samples import add_version, opened


def disk(*pieces: tuple[int, int], size: int = 40 * CHUNK_SIZE) -> DiskImage:
    """A disk without a table, used at (place on the grid, byte that its hash repeats)."""
    runs = merge_runs([(place << 20, min(CHUNK_SIZE, size - (place << 20))) for place, _ in pieces])
    return DiskImage(size, 512, None, (), runs, b"".join(bytes([name]) * 32 for _, name in sorted(pieces)))


def test_what_a_version_takes_alone_and_shares(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        a, _ = add_version(store, [1, 2, 3, 3])
        b, hashes = add_version(store, [3, 4, 5])
        c, _ = add_version(store, [5, 6])
        usage = store.usage([a, b, c])
        assert usage == {id: store.usage_of(id) for id in (a, b, c)}
        assert [(u.unique_chunks, u.shared_chunks) for u in usage.values()] == [(2, 1), (1, 2), (1, 1)]
        assert usage[b].unique_plain == CHUNK_SIZE
        assert usage[b].unique_stored == len(store.frame(hashes[1]))
        assert usage[b].shared_stored == len(store.frame(hashes[0])) + len(store.frame(hashes[2]))
        store.delete_manifest(a)
        assert store.usage_of(b).unique_chunks == 2
        with pytest.raises(ManifestMissing):
            store.usage_of(a)
        assert store.usage([b], stop=lambda: True) == {}


def test_the_store_in_numbers(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        empty = store.statistics()
        assert (empty.dedup_ratio, empty.compression_ratio, empty.waste) == (1.0, 1.0, 0)
        a, _ = add_version(store, [1, 2, 3, 3])
        add_version(store, [3, 4, 5])
        found = store.statistics()
        assert (found.manifests, found.chunks, found.damaged) == (2, 5, 0)
        assert found.named == 7 * CHUNK_SIZE
        assert found.plain == 5 * CHUNK_SIZE
        assert found.dedup_ratio == pytest.approx(7 / 5)
        assert found.compression_ratio > 50
        assert found.packed == sum(path.stat().st_size for path in (tmp_path / "packs").iterdir())
        assert found.packs == len(list((tmp_path / "packs").iterdir()))
        assert found.last_scrub == 0
        store.delete_manifest(a)
        store.prune()
        assert store.statistics().chunks == 3


def test_what_changed_between_two_versions_and_where(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        a, old = add_version(store, [1, 2, 3, 4, 4])
        b, new = add_version(store, [1, 7, 8, 4, 4, 9])
        found = store.diff(a, b)
        assert (found.added, found.removed, found.common) == (3, 2, 2)
        assert found.added_plain == 3 * CHUNK_SIZE
        assert found.added_stored == sum(len(store.frame(new[n])) for n in (1, 2, 5))
        assert found.removed_stored == sum(len(store.frame(old[n])) for n in (1, 2))
        assert found.regions == (
            Region(0, CHUNK_SIZE, 2 * CHUNK_SIZE, "changed", None),
            Region(0, 5 * CHUNK_SIZE, CHUNK_SIZE, "added", None),
        )
        back = store.diff(b, a)
        assert (back.added, back.removed) == (found.removed, found.added)
        assert store.diff(a, a).regions == ()


def test_regions_of_several_disks_and_of_a_disks_short_end() -> None:
    size = 3 * CHUNK_SIZE + 4096
    a = Manifest([disk((0, 1), (3, 2), size=size)])
    b = Manifest([disk((0, 1), (3, 3), size=size), disk((5, 4), (6, 4))])
    assert regions(a, b) == [
        Region(0, 3 * CHUNK_SIZE, 4096, "changed", None),
        Region(1, 5 * CHUNK_SIZE, 2 * CHUNK_SIZE, "added", None),
    ]
    assert [region.kind for region in regions(b, a)] == ["changed", "removed"]


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 20), st.integers(0, 255)), unique_by=lambda pair: pair[0]),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(deadline=None)
def test_an_outline_agrees_with_its_manifest(
    disks: list[tuple[list[tuple[int, int]], int]],
) -> None:
    manifest = Manifest([disk(*pieces, size=20 * CHUNK_SIZE + (1 + end) * 4096) for pieces, end in disks])
    data = manifest.to_bytes()
    assert list(names(data)) == list(manifest.hashes)
    assert [pair for found in outline(data) for pair in found.lengths()] == [
        (ref.hash, ref.length) for ref in manifest.chunks
    ]
    assert sum(found.plain for found in outline(data)) == sum(ref.length for ref in manifest.chunks)


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
@settings(deadline=None)
def test_an_outline_of_rubbish_is_refused_in_its_own_words(rubbish: bytes, at: int, value: int) -> None:
    sound = bytearray(Manifest([disk((0, 1), (3, 2))]).to_bytes())
    sound[at % len(sound)] = value
    for data in (rubbish, b"PXBMANIF" + rubbish, bytes(sound), bytes(sound)[:at]):
        try:
            outline(data)
        except ManifestError:
            continue
