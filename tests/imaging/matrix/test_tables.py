"""Disks of every kind of table go there and back: MBR with logical partitions, 4096-byte sectors, two disks.

Made with sfdisk and sgdisk and judged by them, filled with real file systems and judged by theirs.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from imaging.capture import capture, capture_disks
from imaging.customise import set_hostname
from imaging.deploy import deploy, verify
from imaging.disk.device import Disk
from imaging.disk.inspect import read_layout
from imaging.disk.loop import loop_device
from imaging.errors import DiskTooSmall, UnsupportedDisk
from imaging.manifest import GptTable, Manifest, MbrTable
from imaging.options import DeployOptions
from imaging.placement import plan
from imaging.store import ChunkStore
from imaging.target import Assignment
from tests.imaging.disks import MIB, put, run

pytestmark = pytest.mark.disk

SIZE = 96 * MIB
CODE = os.urandom(30_000)
SIGNATURE = "0x5eedc0de"


class Part(NamedTuple):
    number: int
    start: int
    """MiB, like the size."""
    size: int
    kind: str
    filesystem: str


MBR_PARTS = (
    Part(1, 1, 20, "7", "ntfs"),
    Part(2, 21, 12, "c", "fat"),
    Part(5, 34, 24, "83", "ext4"),
    Part(6, 59, 10, "82", "swap"),
    Part(7, 70, 20, "83", "ext4"),
)
EXTENDED = "start=33MiB, size=60MiB, type=f"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChunkStore]:
    with ChunkStore(tmp_path / "store", reserve=0) as opened:
        yield opened


def blank(path: Path, size: int = SIZE, *, noise: bool = False) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
        for _ in range(size // MIB if noise else 0):
            file.write(os.urandom(4096) * 256)
    return path


def make_mbr_disk(path: Path, scratch: Path, sector_size: int = 512) -> Path:
    """NTFS (active) and FAT as primaries, two ext4 and swap as logical ones, boot code before them."""
    blank(path)
    unit = MIB // sector_size
    script = f"label: dos\nlabel-id: {SIGNATURE}\n"
    for p in MBR_PARTS:
        if p.number == 5:
            script += EXTENDED.replace("33MiB", str(33 * unit)).replace("60MiB", str(60 * unit)) + "\n"
        active = ", bootable" if p.number == 1 else ""
        script += f"start={p.start * unit}, size={p.size * unit}, type={p.kind}{active}\n"
    with open(path, "r+b") as file, loop_device(file.fileno(), write=True, sector_size=sector_size) as device:
        run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", device, input=script.encode())
    put(path, 0, b"\xeb\x63\x90" + CODE[:430])
    put(path, sector_size, CODE)
    for p in MBR_PARTS:
        put(path, p.start * MIB, made(p, scratch, sector_size).read_bytes())
    return path


def made(p: Part, scratch: Path, sector_size: int = 512) -> Path:
    part = blank(scratch / f"part{p.number}", p.size * MIB)
    if p.filesystem == "ntfs":
        run("mkntfs", "-Q", "-F", "-s", str(sector_size), "-p", "0", "-H", "0", "-S", "0", part)
    elif p.filesystem == "fat":
        run("mkfs.vfat", "-S", str(sector_size), "-F", "16" if sector_size == 512 else "12", part)
    elif p.filesystem == "swap":
        run("mkswap", part)
    else:
        tree = scratch / f"tree{p.number}"
        (tree / "etc").mkdir(parents=True, exist_ok=True)
        (tree / "etc/hostname").write_text(f"reference{p.number}\n")
        (tree / "data").write_bytes(os.urandom(3 * MIB))
        run("mkfs.ext4", "-q", "-F", "-d", tree, part)
    return part


def captured(disk: Path | str, store: ChunkStore) -> Manifest:
    manifest = capture(
        disk,
        missing=store.missing,
        upload=lambda frames: [store.add_frame(hash, frame) for hash, frame in frames],
    )
    store.put_manifest(manifest.to_bytes(), bytes(64))
    return Manifest.from_bytes(store.manifest(manifest.id)[0])


def deployed(disk: Path | str, manifest: Manifest, store: ChunkStore, number: int = 0) -> None:
    deploy(disk, manifest, lambda ref: store.frame(ref.hash), disk=number)


def dump(disk: Path | str) -> list[str]:
    """sfdisk's own words about the table, without the device's name."""
    lines = run("sfdisk", "--dump", disk).splitlines()
    return [line.replace(str(disk), "") for line in lines if not line.startswith("device:")]


def contents(disk: Path, scratch: Path) -> dict[int, bytes]:
    """Check every file system and return the data each ext4 holds."""
    found = {}
    for p in MBR_PARTS:
        part = scratch / "extracted"
        with open(disk, "rb") as file:
            file.seek(p.start * MIB)
            part.write_bytes(file.read(p.size * MIB))
        if p.filesystem == "ntfs":
            run("ntfsfix", "-n", part)
        elif p.filesystem == "fat":
            run("fsck.vfat", "-n", part)
        elif p.filesystem == "ext4":
            run("e2fsck", "-fn", part)
            found[p.number] = subprocess.run(
                ["debugfs", "-R", "cat /data", str(part)], check=True, capture_output=True
            ).stdout
        else:
            assert "TYPE=swap" in run("blkid", "-p", "-o", "export", part)
    return found


def test_mbr_with_logical_partitions_goes_round(tmp_path: Path, store: ChunkStore) -> None:
    source = make_mbr_disk(tmp_path / "source.img", tmp_path)
    files = contents(source, tmp_path)
    manifest = captured(source, store)
    image = manifest.disks[0]
    assert isinstance(image.table, MbrTable)
    assert [(p.number, p.filesystem, p.capture, p.logical, p.active) for p in image.partitions] == [
        (1, "ntfs", "used", False, True),
        (2, "fat", "used", False, False),
        (5, "ext4", "used", True, False),
        (6, "swap", "header", True, False),
        (7, "ext4", "used", True, False),
    ]
    assert image.used < 24 * MIB

    target = blank(tmp_path / "target.img", noise=True)
    deployed(target, manifest, store)
    assert dump(target) == dump(source)
    assert contents(target, tmp_path) == files
    with open(source, "rb") as a, open(target, "rb") as b:
        assert a.read(512 + len(CODE)) == b.read(512 + len(CODE))
        for ebr in image.table.chain:
            a.seek(ebr.start)
            b.seek(ebr.start)
            assert a.read(512) == b.read(512)
    assert captured(target, store).id == manifest.id  # the copy is the image

    # Whatever of the table is spoiled: seen, and put right.
    for at in (100, 450, image.table.chain[1].start + 450, SIZE - 100):
        with open(target, "r+b") as file:
            file.seek(at)
            file.write(b"\x55")
        assert not verify(target, manifest).table_ok
        deployed(target, manifest, store)
        assert verify(target, manifest).ok


@pytest.mark.parametrize("size", [90, 92, 97, 200])
def test_logical_partitions_keep_their_places_on_other_disks(
    tmp_path: Path, store: ChunkStore, size: int
) -> None:
    """The extended partition (33 to 93 MiB) is cut where the disk ends, and nothing in it moves."""
    source = make_mbr_disk(tmp_path / "source.img", tmp_path)
    manifest = captured(source, store)
    target = blank(tmp_path / "target.img", size * MIB, noise=True)
    deployed(target, manifest, store)
    expected = dump(source)
    if size < 93:
        expected = [
            line.replace(f"{60 * MIB // 512}, type=f", f"{(size - 33) * MIB // 512}, type=f")
            for line in expected
        ]
    assert dump(target) == expected
    assert "No errors detected" in run("sfdisk", "--verify", target)
    assert contents(target, tmp_path) == contents(source, tmp_path)


@pytest.mark.parametrize(
    ("grow", "first_ebr"),
    [("last", 33), ((5,), 33), ((1, 7), 33 + (200 - 90) * 20 // 40)],
)
def test_logical_partitions_grow_and_move_with_their_boot_records(
    tmp_path: Path, store: ChunkStore, grow: str | tuple[int, ...], first_ebr: int
) -> None:
    source = make_mbr_disk(tmp_path / "source.img", tmp_path)
    manifest = captured(source, store)
    target = blank(tmp_path / "target.img", 200 * MIB, noise=True)
    placement = plan(manifest.disks[0], 200 * MIB, DeployOptions(grow=grow))
    assert not placement.is_identity or grow == "last"
    deploy(Assignment(0, str(target), placement), manifest, lambda ref: store.frame(ref.hash))
    assert "No errors detected" in run("sfdisk", "--verify", target)
    with Disk(target) as disk:
        table, partitions = read_layout(disk)
    assert [(p.number, p.start, p.size, p.filesystem) for p in partitions] == [
        (p.number, p.start, p.size, p.filesystem) for p in placement.partitions
    ]
    assert isinstance(table, MbrTable)
    assert [ebr.start // MIB for ebr in table.chain] == [
        first_ebr,
        *(p.start // MIB - 1 for p in partitions[3:]),
    ]
    for p in partitions:
        if p.filesystem == "ext4":
            with open(target, "rb") as file:
                file.seek(p.start)
                (tmp_path / "extracted").write_bytes(file.read(p.size))
            run("e2fsck", "-fn", tmp_path / "extracted")


def test_a_disk_too_small_for_the_last_logical_partition_is_refused(
    tmp_path: Path, store: ChunkStore
) -> None:
    manifest = captured(make_mbr_disk(tmp_path / "source.img", tmp_path), store)
    assert manifest.disks[0].minimum_size == 90 * MIB
    target = blank(tmp_path / "target.img", 90 * MIB - 512)
    with pytest.raises(DiskTooSmall):
        deployed(target, manifest, store)
    assert not any(target.read_bytes())


def test_an_mbr_image_ends_a_gpt_that_was_there(tmp_path: Path, store: ChunkStore) -> None:
    manifest = captured(make_mbr_disk(tmp_path / "source.img", tmp_path), store)
    target = blank(tmp_path / "target.img", 128 * MIB)
    run("sgdisk", "-n", "1:2048:+50M", target)
    deployed(target, manifest, store)
    assert b"EFI PART" not in target.read_bytes()
    assert captured(target, store).disks[0].table == manifest.disks[0].table


def test_old_geometry_with_records_one_track_before_their_partitions(
    tmp_path: Path, store: ChunkStore
) -> None:
    """Windows XP's layout: the gap around an EBR is shorter than the gap between two runs may be."""
    source = blank(tmp_path / "source.img", 64 * MIB)
    parts = [(63, 40_000), (40_126, 30_000), (70_189, 50_000)]
    script = f"label: dos\nlabel-id: {SIGNATURE}\nstart=63, size=40000, type=83\n"
    script += "start=40063, size=90000, type=5\n"
    script += "".join(f"start={start}, size={size}, type=83\n" for start, size in parts[1:])
    run("sfdisk", "-q", source, input=script.encode())
    for number, (start, size) in enumerate(parts):
        part = tmp_path / f"p{number}"
        part.write_bytes(bytes(size * 512))
        run("mkfs.ext4", "-q", "-F", part)
        with open(part, "r+b") as file:  # the last block is used, and so is the first of the next one
            file.seek(size * 512 - 4096)
            file.write(b"x" * 4096)
        put(source, start * 512, part.read_bytes())
    put(source, 512, b"first track")
    manifest = captured(source, store)
    target = blank(tmp_path / "target.img", 80 * MIB, noise=True)
    deployed(target, manifest, store)
    assert dump(target) == dump(source)
    assert verify(target, manifest).ok


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_disks_with_4096_byte_sectors(tmp_path: Path, store: ChunkStore, label: str) -> None:
    source = tmp_path / "source.img"
    if label == "dos":
        make_mbr_disk(source, tmp_path, sector_size=4096)
    else:
        blank(source)
        with open(source, "r+b") as file, loop_device(file.fileno(), write=True, sector_size=4096) as device:
            run("sgdisk", "-n", "1:256:+24M", "-n", "2:0:+10M", "-t", "2:8200", device)
        for p in (Part(1, 1, 24, "", "ext4"), Part(2, 25, 10, "", "swap")):
            put(source, p.start * MIB, made(p, tmp_path).read_bytes())
    with open(source, "rb") as file, loop_device(file.fileno(), sector_size=4096) as device:
        manifest = captured(device, store)
        expected = run("sfdisk", "--dump", device).replace(device, "")
    image = manifest.disks[0]
    assert (image.sector_size, image.physical_sector_size) == (4096, 0)
    assert isinstance(image.table, MbrTable if label == "dos" else GptTable)
    assert "unknown" not in [p.filesystem for p in image.partitions]

    target = blank(tmp_path / "target.img", noise=True)
    with open(target, "r+b") as file:
        with loop_device(file.fileno(), write=True) as device:
            before = target.read_bytes()
            with pytest.raises(UnsupportedDisk, match="has 512-byte sectors, the image was captured from"):
                deployed(device, manifest, store)
            assert target.read_bytes() == before
        with loop_device(file.fileno(), write=True, sector_size=4096) as device:
            deployed(device, manifest, store)
            assert verify(device, manifest).ok
            assert run("sfdisk", "--dump", device).replace(device, "") == expected
            assert "No errors detected" in run("sfdisk", "--verify", device)
            if label == "gpt":
                assert "No problems found" in run("sgdisk", "-v", device)
    if label == "dos":
        assert contents(target, tmp_path) == contents(source, tmp_path)


