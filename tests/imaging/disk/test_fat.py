"""The table of a FAT says which clusters are used, whatever its width."""

import contextlib
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.disk.fat import Fat, FatError
from imaging.errors import DiskError
from imaging.runs import merge_runs

KIB, MIB = 1 << 10, 1 << 20


def open_fat(data: bytes) -> Fat:
    def read_at(offset: int, length: int) -> bytes:
        if offset + length > len(data):
            raise DiskError("outside")
        return data[offset : offset + length]

    return Fat(read_at)


def made(path: Path, size: int, *options: str) -> bytearray:
    """A FAT with files of 1, 5 and 9 clusters, the middle one deleted, and one of 700 KiB."""
    with open(path, "wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.vfat", *options, str(path)], check=True, capture_output=True)
    cluster = open_fat(path.read_bytes()).cluster
    for name, length in (("one", 1), ("five", 5 * cluster), ("nine", 9 * cluster), ("large", 700 * KIB)):
        content = path.with_name(name)
        content.write_bytes(name.encode() * (length // len(name) + 1))
        subprocess.run(["mcopy", "-i", str(path), str(content), "::"], check=True)
    subprocess.run(["mdel", "-i", str(path), "::five"], check=True)
    return bytearray(path.read_bytes())


KINDS = [
    (12, 12 * MIB, ("-F", "12")),
    (16, 32 * MIB, ("-F", "16", "-s", "2")),
    (32, 40 * MIB, ("-F", "32", "-s", "1")),
]


@pytest.mark.parametrize(("bits", "size", "options"), KINDS)
def test_used_clusters_are_those_that_fsck_counts(
    tmp_path: Path, bits: int, size: int, options: tuple[str, ...]
) -> None:
    data = made(tmp_path / "fat", size, *options)
    fat = open_fat(bytes(data))
    assert fat.bits == bits
    counted = subprocess.run(
        ["fsck.fat", "-n", str(tmp_path / "fat")], check=True, capture_output=True, text=True
    ).stdout
    used, total = counted.split()[-2].split("/")
    assert fat.clusters == int(total)
    runs = list(fat.used_runs())
    assert runs[0] == (0, fat.data)
    assert sum(length for _, length in runs[1:]) == int(used) * fat.cluster
    # Everything that is not zero lies in them: nothing but deleted content may be outside.
    outside = bytearray(data)
    for start, length in runs:
        outside[start : start + length] = bytes(length)
    assert set(bytes(outside).replace(b"five", b"")) <= set(b"\0five")


def test_bad_clusters_are_not_read(tmp_path: Path) -> None:
    data = made(tmp_path / "fat", 32 * MIB, "-F", "16", "-s", "2")
    fat = open_fat(bytes(data))
    before = merge_runs(fat.used_runs(), gap=1)
    at = fat.table + 2 * fat.clusters  # of the last clusters, free
    data[at : at + 2] = b"\xf7\xff"
    assert merge_runs(open_fat(bytes(data)).used_runs(), gap=1) == before
    data[at : at + 2] = b"\xff\xff"
    assert merge_runs(open_fat(bytes(data)).used_runs(), gap=1) != before


@pytest.mark.parametrize(("bits", "size", "options"), KINDS)
def test_one_that_was_not_unmounted_is_dirty(
    tmp_path: Path, bits: int, size: int, options: tuple[str, ...]
) -> None:
    data = made(tmp_path / "fat", size, *options)
    assert open_fat(bytes(data)).why_dirty() == ""
    linux = data.copy()
    linux[65 if bits == 32 else 37] |= 1
    assert "fsck.fat" in open_fat(bytes(linux)).why_dirty()
    if bits == 12:
        return
    at = open_fat(bytes(data)).table + bits // 8  # the second entry: its highest bits are flags
    entry = int.from_bytes(data[at : at + bits // 8], "little")
    unmounted, sound = (15, 14) if bits == 16 else (27, 26)
    for flag, word in ((unmounted, "not unmounted"), (sound, "errors")):
        windows = data.copy()
        windows[at : at + bits // 8] = (entry & ~(1 << flag)).to_bytes(bits // 8, "little")
        assert word in open_fat(bytes(windows)).why_dirty()


@given(st.binary(min_size=64, max_size=512), st.sampled_from([512, 4096, 0]), st.integers(0, 255))
def test_noise_raises_only_disk_errors(noise: bytes, sector: int, cluster: int) -> None:
    data = bytearray(noise.ljust(8192, noise[:1]))
    struct.pack_into("<HBHBHH", data, 11, sector, cluster, 1, 2, 16, 64)
    with contextlib.suppress(DiskError):
        fat = open_fat(bytes(data))
        for start, length in fat.used_runs():
            assert start >= 0
            assert length > 0
        assert isinstance(fat.why_dirty(), str)


def test_a_table_that_is_too_short_is_damage() -> None:
    data = bytearray(8192)
    struct.pack_into("<HBHBHH", data, 11, 512, 1, 1, 2, 16, 60000)
    struct.pack_into("<H", data, 22, 1)
    with pytest.raises(FatError, match="too short"):
        open_fat(bytes(data))
