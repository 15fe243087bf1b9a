"""Reading a disk finds what cannot be read, to the block."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.health import surface
from tests.imaging.broken import broken_disk

MIB = 1 << 20


def disk(tmp_path: Path, size: int) -> Path:
    path = tmp_path / "disk"
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def test_a_good_disk_is_read_to_its_end(tmp_path: Path) -> None:
    told: list[int] = []
    path = disk(tmp_path, 66 * MIB + 512)
    found = surface.scan(str(path), full=True, progress=told.append, check=lambda: None)
    assert (found.bytes, found.bad, sum(told)) == (66 * MIB + 512, [], 66 * MIB + 512)
    assert found.to_json()["bytes_per_second"] > 0
    quick = surface.scan(str(path), full=False, progress=told.append, check=lambda: None)
    assert quick.bytes == 2 * MIB, "every 64th MiB"


@pytest.mark.disk
def test_an_unreadable_sector_is_found(tmp_path: Path) -> None:
    path = disk(tmp_path, 8 * MIB)
    with broken_disk(path, 3 * MIB // 512 + 8) as device:
        found = surface.scan(device, full=True, progress=lambda done: None, check=lambda: None)
    (start, length), *others = surface.merged(found.bad)
    assert not others
    assert start <= 3 * MIB + 4096 < start + length
    assert length <= 4096, "a page of the kernel's cache at most"
    assert found.bytes == 8 * MIB


def test_neighbours_are_one_place() -> None:
    assert surface.merged([(1024, 512), (0, 512), (512, 512), (4096, 512)]) == [(0, 1536), (4096, 512)]