def test_two_disks_become_one_image_and_two_disks_again(tmp_path: Path, store: ChunkStore) -> None:
    first = make_mbr_disk(tmp_path / "first.img", tmp_path)
    second = blank(tmp_path / "second.img", 48 * MIB)
    run("sgdisk", "-n", "1:2048:+40M", second)
    part = made(Part(1, 1, 40, "", "ext4"), tmp_path)
    put(second, MIB, part.read_bytes())
    stages: list[tuple[str, int, int]] = []
    questions: list[bytes] = []

    def missing(hashes: object) -> list[bool]:
        questions.extend(hashes)  # type: ignore[call-overload]
        return store.missing(hashes)  # type: ignore[arg-type]

    manifest = capture_disks(
        [first, second],
        missing=missing,
        upload=lambda frames: [store.add_frame(hash, frame) for hash, frame in frames],
        progress=lambda *told: stages.append(told),
    )
    assert len(questions) == len(set(questions)), "a chunk was asked for twice"
    uploads = [(done, total) for stage, done, total in stages if stage == "upload"]
    assert uploads == sorted(uploads)
    assert uploads[-1] == (manifest.used, manifest.used)
    store.put_manifest(manifest.to_bytes(), bytes(64))
    manifest = Manifest.from_bytes(store.manifest(manifest.id)[0])
    assert [disk.size for disk in manifest.disks] == [SIZE, 48 * MIB]
    # Numbers of chunks go on from disk to disk: that is what multicast and progress speak of.
    assert [ref.index for ref in manifest.chunks] == list(range(len(manifest.chunks)))
    assert list(store.verify(manifest.id)) == []

    targets = [
        blank(tmp_path / "a.img", SIZE, noise=True),
        blank(tmp_path / "b.img", 64 * MIB, noise=True),
    ]
    for number, target in enumerate(targets):
        deployed(target, manifest, store, number)
        assert verify(target, manifest, disk=number).ok
    assert dump(targets[0]) == dump(first)
    assert contents(targets[0], tmp_path) == contents(first, tmp_path)
    assert "No problems found" in run("sgdisk", "-v", targets[1])
    with pytest.raises(DiskTooSmall):
        deployed(targets[1], manifest, store, 0)


