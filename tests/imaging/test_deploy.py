"""Capture and deploy of plain files without a table: the engine itself, fast."""

import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.capture import BATCH, capture
from imaging.chunks import compress
from imaging.deploy import DiskWriter, deploy, scan, verify
from imaging.errors import (
    Cancelled,
    ChunkInvalid,
    DiskError,
    DiskTooSmall,
    UnsupportedDisk,
    VerifyFailed,
)
from imaging.manifest import ChunkRef, DiskImage, GptTable, Manifest, Partition, merge_runs
from imaging.store import ChunkStore

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChunkStore]:
    with ChunkStore(tmp_path / "store", reserve=0) as opened:
        yield opened


def disk_file(path: Path, size: int, *pieces: tuple[int, bytes]) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
    return path


def captured(disk: Path, store: ChunkStore, sent: list[int] | None = None) -> Manifest:
    def upload(frames: object) -> None:
        for hash, frame in frames:  # type: ignore[attr-defined]
            store.add_frame(hash, frame)
            if sent is not None:
                sent.append(len(frame))

    manifest = capture(disk, missing=store.missing, upload=upload)
    store.put_manifest(manifest.to_bytes(), bytes(64))
    return manifest


def fetching(store: ChunkStore, log: list[int] | None = None):  # type: ignore[no-untyped-def]
    def fetch(ref: ChunkRef) -> bytes:
        if log is not None:
            log.append(ref.index)
        return store.frame(ref.hash)

    return fetch


def test_a_disk_without_a_table_is_captured_whole_and_comes_back(tmp_path: Path, store: ChunkStore) -> None:
    source = disk_file(
        tmp_path / "a", 40 * MIB + 512, (3 * MIB, os.urandom(5 * MIB + 77)), (40 * MIB, os.urandom(512))
    )
    sent: list[int] = []
    manifest = captured(source, store, sent)
    assert len(manifest.chunks) == 41
    assert len(sent) == 8  # 6 of data, one of zeros, the short last one: 33 empty chunks are one
    target = disk_file(tmp_path / "b", 40 * MIB + 512, (MIB, b"foreign"))
    result = deploy(target, manifest, fetching(store))
    assert target.read_bytes() == source.read_bytes()
    assert (result.total, result.kept, result.written) == (41, 33, 8)
    assert result.fetched <= sum(sent) + 1000


def test_capturing_again_sends_nothing_and_gives_the_same_identity(tmp_path: Path, store: ChunkStore) -> None:
    source = disk_file(tmp_path / "a", 5 * MIB, (0, os.urandom(5 * MIB)))
    first = captured(source, store)
    sent: list[int] = []
    assert captured(source, store, sent).id == first.id
    assert sent == []


def test_a_second_deploy_brings_only_what_changed(tmp_path: Path, store: ChunkStore) -> None:
    source = disk_file(tmp_path / "a", 20 * MIB, (0, os.urandom(20 * MIB)))
    manifest = captured(source, store)
    target = disk_file(tmp_path / "b", 20 * MIB, (0, source.read_bytes()))
    with open(target, "r+b") as file:
        file.seek(7 * MIB + 5)
        file.write(b"spoiled")
    asked: list[int] = []
    result = deploy(target, manifest, fetching(store, asked))
    assert asked == [7]
    assert (result.kept, result.written) == (19, 1)
    assert target.read_bytes() == source.read_bytes()
    full: list[int] = []
    deploy(target, manifest, fetching(store, full), full=True)
    assert sorted(full) == list(range(20))


def masked(store: ChunkStore, size: int = 4 * MIB) -> Manifest:
    """A GPT image that uses two separate runs of one partition."""
    table = GptTable("54e9e10b-fea0-49ac-a1ef-ab679ecb431a", bytes(510) + b"\x55\xaa", 128, 34)
    kind = "0fc63daf-8483-4772-8e79-3d69d8477de4"
    part = Partition(1, kind, kind, "", 0, MIB, 2 * MIB, "ext4", "", "", 8192, "used")
    runs = merge_runs([(MIB, 4096), (2 * MIB + 500 * 1024, 4096)])
    data = [b"A" * 4096 + bytes(MIB - 4096), bytes(500 * 1024) + b"B" * 4096 + bytes(MIB - 504 * 1024)]
    from imaging.chunks import hash_chunk

    for chunk in data:
        store.add_frame(hash_chunk(chunk), compress(chunk))
    return Manifest([DiskImage(size, 512, table, (part,), runs, b"".join(map(hash_chunk, data)))])


