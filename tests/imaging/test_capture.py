"""A capture reads only, takes what was chosen, refuses by name what nobody knows, goes on after a kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from imaging.capture import capture
from imaging.chunks import hash_chunk, open_frame
from imaging.deploy import deploy
from imaging.disk import loop
from imaging.errors import FilesystemUnsupported, StoreFull
from imaging.manifest import Manifest
from imaging.options import CaptureOptions, OptionsError
from imaging.store import ChunkStore
from tests.imaging import disks
from tests.imaging.disks import MIB, PARTITIONS, put, run

pytestmark = pytest.mark.disk


def captured(disk: Path | str, store: ChunkStore, **options: object) -> Manifest:
    manifest = capture(
        disk,
        missing=store.missing,
        upload=lambda frames: [store.add_frame(hash, frame) for hash, frame in frames],
        options=CaptureOptions(**options),  # type: ignore[arg-type]
    )
    store.put_manifest(manifest.to_bytes(), bytes(64))
    return manifest


def writable(path: Path) -> list[str]:
    """Descriptors of this process and its children by which ``path`` or a loop device could be written."""
    found = []
    for process in ("self", *Path("/proc/self/task").glob("*/children")):
        for pid in [process] if isinstance(process, str) else process.read_text().split():
            for link in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    target, facts = os.readlink(link), Path(f"/proc/{pid}/fdinfo/{link.name}").read_text()
                except OSError:
                    continue
                flags = int(
                    next(line for line in facts.splitlines() if line.startswith("flags")).split()[1], 8
                )
                if (
                    target == str(path) or target.startswith("/dev/loop")
                ) and flags & os.O_ACCMODE != os.O_RDONLY:
                    found.append(f"{target} {oct(flags)}")
    return found


def test_the_source_is_only_ever_open_for_reading(
    source: Path, store: ChunkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    looks = 0
    popen = subprocess.Popen.communicate

    def spying(self: subprocess.Popen[bytes], *arguments: object, **more: object) -> object:
        nonlocal looks
        looks += 1
        seen.extend(writable(source))  # partclone runs now, on a loop device
        for device in Path("/sys/block").glob("loop*/loop/backing_file"):
            if device.read_text().strip() == str(source):
                assert (device.parents[1] / "ro").read_text() == "1\n"
        return popen(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(subprocess.Popen, "communicate", spying)

    def upload(frames: Sequence[tuple[bytes, bytes]]) -> None:
        seen.extend(writable(source))
        for hash, frame in frames:
            store.add_frame(hash, frame)

    before = source.stat()
    capture(source, missing=store.missing, upload=upload)
    assert looks >= 2
    assert seen == []
    after = source.stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    with open(source, "r+b") as file, loop.loop_device(file.fileno(), write=True):
        assert writable(source), "the test sees a descriptor that could write"


def test_chosen_partitions_are_all_that_is_taken_and_all_that_is_written(
    source: Path, store: ChunkStore, tmp_path: Path
) -> None:
    manifest = captured(source, store, partitions=(2, 3))
    modes = {p.number: (p.filesystem, p.capture, p.used > 0) for p in manifest.disks[0].partitions}
    assert modes == {
        1: ("unknown", "none", False),
        2: ("fat", "used", True),
        3: ("ext4", "used", True),
        4: ("ntfs", "none", False),
        5: ("swap", "none", False),
    }
    _, start, size = PARTITIONS["root"]
    assert sum(manifest.disks[0].runs[-1]) <= start + size
    target = tmp_path / "target.img"
    target.write_bytes(b"")
    os.truncate(target, disks.SIZE)
    for name in ("bios", "ntfs", "swap"):
        put(target, PARTITIONS[name][1], name.encode() * (PARTITIONS[name][2] // len(name)))
    others = target.read_bytes()
    deploy(target, manifest, lambda ref: store.frame(ref.hash))
    for name in ("bios", "ntfs", "swap"):
        _, start, size = PARTITIONS[name]
        with open(target, "rb") as file:
            file.seek(start)
            assert file.read(size) == others[start : start + size], f"{name} was not chosen"


def test_a_partition_that_is_not_there_is_refused_with_those_that_are(
    source: Path, store: ChunkStore
) -> None:
    with pytest.raises(OptionsError, match=r"cannot be 7: this disk has the partitions 1, 2, 3, 4, 5"):
        captured(source, store, partitions=(3, 7))


@pytest.mark.parametrize(
    ("at", "magic", "kind", "words"),
    [
        (0, b"LUKS\xba\xbe\0\2", "luks", "is encrypted"),
        (3, b"-FVE-FS-", "bitlocker", "manage-bde -off"),
        (0, b"\0", "unknown", "holds nothing that is known"),
        (3, b"ReFS\0\0\0\0", "refs", "no readable map"),
        (32, b"NXSB", "apfs", "no readable map"),
    ],
)
def test_what_cannot_be_known_is_named_and_taken_whole_when_asked(
    source: Path, store: ChunkStore, at: int, magic: bytes, kind: str, words: str
) -> None:
    _, start, size = PARTITIONS["ntfs"]
    with open(source, "r+b") as file:
        file.seek(start)
        file.write(bytes(128 << 10))
        file.seek(start + at)
        file.write(magic)
    with pytest.raises(FilesystemUnsupported, match=rf"^Partition 4 \({kind}\)") as caught:
        captured(source, store)
    assert caught.value.code == "filesystem-unsupported"
    assert words in str(caught.value)
    assert f"name “{kind}” in the capture option “whole”" in str(caught.value)
    with pytest.raises(FilesystemUnsupported):
        captured(source, store, whole=("mdraid",))
    partition = captured(source, store, whole=(kind,)).disks[0].partitions[3]
    assert (partition.filesystem, partition.capture, partition.used) == (kind, "whole", size)
    assert captured(source, store, partitions=(1, 2, 3, 5)).disks[0].partitions[3].capture == "none"


def test_a_disk_without_a_table_is_one_file_system(store: ChunkStore, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"")
    os.truncate(path, 64 * MIB)
    run("mkfs.ext4", "-q", "-F", path)
    manifest = captured(path, store)
    assert (manifest.disks[0].table, manifest.disks[0].partitions) == (None, ())
    assert manifest.used < 16 * MIB
    with open(path, "r+b") as file:
        file.write(b"LUKS\xba\xbe\0\2".ljust(4096, b"\0"))
    with pytest.raises(FilesystemUnsupported, match=r"^The disk \(luks\) is encrypted"):
        captured(path, store)


KILLED = """
import sys, time
from imaging.capture import capture
from imaging.store import ChunkStore
with ChunkStore(sys.argv[2], reserve=0) as store:
    def upload(frames):
        for hash, frame in frames:
            store.add_frame(hash, frame)
        store.commit()
        print(len(frames), flush=True)
        time.sleep(60)  # it is killed meanwhile
    capture(sys.argv[1], missing=store.missing, upload=upload)