def test_linux_systems_on_logical_partitions_get_their_host_name(tmp_path: Path) -> None:
    disk = make_mbr_disk(tmp_path / "disk.img", tmp_path)
    assert set_hostname(disk, "b204-09") == [5, 7]
    for p in MBR_PARTS:
        if p.filesystem == "ext4":
            with open(disk, "rb") as file:
                file.seek(p.start * MIB)
                (tmp_path / "extracted").write_bytes(file.read(p.size * MIB))
            run("e2fsck", "-fn", tmp_path / "extracted")
            assert "b204-09" in run("debugfs", "-R", "cat /etc/hostname", tmp_path / "extracted")


def test_a_boot_partition_for_bios_on_gpt_comes_along(tmp_path: Path, store: ChunkStore) -> None:
    source = blank(tmp_path / "source.img", 16 * MIB)
    run("sgdisk", "-n", "1:2048:+1M", "-t", "1:ef02", source)
    put(source, 0, CODE[:440])
    put(source, MIB, CODE)
    manifest = captured(source, store)
    target = blank(tmp_path / "target.img", 24 * MIB, noise=True)
    deployed(target, manifest, store)
    data = target.read_bytes()
    assert (data[:440], data[MIB : MIB + len(CODE)]) == (CODE[:440], CODE)
    assert "No problems found" in run("sgdisk", "-v", target)
