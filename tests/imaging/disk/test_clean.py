"""A file system that was not shut down is known by its own flag or log, and only that one is refused."""

import contextlib
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.disk import clean, xfslog
from imaging.disk.gpt import ReadAt
from imaging.disk.probe import probe
from imaging.errors import DiskError

MIB = 1 << 20


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def made(path: Path, size: int, *command: str) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
    run(*command, path)
    return path


def reader(path: Path) -> ReadAt:
    def read_at(offset: int, length: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(length)
        if offset < 0 or len(data) != length:
            raise DiskError("outside")
        return data

    return read_at


def verdict(path: Path) -> str:
    read_at = reader(path)
    found = probe(read_at, path.stat().st_size)
    assert found.kind != "unknown"
    return found.dirty or clean.why_dirty(found.kind, read_at)


def patch(path: Path, at: int, change: Callable[[int], int]) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        value = file.read(1)[0]
        file.seek(at)
        file.write(bytes([change(value)]))


def crashed(path: Path, kind: str, scratch: Path, work: Callable[[Path], None]) -> Path:
    """A copy of the file system as a machine that lost its power leaves it: taken while it is mounted."""
    copy = scratch / "crashed"
    place = scratch / "mnt"
    place.mkdir()
    run("mount", "-t", kind, "-o", "loop", path, place)
    try:
        work(place)
        shutil.copyfile(path, copy)
    finally:
        run("umount", place)
    return copy


def write_and_sync(place: Path) -> None:
    for number in range(20):
        with open(place / f"file{number}", "wb") as file:
            file.write(b"x" * 5000)
    subprocess.run(["sync", "-f", str(place)], check=True)
    for number in range(20):
        with open(place / f"file{number}", "ab") as file:
            file.write(b"y" * 5000)
            file.flush()
            subprocess.run(["sync", str(place / f"file{number}")], check=True)  # fsync: into the log


@pytest.mark.disk
@pytest.mark.parametrize(
    ("kind", "size", "command"),
    [
        ("xfs", 300 * MIB, ("mkfs.xfs", "-q", "-f")),
        ("xfs", 300 * MIB, ("mkfs.xfs", "-q", "-f", "-l", "su=64k")),
        ("btrfs", 120 * MIB, ("mkfs.btrfs", "-q", "-f")),
        ("ext4", 64 * MIB, ("mkfs.ext4", "-q", "-F")),
    ],
)
def test_power_was_lost(tmp_path: Path, kind: str, size: int, command: tuple[str, ...]) -> None:
    path = made(tmp_path / "fs", size, *command)
    assert verdict(path) == "", "just made"
    copy = crashed(path, kind, tmp_path, write_and_sync)
    assert verdict(path) == "", "unmounted"
    reason = verdict(copy)
    assert "log holds changes" in reason or "not unmounted" in reason
    assert "shut it down cleanly" in reason
    # Mounted once and unmounted, as the sentence says, it is right again.
    run("mount", "-t", kind, "-o", "loop", copy, tmp_path / "mnt")
    run("umount", tmp_path / "mnt")
    assert verdict(copy) == ""


def log_of(blocks: int, head: int, *, unmounted: bool) -> bytes:
    """A log in its third round whose last record ends at ``head``."""
    log = bytearray()
    for number in range(blocks):
        log += struct.pack(">I", 3 if number < head else 2).ljust(512, b"\0")
    last = (head - 2) % blocks  # a header and one block
    cycle = 3 if last < head else 2
    header = struct.pack(">IIIIQQIII", 0xFEEDBABE, cycle, 2, 512, 0, 0, 0, 0, 1).ljust(320, b"\0")
    header += struct.pack(">I", 32 << 10)
    log[last * 512 : last * 512 + len(header)] = header
    body = (last + 1) % blocks * 512
    log[body + 8 : body + 10] = bytes([0xAA, 0x20 if unmounted else 0x00])
    return bytes(log)


def is_clean(log: bytes) -> bool:
    return xfslog.is_clean(lambda at, length: log[at : at + length], 0, len(log))


@pytest.mark.parametrize("head", [2, 3, 500, 1023, 1024, 1])
def test_the_log_of_xfs_goes_round(head: int) -> None:
    for unmounted in (True, False):
        assert is_clean(log_of(1024, head, unmounted=unmounted)) == unmounted


def test_what_follows_the_unmount_record_of_xfs_counts() -> None:
    log = bytearray(log_of(1024, 500, unmounted=True))
    log[500 * 512 : 500 * 512 + 4] = struct.pack(">I", 3)
    assert not is_clean(bytes(log))


def test_f2fs(tmp_path: Path) -> None:
    path = made(tmp_path / "fs", 112 * MIB, "mkfs.f2fs", "-q", "-f")
    assert verdict(path) == ""
    first = struct.unpack("<I", reader(path)(1024 + 76, 4))[0] * 4096
    packs = (first, first + 2 * MIB)
    newest = max(packs, key=lambda at: struct.unpack("<Q", reader(path)(at, 8)))
    patch(path, newest + 132, lambda flags: flags & ~1)
    assert "not unmounted" in verdict(path)
    patch(path, newest + 132, lambda flags: flags | 0x11)
    assert "fsck.f2fs" in verdict(path)
    for at in packs:
        patch(path, at, lambda value: value ^ 0xFF)
    assert "checkpoints are damaged" in verdict(path)


def test_exfat(tmp_path: Path) -> None:
    path = made(tmp_path / "fs", 16 * MIB, "mkfs.exfat")
    assert verdict(path) == ""
    patch(path, 106, lambda flags: flags | 0x2)
    assert "not unmounted" in verdict(path)
    patch(path, 106, lambda flags: 0x4)
    assert "errors" in verdict(path)


def test_hfsplus(tmp_path: Path) -> None:
    path = tmp_path / "fs"
    path.write_bytes(bytes(1024) + b"H+\0\4" + struct.pack(">I", 0x100) + bytes(4096))
    assert verdict(path) == ""
    patch(path, 1024 + 6, lambda flags: 0)
    assert "not unmounted" in verdict(path)


def test_parts_on_other_devices(tmp_path: Path) -> None:
    path = made(tmp_path / "btrfs", 120 * MIB, "mkfs.btrfs", "-q", "-f")
    assert clean.why_apart("btrfs", reader(path)) == ""
    other = made(tmp_path / "other", 120 * MIB, "true")
    run("mkfs.btrfs", "-q", "-f", "-m", "raid1", path, other)
    assert "several devices" in clean.why_apart("btrfs", reader(path))
    log = made(tmp_path / "log", 64 * MIB, "true")
    xfs = made(tmp_path / "xfs", 300 * MIB, "mkfs.xfs", "-q", "-f", "-l", f"logdev={log},size=64m")
    assert "another device" in clean.why_apart("xfs", reader(xfs))


@given(st.binary(max_size=4096), st.integers(0, 40), st.integers(0, 8192))
def test_noise_in_a_log_is_not_clean(noise: bytes, blocks: int, size: int) -> None:
    data = noise.ljust(blocks * 512, noise[:1] or b"\0")

    def read_at(offset: int, length: int) -> bytes:
        if offset + length > len(data):
            raise DiskError("outside")
        return data[offset : offset + length]

    with contextlib.suppress(DiskError):
        assert not xfslog.is_clean(read_at, 0, size)


@given(
    st.sampled_from(sorted(clean._JUDGES)),
    st.lists(st.tuples(st.integers(0, 70_000), st.integers(0, 255)), max_size=40),
)
def test_noise_in_a_superblock_raises_only_disk_errors(kind: str, bytes_: list[tuple[int, int]]) -> None:
    data = bytearray(72 << 10)
    for at, value in bytes_:
        data[at] = value

    def read_at(offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > len(data):
            raise DiskError("outside")
        return bytes(data[offset : offset + length])

    with contextlib.suppress(DiskError):
        assert isinstance(clean.why_dirty(kind, read_at), str)
    with contextlib.suppress(DiskError):
        assert isinstance(clean.why_apart(kind, read_at), str)
