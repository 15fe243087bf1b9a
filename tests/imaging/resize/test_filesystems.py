"""Each file system is made, filled, resized and renamed: its checker and its files must not notice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from imaging.disk.loop import loop_device
from imaging.disk.probe import probe
from imaging.errors import ResizeFailed
from imaging.placement import GROWS, SHRINKS
from imaging.resize import grow, minimum_size, ntfs, renew, shrink, why_not_grow, why_not_shrink
from tests.imaging.resize.samples import MAKERS, MIB, check, fill, tree

disk = pytest.mark.disk

SMALL, LARGE = 400 * MIB, 700 * MIB
Device = Callable[[Path, int], str]


@pytest.fixture
def device() -> Iterator[Device]:
    with ExitStack() as stack:

        def attach(path: Path, size: int) -> str:
            fd = os.open(path, os.O_RDWR)
            stack.callback(os.close, fd)
            return stack.enter_context(loop_device(fd, size=size, write=True))

        yield attach


def made(path: Path, kind: str, size: int) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
    MAKERS[kind](path)
    return path


def identity(path: str) -> str:
    with open(path, "rb", buffering=0) as file:
        return probe(lambda at, n: os.pread(file.fileno(), n, at), file.seek(0, os.SEEK_END)).uuid


@disk
@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4", "xfs", "btrfs", "ntfs"])
def test_it_grows_with_its_partition_and_keeps_every_file(kind: str, tmp_path: Path, device: Device) -> None:
    path = made(tmp_path / "part", kind, SMALL)
    fill(device(path, SMALL), kind, 24)
    before = tree(device(path, SMALL), kind)
    os.truncate(path, LARGE)
    whole = device(path, LARGE)
    grow(whole, kind)
    check(whole, kind)
    assert tree(whole, kind) == before
    assert before
    grow(whole, kind)  # once more: nothing to do is no error
    check(whole, kind)
    fill_more = LARGE - SMALL // 2
    if kind in ("ext4", "xfs", "btrfs"):
        room = free(whole, kind)
        assert room > fill_more - 150 * MIB


def free(device: str, kind: str) -> int:
    from tests.imaging.resize.samples import in_mount

    return in_mount(device, kind, lambda root: shutil.disk_usage(root).free, write=False)


@disk
@pytest.mark.parametrize("kind", ["ext2", "ext4", "btrfs", "ntfs"])
def test_it_shrinks_to_a_size_between_what_it_needs_and_what_it_has(
    kind: str, tmp_path: Path, device: Device
) -> None:
    path = made(tmp_path / "part", kind, LARGE)
    whole = device(path, LARGE)
    fill(whole, kind, 40)
    before = tree(whole, kind)
    least = minimum_size(whole, kind)
    assert 40 * MIB < least < LARGE
    size = max(least + 16 * MIB, 300 * MIB)
    shrink(whole, kind, size)
    with open(path, "r+b") as file:  # what lay behind the new end is gone for good
        file.truncate(size)
    part = device(path, size)
    if kind == "ntfs":
        ntfs.copy_boot_sector(part)
        data = path.read_bytes()
        assert data[-512:] == data[:512]
    check(part, kind)
    assert tree(part, kind) == before


@disk
@pytest.mark.parametrize("kind", ["ext4", "btrfs", "ntfs"])
def test_a_size_below_what_it_needs_is_refused_and_nothing_is_lost(
    kind: str, tmp_path: Path, device: Device
) -> None:
    path = made(tmp_path / "part", kind, LARGE)
    whole = device(path, LARGE)
    fill(whole, kind, 60)
    before = tree(whole, kind)
    with pytest.raises(ResizeFailed, match="failed"):
        shrink(whole, kind, 24 * MIB)
    check(whole, kind)
    assert tree(whole, kind) == before


@disk
@pytest.mark.parametrize("kind", ["ext2", "ext4", "xfs", "btrfs", "ntfs", "fat", "swap"])
def test_it_takes_a_new_uuid(kind: str, tmp_path: Path, device: Device) -> None:
    path = made(tmp_path / "part", kind, SMALL)
    part = device(path, SMALL)
    if kind not in ("fat", "swap"):
        fill(part, kind, 4)
    files = tree(part, kind) if kind not in ("fat", "swap") else {}
    before = identity(part)
    new = renew(part, kind)["uuid"]
    assert identity(part) == new != before
    check(part, kind)
    assert not files or tree(part, kind) == files


@disk
def test_swap_that_grew_keeps_uuid_and_label(tmp_path: Path, device: Device) -> None:
    path = made(tmp_path / "part", "swap", 32 * MIB)
    os.truncate(path, 64 * MIB)
    part = device(path, 64 * MIB)
    before = identity(part)
    grow(part, "swap")
    page = path.read_bytes()[:4096]
    assert identity(part) == before
    assert page[1052:1056] == b"swap"
    assert int.from_bytes(page[1028:1032], "little") == 64 * MIB // 4096 - 1  # last_page


@disk
def test_f2fs_grows_without_a_mount(tmp_path: Path, device: Device) -> None:
    # This may be a kernel without F2FS: the tools' own check must do.
    path = made(tmp_path / "part", "f2fs", 128 * MIB)
    os.truncate(path, 256 * MIB)
    part = device(path, 256 * MIB)
    grow(part, "f2fs")
    check(part, "f2fs")
    blocks = int.from_bytes(path.read_bytes()[1024 + 36 : 1024 + 44], "little")  # block_count
    assert blocks * 4096 > 250 * MIB


def test_what_cannot_be_done_is_known_before_anything_is_touched() -> None:
    for kind in ("ext4", "xfs", "btrfs", "ntfs", "swap", "f2fs"):
        assert why_not_grow(kind) == ""
    for kind in ("ext4", "btrfs", "ntfs", "swap"):
        assert why_not_shrink(kind) == ""
    for kind in ("fat", "exfat", "luks", "bitlocker", "unknown"):
        assert why_not_grow(kind).endswith(".")
    assert "larger disk" in why_not_shrink("xfs")
    # What a placement plans, a tool can do.
    assert not any(why_not_grow(kind) for kind in GROWS)
    assert not any(why_not_shrink(kind) for kind in SHRINKS)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "ntfs", "swap"])
def test_a_partition_that_holds_something_else_is_refused_with_a_sentence(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_bytes(os.urandom(MIB))
    with pytest.raises(ResizeFailed):
        grow(str(path), kind)
    with pytest.raises(ResizeFailed):
        minimum_size(str(path), kind)
