"""The disk that forgets keeps what was flushed, shows what was written, and loses some of the rest."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.forgetful import ForgetfulDisk

pytestmark = pytest.mark.disk

MIB = 1 << 20


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    path = tmp_path / "medium"
    path.write_bytes(bytes(8 * MIB))
    return path


def test_it_keeps_what_was_flushed_and_forgets_some_of_the_rest(medium: Path) -> None:
    dice = random.Random(4)
    first, second = dice.randbytes(2 * MIB), dice.randbytes(2 * MIB)
    with ForgetfulDisk(medium) as disk:
        disk.power_on()
        fd = os.open(disk.path, os.O_RDWR)
        os.pwrite(fd, first, MIB + 100)
        os.fsync(fd)
        assert disk.at_stake == 0
        os.pwrite(fd, second, 4 * MIB + 100)
        os.pwrite(fd, second[:300], 4 * MIB + 1000)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        seen = bytearray(second)
        seen[900:1200] = second[:300]
        assert os.pread(fd, len(seen), 4 * MIB + 100) == seen
        os.close(fd)
        lost = disk.cut()
        assert 100 < lost < 400
        left = medium.read_bytes()
        assert left[MIB + 100 :][: len(first)] == first
        same = [
            left[at : at + 4096] == seen[at - 4 * MIB - 100 :][:4096]
            for at in range(4 * MIB + 4096, 6 * MIB, 4096)
        ]
        assert 100 < same.count(False) < 400
        disk.power_on()
        assert disk.path.read_bytes() == left