def test_only_used_runs_are_written_and_compared(tmp_path: Path, store: ChunkStore) -> None:
    manifest = masked(store)
    target = disk_file(tmp_path / "b", 4 * MIB, (0, b"x" * 4 * MIB))
    deploy(target, manifest, fetching(store))
    data = target.read_bytes()
    assert data[MIB : MIB + 4096] == b"A" * 4096
    assert data[2 * MIB + 500 * 1024 : 2 * MIB + 504 * 1024] == b"B" * 4096
    assert set(data[MIB + (128 << 10) : 2 * MIB + 500 * 1024]) == {ord("x")}
    with open(target, "r+b") as file:
        file.seek(2 * MIB)
        file.write(b"the user's own files")
    assert verify(target, manifest).ok
    assert not any(scan(target, manifest))


def test_stale_signatures_at_a_partitions_ends_are_wiped(tmp_path: Path, store: ChunkStore) -> None:
    manifest = masked(store)
    btrfs, raid = MIB + 65600, 3 * MIB - 4096
    target = disk_file(tmp_path / "b", 4 * MIB, (btrfs, b"_BHRfS_M"), (raid, b"\xfc\x4e\x2b\xa9"))
    deploy(target, manifest, fetching(store))
    data = target.read_bytes()
    assert data[btrfs : btrfs + 8] == bytes(8)
    assert data[raid : raid + 4] == bytes(4)


@pytest.mark.parametrize("size", [4 * MIB, 9 * MIB, 3 * MIB + 33 * 512])
def test_both_tables_are_right_on_any_size_that_fits(tmp_path: Path, store: ChunkStore, size: int) -> None:
    manifest = masked(store)
    target = disk_file(tmp_path / "b", size)
    deploy(target, manifest, fetching(store))
    data = target.read_bytes()
    assert data[512:520] == data[-512:-504] == b"EFI PART"
    assert int.from_bytes(data[512 + 32 : 512 + 40], "little") == size // 512 - 1
    assert verify(target, manifest).table_ok
    with open(target, "r+b") as file:
        file.seek(size - 400)
        file.write(b"\xff")
    assert not verify(target, manifest).table_ok


def test_a_disk_too_small_is_refused_with_the_numbers_and_untouched(
    tmp_path: Path, store: ChunkStore
) -> None:
    manifest = masked(store)
    target = disk_file(tmp_path / "b", 3 * MIB + 32 * 512, (0, b"mine"))
    before = target.read_bytes()
    with pytest.raises(
        DiskTooSmall, match=f"has {3 * MIB + 32 * 512} bytes, the image needs {3 * MIB + 33 * 512}"
    ):
        deploy(target, manifest, fetching(store))
    assert target.read_bytes() == before


def test_disks_that_cannot_be_opened_say_why(tmp_path: Path, store: ChunkStore) -> None:
    manifest = masked(store)
    with pytest.raises(DiskError, match="cannot be opened"):
        deploy(tmp_path / "nothing", manifest, fetching(store))
    with pytest.raises(UnsupportedDisk, match="not a whole number"):
        capture(disk_file(tmp_path / "odd", 1000), missing=store.missing, upload=lambda frames: None)


def test_an_mbr_partition_that_leaves_the_disk_is_refused_with_a_way_out(
    tmp_path: Path, store: ChunkStore
) -> None:
    record = bytes.fromhex("80202100070000000008000000f00000")
    source = disk_file(tmp_path / "a", 4 * MIB, (446, record), (510, b"\x55\xaa"))
    with pytest.raises(UnsupportedDisk, match=r"Partition 1 ends .* make it smaller"):
        captured(source, store)


def test_damaged_frames_never_reach_the_disk(tmp_path: Path, store: ChunkStore) -> None:
    manifest = masked(store)
    good = [store.frame(ref.hash) for ref in manifest.chunks]
    target = disk_file(tmp_path / "b", 4 * MIB)
    with DiskWriter(target, manifest) as writer:
        for bad in (b"", good[1], good[0][:-1], bytes(len(good[0])), good[0] + b"x"):
            assert writer.accept(0, bad) is False
        assert not writer.accept(-1, good[0])
        assert not writer.accept(2, good[0])
        assert writer.remaining == 2
        with pytest.raises(ValueError, match="2 chunks"):
            writer.finish()
        assert target.read_bytes() == bytes(4 * MIB)
        assert writer.accept(0, good[0]) is True
        assert writer.accept(0, b"late and damaged") is True  # it is in place: nothing to ask for again
        assert list(writer.want) == [0, 1]


