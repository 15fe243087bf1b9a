"""A partition and what lies behind its new end as one device: by files, and in the mapper's own words."""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

import pytest

from imaging.disk.device import Disk
from imaging.errors import ResizeFailed
from imaging.resize import mapper
from imaging.resize.rejoin import rejoined

pytestmark = pytest.mark.disk
MIB = 1 << 20


def test_both_parts_are_there_and_only_the_first_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    first, behind = os.urandom(4 * MIB), os.urandom(2 * MIB)
    path.write_bytes(b"a" * MIB + first + b"z" * MIB)
    with tempfile.TemporaryFile() as spill, Disk(path, write=True) as disk:
        spill.write(behind)
        spill.flush()
        used = [(MIB, MIB), (3 * MIB, 2 * MIB)]
        with (
            rejoined(disk, MIB, 4 * MIB, spill.fileno(), 6 * MIB, used) as device,
            open(device, "r+b", buffering=0) as whole,
        ):
            data = whole.read(6 * MIB)
            assert data[:MIB] == first[:MIB]
            assert data[2 * MIB : 4 * MIB] == first[2 * MIB :]
            assert data[4 * MIB :] == behind
            whole.seek(2 * MIB)
            whole.write(behind[:MIB])  # what a shrinker does
            whole.seek(3 * MIB)
            whole.write(bytes(4096))
            os.fsync(whole.fileno())
    after = path.read_bytes()
    assert after[:MIB] == b"a" * MIB
    assert after[-MIB:] == b"z" * MIB
    assert after[MIB : 2 * MIB] == first[:MIB]
    assert after[3 * MIB : 4 * MIB] == behind[:MIB]
    assert after[4 * MIB : 5 * MIB] == bytes(4096) + first[3 * MIB + 4096 :]


def fail_halfway(disk: Disk, spill: int) -> None:
    with (
        rejoined(disk, 0, 2 * MIB, spill, 3 * MIB, [(0, 2 * MIB)]) as device,
        open(device, "r+b", buffering=0) as whole,
    ):
        whole.write(b"half a move")
        whole.seek(3 * MIB)
        whole.write(b"over the end")


def test_a_tool_that_fails_leaves_the_disk_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(2 * MIB))
    before = path.read_bytes()
    with tempfile.TemporaryFile() as spill, Disk(path, write=True) as disk:
        os.ftruncate(spill.fileno(), MIB)
        with pytest.raises(OSError, match="No space left"):
            fail_halfway(disk, spill.fileno())
    assert path.read_bytes() == before
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".pxeboot")]


def test_the_mappers_table_names_its_devices_one_after_the_other() -> None:
    table = mapper._table([("/dev/null", 8 * MIB), ("/dev/zero", 2 * MIB)])
    start, length, _, following, kind = struct.unpack_from("=QQiI16s", table)
    assert (start, length, kind.rstrip(b"\0")) == (0, 16384, b"linear")
    assert table[40:following].rstrip(b"\0") == b"1:3 0"
    start, length, _, _, _ = struct.unpack_from("=QQiI16s", table, following)
    assert (start, length) == (16384, 4096)
    assert len(table) % 8 == 0


@pytest.mark.skipif(mapper.available(), reason="this kernel has a device mapper")
def test_a_kernel_without_a_device_mapper_is_told_in_a_sentence() -> None:
    with pytest.raises(ResizeFailed, match="device mapper"), mapper.joined([("/dev/null", MIB)]):
        pass
