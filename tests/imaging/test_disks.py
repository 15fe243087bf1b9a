"""Real disks through real tools: capture, spoil, deploy, and every file system checker content."""

import contextlib
import hashlib
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.capture import capture
from imaging.chunks import hash_chunk, read_masked
from imaging.customise import set_hostname
from imaging.deploy import deploy, verify
from imaging.disk import gpt
from imaging.disk.device import Disk
from imaging.disk.loop import loop_device
from imaging.errors import DiskBusy, DiskTooSmall, FilesystemDirty, UnsupportedDisk
from imaging.manifest import GptTable, Manifest, Partition
from imaging.store import ChunkStore
from tests.imaging import disks
from tests.imaging.disks import MIB, PARTITIONS, extract, run

pytestmark = pytest.mark.disk


def captured(disk: Path | str, store: ChunkStore) -> Manifest:
    def upload(frames: object) -> None:
        for hash, frame in frames:  # type: ignore[attr-defined]
            store.add_frame(hash, frame)

    manifest = capture(disk, missing=store.missing, upload=upload)
    store.put_manifest(manifest.to_bytes(), bytes(64))
    return Manifest.from_bytes(store.manifest(manifest.id)[0])


def deployed(disk: Path | str, manifest: Manifest, store: ChunkStore):  # type: ignore[no-untyped-def]
    return deploy(disk, manifest, lambda ref: store.frame(ref.hash))


def blank(path: Path, size: int) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def file_hashes(disk: Path, scratch: Path) -> dict[str, str]:
    """Checks every file system of the test disk and hashes its files, with the file systems' own tools."""
    found = {}
    esp = extract(disk, "esp", scratch)
    run("fsck.vfat", "-n", esp)
    copy = scratch / "copy.efi"
    run("mcopy", "-n", "-i", esp, "::EFI/BOOTX64.EFI", copy)
    found["esp"] = hashlib.sha256(copy.read_bytes()).hexdigest()
    copy.unlink()
    root = extract(disk, "root", scratch)
    run("e2fsck", "-fn", root)
    tree = scratch / "dumped"
    tree.mkdir()
    run("debugfs", "-R", f"rdump / {tree}", root)
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(tree))] = hashlib.sha256(path.read_bytes()).hexdigest()
            path.unlink()
    run("rm", "-r", tree)
    ntfs = extract(disk, "ntfs", scratch)
    run("ntfsfix", "-n", ntfs)
    found["ntfs"] = hashlib.sha256(
        subprocess.run(["ntfscat", "-f", str(ntfs), "data.bin"], check=True, capture_output=True).stdout
    ).hexdigest()
    swap = extract(disk, "swap", scratch)
    found["swap"] = run("blkid", "-p", "-s", "UUID", "-s", "LABEL", "-o", "value", swap)
    for path in (esp, root, ntfs, swap):
        path.unlink()
    return found


def used_hashes(disk: Path, manifest: Manifest) -> list[bytes]:
    with Disk(disk) as opened:
        return [
            hash_chunk(read_masked(opened.fd, ref.offset, ref.length, ref.runs)) for ref in manifest.chunks
        ]


