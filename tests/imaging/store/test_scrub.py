"""The scrub finds what has changed, says whom it hits and what to do, and mends what can be mended."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from imaging.errors import ChunkInvalid, ImagingError
from imaging.store import ChunkStore
from tests.imaging.store.backends import PackBackend
from tests.imaging.store.directory import flip
from tests.imaging.store.samples import FakeTime, add_version, opened, text_chunk


def packs(path: Path) -> list[Path]:
    return sorted((path / "packs").glob("*.pack"))


def sql(path: Path, statement: str, *values: object) -> None:
    """Change the index behind the store's back."""
    with sqlite3.connect(path / "index.sqlite") as index:
        assert index.execute(statement, values).rowcount == 1
    index.close()


def test_a_sound_store_has_nothing_to_tell(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with opened(tmp_path) as store:
        add_version(store, range(12))
        report = store.scrub(progress=lambda done, total: seen.append((done, total)))
        assert (report.complete, report.chunks, report.damaged, report.repaired) == (True, 12, 0, 0)
        assert not report.findings
        assert not report.versions
        assert seen[-1] == (report.bytes, report.bytes)
        assert store.statistics().last_scrub > 0
        assert store.scrub().chunks == 12  # the next one begins at the start


def test_a_flipped_bit_in_a_pack_names_the_versions_it_hits(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        hit, hashes = add_version(store, range(8))
        also, _ = add_version(store, [3, 100])
        spared, _ = add_version(store, [100, 101])
    PackBackend(tmp_path).damage(hashes[3])
    with opened(tmp_path) as store:
        report = store.scrub()
        assert report.damaged == 1
        assert report.versions == {hit: 1, also: 1}
        assert spared not in report.versions
        (finding,) = report.findings
        assert (finding.kind, finding.name) == ("chunk", hashes[3].hex())
        assert set(finding.versions) == {hit, also}
        assert "capture the image again, or import it" in finding.sentence
        assert store.missing([hashes[3]]) == [True]
        with pytest.raises(ChunkInvalid):
            store.frame(hashes[3])
        # The next capture brings it, and all is well.
        assert store.add_frame(*text_chunk(3))
        store.commit()
        assert not store.scrub().findings


def test_a_damaged_chunk_that_no_version_needs_is_left_to_prune(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        id, hashes = add_version(store, range(3))
        store.delete_manifest(id)
    PackBackend(tmp_path).damage(hashes[0])
    with opened(tmp_path) as store:
        (finding,) = store.scrub().findings
        assert "no version needs it, prune the store" in finding.sentence
        store.prune()
        assert not store.scrub().findings


def test_manifests_and_signatures_are_looked_at(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        sound, _ = add_version(store, range(3))
        changed, _ = add_version(store, range(4))
        signed, _ = add_version(store, range(5))
        unsigned, _ = add_version(store, range(6))
    flip(tmp_path / "manifests" / f"{changed}.manifest", 200)
    flip(tmp_path / "manifests" / f"{signed}.sig", 20)
    (tmp_path / "manifests" / f"{unsigned}.sig").unlink()
    with opened(tmp_path) as store:
        good = bytes(range(64))
        report = store.scrub(check_signature=lambda data, signature: signature == good)
        assert {(f.kind, f.name) for f in report.findings} == {
            ("manifest", changed),
            ("signature", signed),
            ("signature", unsigned),
        }
        assert all(finding.versions == (finding.name,) for finding in report.findings)
        assert sound not in {finding.name for finding in report.findings}
        # Signing again heals: the manifest's own hash vouches for it.
        store.put_manifest(store.manifest(signed)[0], good)
        left = store.scrub(check_signature=lambda data, signature: signature == good).findings
        assert {f.name for f in left} == {changed, unsigned}


@pytest.mark.parametrize(
    "lie",
    [
        "UPDATE chunk SET offset = offset + 8 WHERE hash = ?",
        "UPDATE chunk SET offset = -8 WHERE hash = ?",
        "UPDATE chunk SET offset = 'x' WHERE hash = ?",
        "UPDATE chunk SET length = length - 1 WHERE hash = ?",
        "UPDATE chunk SET length = 1 << 61 WHERE hash = ?",
        "UPDATE chunk SET plain = plain - 1 WHERE hash = ?",
        "UPDATE chunk SET pack = pack + 1, offset = offset + 1 WHERE hash = ?",
        "UPDATE chunk SET pack = 1 << 50 WHERE hash = ?",
        "UPDATE chunk SET hash = zeroblob(32) WHERE hash = ?",
        "DELETE FROM chunk WHERE hash = ?",
        "UPDATE chunk SET damaged = 1 WHERE hash = ?",
    ],
)
def test_index_rows_that_lie_serve_nothing_wrong_and_are_put_right(tmp_path: Path, lie: str) -> None:
    with opened(tmp_path) as store:
        id, hashes = add_version(store, range(9))
        frames = [store.frame(hash) for hash in hashes]
    sql(tmp_path, lie, hashes[4])
    with opened(tmp_path) as store:
        for hash, frame in zip(hashes, frames, strict=True):
            try:
                assert store.frame(hash) == frame
            except ImagingError as error:
                assert hash == hashes[4], error  # noqa: PT017
    with opened(tmp_path) as store:
        report = store.scrub()
        assert not report.versions
        assert [store.frame(hash) for hash in hashes] == frames
        assert list(store.verify(id)) == []
        assert not store.scrub().versions


def test_a_pack_cut_short_or_gone_hits_what_was_in_it(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        id, hashes = add_version(store, range(20))
    first, second = packs(tmp_path)[:2]
    os.truncate(first, first.stat().st_size // 2)
    second.unlink()
    with opened(tmp_path) as store:
        report = store.scrub()
        assert 3 <= report.damaged < 20
        assert report.versions == {id: report.damaged}
        bad = [hash for hash, gone in zip(hashes, store.missing(hashes), strict=True) if gone]
        assert len(bad) == report.damaged == store.totals().damaged
        for seed in range(20):  # what a capture of the same disk does
            store.add_frame(*text_chunk(seed))
        store.commit()
        assert not store.scrub().findings
        assert list(store.verify(id)) == []


def test_the_rate_is_kept(tmp_path: Path) -> None:
    time = FakeTime()
    with opened(tmp_path) as store:
        add_version(store, range(12))
        report = store.scrub(10_000, clock=time.clock, sleep=time.sleep)
    assert report.bytes > 50_000
    assert time.now == pytest.approx(report.bytes / 10_000, rel=0.15)


def test_a_scrub_that_was_stopped_goes_on_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        id, hashes = add_version(store, range(30))
    PackBackend(tmp_path).damage(hashes[2])
    PackBackend(tmp_path).damage(hashes[28])
    reads: list[int] = []
    for _ in range(40):
        left = [9]

        def stop(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] < 0

        with opened(tmp_path) as store:
            report = store.scrub(stop=stop)
            reads.append(report.chunks)
            if report.complete:
                break
    assert len(reads) > 3
    assert reads == sorted(reads)
    assert reads[-1] == 30  # each once
    assert report.versions == {id: 2}
    with opened(tmp_path) as store:
        store.scrub(stop=lambda left=iter([False] * 10): next(left, True))
        assert store.scrub(restart=True).chunks == 30


def test_a_flipped_bit_in_the_index_never_serves_a_wrong_byte(tmp_path: Path) -> None:
    """At 60 random places of the index: every frame is right or refused, and a rebuilt index has them all."""
    with opened(tmp_path / "store") as store:
        id, hashes = add_version(store, range(40))
        frames = {hash: store.frame(hash) for hash in hashes}
    chance = random.Random(20261125)
    served = 0
    for number in range(60):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(tmp_path / "store", copy)
        index = copy / "index.sqlite"
        flip(index, chance.randrange(100, index.stat().st_size))
        try:
            with ChunkStore(copy, reserve=0) as store:
                for hash in hashes:
                    try:
                        assert store.frame(hash) == frames[hash]
                        served += 1
                    except ImagingError:
                        continue
                store.scrub()
        except ImagingError as error:
            assert "move it away" in str(error) or "index" in str(error)  # noqa: PT017
        if number % 6 == 0:
            for file in copy.glob("index.sqlite*"):
                file.unlink()
            with ChunkStore(copy, reserve=0) as store:
                assert list(store.verify(id)) == []
        shutil.rmtree(copy)
    assert served > 60 * 20