"""


def test_a_killed_capture_goes_on_where_it_was(source: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(source), str(tmp_path / "store")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    sent = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL

    with ChunkStore(tmp_path / "store", reserve=0) as store:
        assert store.manifests() == [], "no version before it is complete"
        rest: list[bytes] = []
        manifest = capture(
            source,
            missing=store.missing,
            upload=lambda frames: rest.extend(hash for hash, frame in frames if store.add_frame(hash, frame)),
        )
        store.put_manifest(manifest.to_bytes(), bytes(64))
        assert list(store.verify(manifest.id)) == []
        assert len(rest) == len(set(manifest.hashes)) - sent
        assert 0 < sent < len(set(manifest.hashes))


ANYTHING = CaptureOptions(whole=("unknown",))


def test_what_the_other_side_has_and_what_comes_twice_is_not_sent(tmp_path: Path) -> None:
    """More chunks than buffers, so that buffers go round: none may be used again too early."""
    dice = random.Random(8)
    kinds = [dice.randbytes(MIB) for _ in range(5)]
    chunks = [dice.choice(kinds) for _ in range(60)] + [dice.randbytes(4096) * 256 for _ in range(60)]
    dice.shuffle(chunks)
    chunks.insert(0, b"\1" * MIB)  # nothing that chance could make look like a file system
    disk = tmp_path / "disk"
    disk.write_bytes(b"".join(chunks))
    known = hash_chunk(kinds[0])
    sent: dict[bytes, bytes] = {}

    def upload(frames: Sequence[tuple[bytes, bytes]]) -> None:
        for hash, frame in frames:
            assert hash not in sent
            sent[hash] = open_frame(hash, frame)

    manifest = capture(
        disk, missing=lambda hashes: [hash != known for hash in hashes], upload=upload, options=ANYTHING
    )
    assert list(manifest.hashes) == [hash_chunk(chunk) for chunk in chunks]
    assert sent.keys() == set(manifest.hashes) - {known}


def test_a_store_without_room_is_known_before_anything_travels(source: Path, store: ChunkStore) -> None:
    def room(needed: int) -> None:
        assert 5 * MIB < needed < 40 * MIB
        raise StoreFull("store", needed, 1000, 0)

    def upload(frames: object) -> None:
        pytest.fail("something travelled")

    with pytest.raises(StoreFull):
        capture(source, missing=store.missing, upload=upload, room=room)