def test_the_whole_way_there_and_back(tmp_path: Path, source: Path, store: ChunkStore) -> None:
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    files = file_hashes(source, tmp_path)
    assert len(files) > 40
    manifest = captured(source, store)
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before, "capture changed the source disk"

    kinds = {p.name: (p.filesystem, p.capture) for p in manifest.disks[0].partitions}
    assert kinds == {
        "bios": ("unknown", "whole"),
        "esp": ("fat", "used"),
        "root": ("ext4", "used"),
        "ntfs": ("ntfs", "used"),
        "swap": ("swap", "header"),
    }
    assert manifest.disks[0].used < 32 * MIB
    swap_start = PARTITIONS["swap"][1]
    assert sum(manifest.disks[0].runs[-1]) == swap_start + 4096  # of swap its header, no page

    # A foreign disk: noise everywhere.
    target = blank(tmp_path / "target.img", disks.SIZE)
    with open(target, "r+b") as file:
        for _ in range(disks.SIZE // MIB):
            file.write(os.urandom(4096) * 256)
    result = deployed(target, manifest, store)
    assert result.kept == 0
    assert used_hashes(target, manifest) == list(manifest.hashes)
    assert file_hashes(target, tmp_path) == files
    assert "No problems found" in run("sgdisk", "-v", target)
    with open(source, "rb") as a, open(target, "rb") as b:
        assert a.read(34 * 512) == b.read(34 * 512)  # MBR, header and entries are the source's

    # A light day: one file changed behind the file system's back, and a partition table wiped by mistake.
    with open(target, "r+b") as file:
        file.seek(
            next(start for start, _ in manifest.disks[0].runs if start >= PARTITIONS["root"][1]) + 8 * MIB
        )
        file.write(b"spoiled" * 100)
        file.seek(0)
        file.write(bytes(34 * 512))
    assert not verify(target, manifest).ok
    again = deployed(target, manifest, store)
    assert again.written == 1
    assert again.fetched < 2 * MIB
    assert file_hashes(target, tmp_path) == files


def test_larger_disks_get_a_right_backup_table_and_smaller_ones_are_refused(
    tmp_path: Path, source: Path, store: ChunkStore
) -> None:
    manifest = captured(source, store)
    larger = blank(tmp_path / "larger.img", 300 * MIB)
    deployed(larger, manifest, store)
    report = run("sgdisk", "-v", larger)
    assert "No problems found" in report
    assert "last usable sector is 614366" in run("sgdisk", "-p", larger)
    assert used_hashes(larger, manifest) == list(manifest.hashes)

    smaller = blank(tmp_path / "smaller.img", disks.SIZE - 3 * MIB)
    with pytest.raises(DiskTooSmall) as caught:
        deployed(smaller, manifest, store)
    assert (caught.value.size, caught.value.needed) == (161 * MIB, 162 * MIB + 33 * 512)
    assert not any(smaller.read_bytes())
    deployed(blank(tmp_path / "just.img", 162 * MIB + 33 * 512), manifest, store)


def test_block_devices_work_like_files(tmp_path: Path, source: Path, store: ChunkStore) -> None:
    with open(source, "rb") as file, loop_device(file.fileno()) as device:
        manifest = captured(device, store)
    target = blank(tmp_path / "target.img", disks.SIZE)
    _, start, size = PARTITIONS["root"]
    with open(target, "r+b") as file, loop_device(file.fileno(), write=True) as device:
        deployed(device, manifest, store)
        assert verify(device, manifest).ok
        assert set_hostname(device, "b204-08") == [3]
        with mounted(device, tmp_path / "mnt", f"ro,loop,offset={start},sizelimit={size}") as root:
            assert (root / "etc/hostname").read_text() == "b204-08\n"
    assert "No problems found" in run("sgdisk", "-v", target)


def test_a_mounted_disk_is_neither_captured_nor_written(tmp_path: Path, store: ChunkStore) -> None:
    source = blank(tmp_path / "fs", 8 * MIB)
    run("mkfs.ext4", "-q", "-F", source)
    manifest = captured(source, store)
    with open(source, "r+b") as file, loop_device(file.fileno(), write=True) as device:
        with mounted(device, tmp_path / "mnt", "ro"):
            with pytest.raises(DiskBusy, match="in use"):
                deployed(device, manifest, store)
            with pytest.raises(DiskBusy):
                captured(device, store)
        assert captured(device, store) == manifest


@contextlib.contextmanager
def mounted(device: str, place: Path, options: str) -> Iterator[Path]:
    place.mkdir()
    run("mount", "-o", options, device, place)
    try:
        yield place
    finally:
        run("umount", place)


def test_four_kib_sectors(tmp_path: Path, store: ChunkStore) -> None:
    source = blank(tmp_path / "4k.img", 32 * MIB)
    kind = "0fc63daf-8483-4772-8e79-3d69d8477de4"
    part = Partition(1, kind, str(uuid.uuid4()), "root", 0, MIB, 24 * MIB, "", "", "", 0, "whole")
    mbr = bytes(446) + bytes.fromhex("00000200eeffffff01000000ff1f0000") + bytes(48) + b"\x55\xaa"
    for offset, data in gpt.render(GptTable(str(uuid.uuid4()), mbr, 128, 6), [part], 32 * MIB, 4096):
        disks.put(source, offset, data)
    fs = blank(tmp_path / "fs", 24 * MIB)
    run("mkfs.ext4", "-q", "-F", fs)
    disks.put(source, MIB, fs.read_bytes())
    with open(source, "rb") as file, loop_device(file.fileno(), sector_size=4096) as device:
        manifest = captured(device, store)
    assert manifest.disks[0].sector_size == 4096
    assert manifest.disks[0].partitions[0].filesystem == "ext4"
    assert captured(source, store) == manifest  # a file is recognised by the place of its table
    target = blank(tmp_path / "target.img", 40 * MIB)
    with open(target, "r+b") as file:
        with (
            loop_device(file.fileno(), write=True) as device,
            pytest.raises(UnsupportedDisk, match="512-byte"),
        ):
            deployed(device, manifest, store)
        with loop_device(file.fileno(), write=True, sector_size=4096) as device:
            deployed(device, manifest, store)
    with open(target, "rb") as file, loop_device(file.fileno(), sector_size=4096) as device:
        assert "No problems found" in run("sgdisk", "-v", device)


def test_a_file_system_that_was_not_shut_down_is_named(
    tmp_path: Path, source: Path, store: ChunkStore
) -> None:
    disks.put(source, PARTITIONS["root"][1] + 1024 + 96, b"\xc6")  # incompat: needs_recovery
    with pytest.raises(FilesystemDirty, match=r"Partition 3 \(ext4\).*shut it down"):
        captured(source, store)


def test_a_damaged_file_system_is_refused_with_partclones_words(
    tmp_path: Path, source: Path, store: ChunkStore
) -> None:
    at = PARTITIONS["ntfs"][1]
    with open(source, "r+b") as file:
        file.seek(at + 48)
        mft = int.from_bytes(file.read(8), "little")
        file.seek(at + mft * 4096)
        file.write(bytes(8192))
    with pytest.raises(FilesystemDirty, match=r"Partition 4 \(ntfs\)"):
        captured(source, store)


def test_the_host_name_is_set_and_nothing_else(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = {name: extract(source, name, tmp_path).read_bytes() for name in ("bios", "esp", "ntfs", "swap")}
    assert set_hostname(source, "b204-07") == [3]
    root = extract(source, "root", tmp_path)
    run("e2fsck", "-fn", root)
    assert "b204-07\n" in run("debugfs", "-R", "cat /etc/hostname", root)
    assert "127.0.1.1\tb204-07.lab.example b204-07\n" in run("debugfs", "-R", "cat /etc/hosts", root)
    assert re.search(r"Mode: +0644", run("debugfs", "-R", "stat /etc/hostname", root))
    assert {name: extract(source, name, tmp_path).read_bytes() for name in before} == before
    assert str(scratch) not in Path("/proc/self/mounts").read_text()
    assert list(scratch.iterdir()) == []
    deadline = time.monotonic() + 60  # somebody else's blkid may hold the loop device for a moment
    while str(source) in run("losetup", "-a"):
        assert time.monotonic() < deadline, "a loop device was left behind"
        time.sleep(0.05)


def test_a_link_planted_in_the_image_is_not_followed(tmp_path: Path, source: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched\n")
    root = extract(source, "root", tmp_path)
    run("debugfs", "-w", "-R", "rm /etc/hostname", root)
    run("debugfs", "-w", "-R", f"symlink /etc/hostname {victim}", root)
    disks.put(source, PARTITIONS["root"][1], root.read_bytes())
    assert set_hostname(source, "b204-07") == []
    assert victim.read_text() == "untouched\n"
