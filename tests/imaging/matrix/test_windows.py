"""What Windows leaves in an NTFS: its memory in files, a hibernated system, a log that is not empty."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from imaging.deploy import deploy
from imaging.disk import ntfs
from imaging.errors import FilesystemDirty
from imaging.options import CaptureOptions
from imaging.store import ChunkStore
from tests.imaging.disks import run
from tests.imaging.matrix.filesystems import mounted
from tests.imaging.matrix.trees import MIB
from tests.imaging.matrix.way import START, captured, device, partitioned, put_back

pytestmark = pytest.mark.disk

SIZE = 96 * MIB
#: name -> bytes; the page file is in many pieces, as on a disk that was full once.
MEMORY = {"pagefile.sys": 24 * MIB, "hiberfil.sys": 12 * MIB, "SwapFile.sys": 3 * MIB}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = partitioned(tmp_path / "source.img", SIZE, 512)
    dice = random.Random(1)
    with device(path, 512, write=True, offset=START, size=SIZE) as part:
        run("mkntfs", "-q", "-Q", "-F", "-L", "Windows", part)
        with mounted(part, tmp_path / "mnt", "ntfs-3g") as root:
            for number in range(300):  # a root directory that does not fit into its record
                (root / f"a file with a rather long name {number}").write_bytes(dice.randbytes(100))
            (root / "Users").mkdir()
            (root / "Users" / "pagefile.sys").write_bytes(b"a user's own file" * 5000)
            with open(root / "pagefile.sys", "wb") as memory:
                for number in range(MEMORY["pagefile.sys"] // (64 << 10)):
                    memory.write(dice.randbytes(64 << 10))
                    memory.flush()
                    os.fsync(memory.fileno())
                    (root / f"between {number}").write_bytes(dice.randbytes(8000))
            for name in ("hiberfil.sys", "SwapFile.sys"):
                (root / name).write_bytes(b"wake" + dice.randbytes(MEMORY[name] - 4))
    return path


def content(path: Path, scratch: Path) -> dict[str, bytes]:
    with (
        device(path, 512, offset=START, size=SIZE) as part,
        mounted(part, scratch / "mnt", "ntfs-3g", "-o", "ro") as root,
    ):
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_page_and_hibernation_files_stay_behind(source: Path, tmp_path: Path) -> None:
    before = content(source, tmp_path)
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        manifest = captured(source, 512, store)
        everything = captured(source, 512, store, CaptureOptions(exclude_windows_files=False))
        used, full = manifest.disks[0].partitions[0].used, everything.disks[0].partitions[0].used
        assert full - used >= sum(MEMORY.values()) - len(MEMORY) * (128 << 10)
        target = put_back(tmp_path / "target.img", source.stat().st_size, manifest, store, 512)
    with device(target, 512, offset=START, size=SIZE) as part:
        run("ntfsfix", "-n", part)
        run("ntfsresize", "-P", "-f", "--check", part)
    after = content(target, tmp_path)
    for name, size in MEMORY.items():
        memory = after.pop(name)
        assert len(memory) == size, "the file itself is still there"
        assert not any(memory[: 64 << 10]), "no signature of an older system may be left"
        assert before.pop(name)[: 64 << 10] != memory[: 64 << 10]
    assert after == before
    assert len(after) > 600

    # Nothing that was in them is in the store.
    with ChunkStore(tmp_path / "other", reserve=0) as store:
        manifest = captured(source, 512, store)
        held = b"".join(store.get(hash) for hash in dict.fromkeys(manifest.hashes))
    for name in MEMORY:
        with (
            device(source, 512, offset=START, size=SIZE) as part,
            mounted(part, tmp_path / "mnt", "ntfs-3g", "-o", "ro") as root,
        ):
            memory = (root / name).read_bytes()
        for at in range(4096, len(memory), 1 << 20):
            assert memory[at : at + 64] not in held, f"{name} at {at}"


def test_on_a_disk_of_zeros_they_read_as_zeros(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.img"
    with open(target, "wb") as file:
        file.truncate(source.stat().st_size)
    with ChunkStore(tmp_path / "store", reserve=0) as store:
        manifest = captured(source, 512, store)
        deploy(target, manifest, lambda ref: store.frame(ref.hash))
    after = content(target, tmp_path)
    assert not any(after["pagefile.sys"])
    assert not any(after["hiberfil.sys"])


def volume(path: Path) -> ntfs.Volume:
    with open(path, "rb") as file:
        data = file.read()
    return ntfs.Volume(lambda offset, length: data[START + offset : START + offset + length])


def refused(source: Path, scratch: Path, words: str) -> None:
    with ChunkStore(scratch / "store", reserve=0) as store:
        with pytest.raises(FilesystemDirty, match=rf"^Partition 1 \(ntfs\) cannot be captured.*{words}"):
            captured(source, 512, store)
        asked = captured(source, 512, store, CaptureOptions(whole=("dirty",)))
        assert asked.disks[0].partitions[0].capture == "whole"


@pytest.mark.parametrize("signature", [b"hibr", b"HIBR", b"RSTR"])
def test_a_hibernated_windows_is_refused(source: Path, tmp_path: Path, signature: bytes) -> None:
    place = volume(source).files["hiberfil.sys"].runs[0][0]
    with open(source, "r+b") as file:
        file.seek(START + place)
        file.write(signature)
    refused(source, tmp_path, r"hibernates.*powercfg /h off")


def test_a_volume_marked_for_a_check_is_refused(source: Path, tmp_path: Path) -> None:
    # $Volume is record 3; its VOLUME_INFORMATION says 3.1 (two bytes) before the flags.
    found = volume(source)
    record = found._record(3)
    at = record.index(struct.pack("<BB", 3, 1), record.index(struct.pack("<I", 0x70)))
    with open(source, "r+b") as file:
        file.seek(START + found._mft[0][0] + 3 * found.record_size + at + 2)
        file.write(b"\x01")
    refused(source, tmp_path, r"marked it for a check.*chkdsk /f")


@pytest.mark.parametrize(("in_use", "flags", "clean"), [(0, 0, False), (0xFFFF, 0, True), (0, 2, True)])
def test_a_log_with_changes_is_refused(
    source: Path, tmp_path: Path, in_use: int, flags: int, clean: bool
) -> None:
    place = volume(source)._attribute(2, 0x80).runs[0][0]
    page = bytearray(4096)
    page[:4] = b"RSTR"
    struct.pack_into("<HH", page, 4, 30, 9)
    struct.pack_into("<IIH", page, 16, 4096, 4096, 48)
    struct.pack_into("<QHHHH", page, 48, 1000, 1, 0xFFFF, in_use, flags)
    older = bytearray(page)
    struct.pack_into("<QHHHH", older, 48, 900, 1, 0xFFFF, 0xFFFF - in_use, 0)
    with open(source, "r+b") as file:
        file.seek(START + place)
        file.write(page + older)
    assert volume(source).log_is_clean == clean
    if not clean:
        refused(source, tmp_path, r"log holds changes.*shutdown /s /t 0")
