"""What is promised before a deploy writes anything must hold: shrunk to the estimate, all files are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.disk.area import Area
from imaging.disk.content import take
from imaging.disk.device import Disk
from imaging.disk.loop import loop_device
from imaging.disk.probe import probe
from imaging.options import CaptureOptions
from imaging.resize import shrink
from imaging.resize.estimate import smallest
from tests.imaging.resize.samples import MAKERS, MIB, check, fill, tree

KINDS = ["ext2", "ext4", "btrfs", "ntfs"]


@pytest.mark.disk
@pytest.mark.parametrize("size", [400 * MIB, 1500 * MIB, 6000 * MIB])
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_system_can_be_shrunk_to_what_was_promised(kind: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / "part"
    with open(path, "wb") as file:
        file.truncate(size)
    MAKERS[kind](path)
    fd = os.open(path, os.O_RDWR)
    try:
        with loop_device(fd, size=size, write=True) as device:
            fill(device, kind, 60)
            before = tree(device, kind)
        with Disk(path) as disk:
            found = probe(disk.read_at, size)
            used = take(disk, Area("This part", 0, size), found, CaptureOptions()).used
        least = smallest(kind, used, size) // MIB * MIB
        if least > size - 16 * MIB:
            pytest.skip(f"{kind} of {size} bytes is not promised to become smaller")
        with loop_device(fd, size=size, write=True) as device:
            shrink(device, kind, least)
            check(device, kind)
            assert tree(device, kind) == before
    finally:
        os.close(fd)


@given(st.sampled_from([*KINDS, "swap"]), st.integers(0, 1 << 44), st.integers(0, 1 << 44))
def test_a_promise_leaves_room_for_everything_used(kind: str, used: int, size: int) -> None:
    assert smallest(kind, used, size) > used
    assert smallest(kind, used + MIB, size) >= smallest(kind, used, size)