def test_a_source_that_keeps_sending_damage_ends_the_deploy(tmp_path: Path, store: ChunkStore) -> None:
    manifest = masked(store)
    target = disk_file(tmp_path / "b", 4 * MIB)
    asked: list[int] = []

    def fetch(ref: ChunkRef) -> bytes:
        asked.append(ref.index)
        return b"damaged" if ref.index == 1 else store.frame(ref.hash)

    with pytest.raises(ChunkInvalid, match="every time"):
        deploy(target, manifest, fetch)
    assert asked.count(1) == 3
    assert target.read_bytes()[:1024] == bytes(1024)  # no table: it does not look bootable


def test_a_deploy_that_was_cut_off_is_finished_by_the_next(tmp_path: Path, store: ChunkStore) -> None:
    source = disk_file(tmp_path / "a", 30 * MIB, (0, os.urandom(30 * MIB)))
    manifest = captured(source, store)
    target = disk_file(tmp_path / "b", 30 * MIB)

    def cut(stage: str, done: int, total: int) -> None:
        if stage == "write" and done > total // 2:
            raise Cancelled("The power went.")

    with pytest.raises(Cancelled):
        deploy(target, manifest, fetching(store), cut)
    again: list[int] = []
    result = deploy(target, manifest, fetching(store, again))
    assert result.kept >= 15
    assert len(again) == result.written == 30 - result.kept
    assert target.read_bytes() == source.read_bytes()


def test_frames_from_many_threads_in_any_order(tmp_path: Path, store: ChunkStore) -> None:
    source = disk_file(tmp_path / "a", 24 * MIB, (0, os.urandom(24 * MIB)))
    manifest = captured(source, store)
    target = disk_file(tmp_path / "b", 24 * MIB)
    with DiskWriter(target, manifest) as writer:

        def feed(seed: int) -> None:
            order = list(range(24))
            random.Random(seed).shuffle(order)
            for index in order:
                assert writer.accept(index, store.frame(manifest.chunks[index].hash))

        threads = [threading.Thread(target=feed, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (writer.remaining, writer.written, writer.bytes_written) == (0, 24, 24 * MIB)
        writer.finish()
    assert target.read_bytes() == source.read_bytes()


def test_a_disk_that_does_not_keep_what_is_written_fails(tmp_path: Path, store: ChunkStore) -> None:
    source = disk_file(tmp_path / "a", 3 * MIB, (0, os.urandom(3 * MIB)))
    manifest = captured(source, store)
    target = disk_file(tmp_path / "b", 3 * MIB)

    def spoil(stage: str, done: int, total: int) -> None:
        if stage == "write" and done == total:
            os.pwrite(spoiler, b"\0" * 100, MIB)

    spoiler = os.open(target, os.O_RDWR)
    try:
        with pytest.raises(VerifyFailed, match="replace it"):
            deploy(target, manifest, fetching(store), spoil)
    finally:
        os.close(spoiler)


def test_capture_asks_and_sends_in_small_batches_and_progress_is_monotonic(
    tmp_path: Path, store: ChunkStore
) -> None:
    source = disk_file(tmp_path / "a", 50 * MIB, (0, os.urandom(50 * MIB)))
    asked, sent, progress = [], [], []

    def missing(hashes: list[bytes]) -> list[bool]:
        asked.append(len(hashes))
        return store.missing(hashes)

    manifest = capture(
        source,
        missing=missing,  # type: ignore[arg-type]
        upload=lambda frames: sent.append([hash for hash, _ in frames]),
        progress=lambda stage, done, total: progress.append((stage, done, total)),
    )
    assert max(asked) <= BATCH
    assert [hash for batch in sent for hash in batch] == list(manifest.hashes)  # disk order
    uploads = [done for stage, done, _ in progress if stage == "upload"]
    assert uploads == sorted(uploads)
    assert progress[-1] == ("upload", 50 * MIB, 50 * MIB)


def test_a_failing_upload_stops_the_capture(tmp_path: Path, store: ChunkStore) -> None:
    source = disk_file(tmp_path / "a", 60 * MIB, (0, os.urandom(60 * MIB)))
    calls = []

    def upload(frames: object) -> None:
        calls.append(1)
        raise ConnectionError("the server is gone")

    with pytest.raises(ConnectionError):
        capture(source, missing=store.missing, upload=upload)
    assert len(calls) == 1
