"""After the proof: file systems that fit their partitions on larger and smaller disks, and new names."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from imaging.agent.afterwards import afterwards
from imaging.agent.disks import file_disk
from imaging.agent.progress import Progress
from imaging.agent.report import outcome
from imaging.agent.server import Server
from imaging.capture import capture
from imaging.deploy import deploy
from imaging.disk import gpt
from imaging.disk.device import Disk
from imaging.disk.loop import loop_device
from imaging.disk.table import read_table
from imaging.errors import ResizeFailed
from imaging.manifest import Manifest, Partition
from imaging.options import DeployOptions
from imaging.placement import Placement, plan
from imaging.store import ChunkStore
from imaging.target import assign
from tests.imaging.agent.conftest import Typist
from tests.imaging.agent.room import Room
from tests.imaging.disks import put, run
from tests.imaging.resize.samples import MAKERS, MIB, check, fill, tree

pytestmark = pytest.mark.disk

SIZE = 400 * MIB


@pytest.fixture
def progress(room: Room) -> Progress:
    return Progress("1", Server("http://127.0.0.1:9", patience=0), Typist().console)


def source(tmp_path: Path, kind: str, *, before: int = 8, behind: int = 8) -> Path:
    """EFI system partition, the file system in question, and a swap area behind it."""
    path = tmp_path / "source"
    with open(path, "wb") as file:
        file.truncate(SIZE)
    size = SIZE // MIB - before - behind - 4
    run(
        "sgdisk", f"-n1:2048:+{before}M", "-t1:ef00", f"-n2:0:+{size}M", f"-n3:0:+{behind}M", "-t3:8200", path
    )  # fmt: skip
    for number, content in ((1, "fat"), (2, kind), (3, "swap")):
        p = partition(path, number)
        part = tmp_path / "part"
        with open(part, "wb") as file:
            file.truncate(p.size)
        if content == "fat":
            run("mkfs.vfat", part)
        else:
            MAKERS[content](part)
        if number == 2:
            fd = os.open(part, os.O_RDWR)
            with loop_device(fd, size=p.size, write=True) as device:
                fill(device, kind, 40)
            os.close(fd)
        put(path, p.start, part.read_bytes())
        part.unlink()
    return path


def partition(path: Path, number: int) -> Partition:
    with Disk(path) as disk:
        return next(p for p in gpt.read(disk.read_at, disk.size, 512)[1] if p.number == number)


def files(path: Path, kind: str, *, checked: bool = True) -> dict[str, str]:
    p = partition(path, 2)
    fd = os.open(path, os.O_RDWR)
    try:
        with loop_device(fd, offset=p.start, size=p.size, write=True) as device:
            if checked:
                check(device, kind)
            return tree(device, kind)
    finally:
        os.close(fd)


def put_down(path: Path, manifest: Manifest, placement: Placement, target: Path, spill: int = -1) -> None:
    """What the deploy does before: used bytes to their places, the end of a cut partition beside the disk."""
    image = manifest.disks[0]
    with open(target, "wb") as file:
        file.truncate(placement.size)
    fd, to = os.open(path, os.O_RDONLY), os.open(target, os.O_RDWR)
    try:
        for start, length in image.runs:
            for piece in placement.pieces(start, length):
                data = os.pread(fd, piece.length, piece.source)
                if piece.target >= placement.size:
                    os.pwrite(spill, data, piece.target - placement.size)
                else:
                    os.pwrite(to, data, piece.target)
        assert image.table is not None
        for at, data in gpt.render(image.table, placement.partitions, placement.size, 512):
            os.pwrite(to, data, at)
    finally:
        os.close(fd)
        os.close(to)


def captured(path: Path) -> Manifest:
    return capture(path, missing=lambda hashes: [False] * len(hashes), upload=lambda frames: None)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "ntfs"])
def test_a_larger_disk_is_filled_by_the_last_file_system_that_can_grow(
    kind: str, tmp_path: Path, progress: Progress
) -> None:
    path, target, typist = source(tmp_path, kind), tmp_path / "target", Typist()
    before = files(path, kind)
    manifest = captured(path)
    placement = plan(manifest.disks[0], SIZE + 256 * MIB, DeployOptions(grow="last"))
    put_down(path, manifest, placement, target)
    old, new = partition(path, 2), partition(target, 2)
    task: dict[str, Any] = {"deploy": {"grow": "last"}}
    afterwards(task, manifest, placement, file_disk(str(target)), typist.console, progress, simulated=True)
    assert files(target, kind) == before
    assert f"agent: grown partition=2 filesystem={kind} from={old.size} to={new.size}" in typist.screen
    assert 256 * MIB <= new.size - old.size < 260 * MIB  # also what the source had left free
    assert outcome(None, None, progress)["afterwards"] == {"grown": {"2": [old.size, new.size]}}


@pytest.mark.parametrize("kind", ["ext4", "ntfs"])
def test_a_smaller_disk_gets_all_files_also_those_behind_its_end(
    kind: str, tmp_path: Path, progress: Progress
) -> None:
    path, target, typist = source(tmp_path, kind), tmp_path / "target", Typist()
    before = files(path, kind)
    manifest = captured(path)
    size = 200 * MIB
    placement = plan(manifest.disks[0], size, DeployOptions(shrink=True), spill_limit=SIZE)
    assert placement.cut is not None
    cut, image = placement.cut, manifest.disks[0]
    end = partition(path, 2).start + cut.size
    behind = sum(length for start, length in image.runs if start >= end and start < end + cut.spill)
    assert behind > MIB, "nothing to move: the test would prove nothing"
    with tempfile.TemporaryFile(dir=tmp_path) as spill:
        os.ftruncate(spill.fileno(), cut.spill)
        put_down(path, manifest, placement, target, spill.fileno())
        afterwards(
            {}, manifest, placement, file_disk(str(target)), typist.console, progress,
            spill=spill.fileno(), simulated=True,
        )  # fmt: skip
    assert target.stat().st_size == size
    assert files(target, kind) == before
    assert before
    assert f"agent: shrunk partition=2 filesystem={kind} from={cut.full} to={cut.size}" in typist.screen
    run("sgdisk", "-v", target)
    swap = partition(target, 3)
    with Disk(target) as disk:
        assert disk.read_at(swap.start + 4086, 10) == b"SWAPSPACE2"


def test_identities_are_kept_unless_the_task_says_otherwise(tmp_path: Path, progress: Progress) -> None:
    path, target, typist = source(tmp_path, "ext4"), tmp_path / "target", Typist()
    manifest = captured(path)
    placement = Placement.identity(manifest.disks[0])
    put_down(path, manifest, placement, target)
    chosen = file_disk(str(target))
    same = afterwards({}, manifest, placement, chosen, typist.console, progress, simulated=True)
    assert same == placement.partitions
    task = {"deploy": {"identities": "renew"}}
    renewed = afterwards(task, manifest, placement, chosen, typist.console, progress, simulated=True)
    for old, new in zip(placement.partitions, renewed, strict=True):
        assert new.unique_guid != old.unique_guid
        assert new.uuid != old.uuid
        assert partition(target, new.number).unique_guid == new.unique_guid
    assert "agent: identities renewed=3 kept=none disk=renewed files=0" in typist.screen
    assert progress.afterwards["identities"]["disk"] == "renewed"
    assert files(target, "ext4") == files(path, "ext4")


def test_a_file_system_that_does_not_grow_ends_the_task_and_names_its_partition(
    tmp_path: Path, progress: Progress
) -> None:
    path, target, typist = source(tmp_path, "ext4"), tmp_path / "target", Typist()
    manifest = captured(path)
    placement = plan(manifest.disks[0], SIZE + 64 * MIB, DeployOptions(grow="last"))
    put_down(path, manifest, placement, target)
    with open(target, "r+b") as file:  # the superblock is gone: a disk that forgets
        file.seek(partition(target, 2).start)
        file.write(bytes(256 * 1024))
    with pytest.raises(
        ResizeFailed, match=r"^Partition 2 \(ext4\) was not grown: e2fsck failed .*capture again"
    ):
        afterwards({}, manifest, placement, file_disk(str(target)), typist.console, progress, simulated=True)


# --- what a volume says of its own place ---

#: number -> (first MiB, MiB); sectors before it as its maker knew them.
PLACES = {1: (1, 40), 2: (41, 40), 5: (82, 24), 6: (107, 24)}
MAKE: dict[int, tuple[str, ...]] = {
    1: ("mkntfs", "-q", "-Q", "-F", "-s", "512", "-H", "16", "-S", "63", "-p", "2048"),
    2: ("mkfs.vfat", "-F", "32", "-s", "1", "-h", str(41 * 2048)),
    5: ("mkntfs", "-q", "-Q", "-F", "-s", "512", "-H", "16", "-S", "63", "-p", str(82 * 2048)),
    6: ("mkfs.vfat", "-F", "16", "-h", "2048"),
}


def volumes(path: Path, scratch: Path, label: str) -> Path:
    """NTFS that will grow, FAT32 behind it, then NTFS and FAT16 (with an MBR: logical ones)."""
    with open(path, "wb") as file:
        file.truncate(136 * MIB)
    lines = [f"label: {label}"]
    for number, (start, size) in PLACES.items():
        if label == "dos" and number == 5:
            lines.append(f"3: start={81 * 2048}, size={50 * 2048}, type=f")
        kind = "" if label == "gpt" else ", type=7"
        lines.append(f"{number}: start={start * 2048}, size={size * 2048}{kind}")
    run("sfdisk", "-q", "--no-reread", path, input="\n".join(lines).encode() + b"\n")
    for number, (start, size) in PLACES.items():
        part = scratch / "volume"
        part.write_bytes(bytes(size * MIB))
        run(*MAKE[number], part)
        put(path, start * MIB, part.read_bytes())
    return path


def hidden(path: Path, at: int) -> int:
    """The sectors before it that the boot sector at this byte of the disk names."""
    with open(path, "rb") as file:
        file.seek(at + 0x1C)
        return int.from_bytes(file.read(4), "little")


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_volumes_that_moved_say_where_they_are_now(label: str, tmp_path: Path, progress: Progress) -> None:
    path, target = volumes(tmp_path / "source", tmp_path, label), tmp_path / "target"
    with open(target, "wb") as file:
        file.truncate(200 * MIB)
    with ChunkStore(tmp_path / "chunks", reserve=0) as store:
        manifest = capture(path, missing=store.missing, upload=lambda f: [store.add_frame(*x) for x in f])
        for again in (False, True):  # the second time most of it is there already
            typist = Typist()
            given = assign(manifest, 0, str(target), DeployOptions(grow=(1,)))
            assert given.placement is not None
            done = deploy(given, manifest, lambda ref: store.frame(ref.hash))
            assert (done.kept > 1) is again  # zeros in front of the first partition were right before
            afterwards(
                {"deploy": {"grow": [1]}}, manifest, given.placement, file_disk(str(target)), typist.console,
                progress, simulated=True,
            )  # fmt: skip
            assert (
                f"agent: moved boot sectors partitions={'2,5' if label == 'dos' else '2,5,6'}"
                in typist.screen
            )
    with Disk(target) as disk:
        now = {p.number: p for p in read_table(disk)[1]}
    assert now[1].size > 100 * MIB
    assert now[2].start > 100 * MIB
    starts = {number: p.start // 512 for number, p in now.items()}
    assert hidden(target, now[1].start) == hidden(target, now[1].start + now[1].size - 512) == 2048
    assert hidden(target, now[2].start) == hidden(target, now[2].start + 6 * 512) == starts[2]
    assert hidden(target, now[5].start) == hidden(target, now[5].start + now[5].size - 512) == starts[5]
    # Its maker counted from the extended boot record; with a GPT that number was never right.
    assert hidden(target, now[6].start) == (2048 if label == "dos" else starts[6])
    for number in now:
        fd = os.open(target, os.O_RDWR)
        with loop_device(fd, offset=now[number].start, size=now[number].size, write=True) as device:
            check(device, "ntfs" if number in (1, 5) else "fat")
        os.close(fd)


def test_a_disk_that_does_not_keep_a_boot_sector_is_named(
    tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = volumes(tmp_path / "source", tmp_path, "gpt"), tmp_path / "target"
    manifest = captured(path)
    placement = plan(manifest.disks[0], 200 * MIB, DeployOptions(grow=(1,)))
    put_down(path, manifest, placement, target)
    monkeypatch.setattr("imaging.agent.afterwards.write_exactly", lambda fd, data, at: None)
    with pytest.raises(ResizeFailed, match=r"^Partition 2 \(fat\) was not moved: .*Replace the disk"):
        afterwards(
            {}, manifest, placement, file_disk(str(target)), Typist().console, progress, simulated=True
        )
