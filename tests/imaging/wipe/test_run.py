"""Disks are wiped and read again: files, real loop devices, one that cannot be written everywhere."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from imaging.disk.device import Disk
from imaging.disk.loop import loop_device
from imaging.other_options import WipeOptions
from imaging.wipe import erase, proof
from imaging.wipe.abilities import Abilities
from imaging.wipe.run import Target, look, wipe
from tests.imaging.broken import broken_disk

MIB = 1 << 20
SIZE = 24 * MIB + 512  # not a whole number of pieces


def full(path: Path, size: int = SIZE) -> Path:
    path.write_bytes(random.Random(1).randbytes(MIB) * (size // MIB) + b"x" * (size % MIB))
    return path


def run(path: str, *, file: bool = False, **options: Any) -> tuple[dict[str, Any], int]:
    """(record, bytes told)."""
    told: list[int] = []
    target = Target(path, os.path.getsize(path) if file else 0, "SER1", file=file)
    able = look(target, [path])
    record = wipe(
        target, WipeOptions.from_task(options), able,
        progress=told.append, check=lambda: None, tell=lambda line: None,
    )  # fmt: skip
    return record, sum(told)


def test_a_file_is_overwritten_and_proved(tmp_path: Path) -> None:
    disk = full(tmp_path / "disk")
    record, told = run(str(disk), file=True, method="auto", passes=2, verify="full")
    assert (record["method"], record["passes"], record["verified"], record["error"]) == (
        "overwrite",
        2,
        True,
        "",
    )
    assert told == 3 * SIZE
    assert disk.stat().st_size == SIZE
    assert not any(disk.read_bytes())


def test_a_disk_that_keeps_its_data_is_not_called_wiped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = full(tmp_path / "disk")
    monkeypatch.setattr(erase, "overwrite", lambda *_: [])
    record, _ = run(str(disk), file=True)
    assert not record["verified"]
    assert "do not read as zeros" in record["error"]


def test_one_block_that_was_left_is_found_by_reading_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = full(tmp_path / "disk")
    real = erase.overwrite

    def careless(given: Disk, *rest: Any) -> list[tuple[int, int]]:
        bad = real(given, *rest)
        os.pwrite(given.fd, b"secret", 11 * MIB + 77)
        return bad

    monkeypatch.setattr(erase, "overwrite", careless)
    record, _ = run(str(disk), file=True, verify="full")
    assert not record["verified"]
    assert "1 of 7 places" in record["error"]


def test_where_no_zeros_are_promised_old_data_must_be_gone(tmp_path: Path) -> None:
    path = full(tmp_path / "disk", 8 * MIB)
    with Disk(path, write=True) as disk:
        offsets = proof.places(disk.size)
        before = proof.remember(disk, offsets)
        assert offsets[0] == 0
        assert offsets[-1] == disk.size - proof.SAMPLE
        assert len(before) == len(offsets)
        assert not proof.prove(disk, offsets, before, zeros=False).holds
        os.pwrite(disk.fd, random.Random(2).randbytes(8 * MIB), 0)
        assert proof.prove(disk, offsets, before, zeros=False).holds
        assert not proof.prove(disk, offsets, before, zeros=True).holds
        assert not proof.Proof("gone").holds, "nothing was read, so nothing is proved"


def test_the_controller_of_a_namespace() -> None:
    assert erase.controller_of("/dev/nvme0n1") == "/dev/nvme0"
    assert erase.controller_of("/dev/nvme12n3") == "/dev/nvme12"


def test_all_data_must_be_named_by_the_command_that_erases(tmp_path: Path) -> None:
    said: list[int] = []
    erase.watched(["true"], 100, 60, 60, said.append)
    assert sum(said) == 100
    with pytest.raises(erase.WipeFailed, match="sh: no such disk"):
        erase.watched(["sh", "-c", "echo no such disk; exit 3"], 100, 60, 60, said.append)


@pytest.mark.disk
@pytest.mark.parametrize("method", ["overwrite", "discard"])
def test_a_loop_device_is_wiped(tmp_path: Path, method: str) -> None:
    file = full(tmp_path / "disk")
    fd = os.open(file, os.O_RDWR)
    try:
        with loop_device(fd, write=True) as device:
            assert look(Target(device, SIZE), [device]).discard
            record, _ = run(device, method=method)
            with Disk(device) as disk:
                assert not any(disk.read_at(0, SIZE))
    finally:
        os.close(fd)
    assert (record["method"], record["verified"]) == (method, True), record
    if method == "discard":
        assert file.stat().st_blocks * 512 < MIB


@pytest.mark.disk
def test_blocks_that_cannot_be_written_are_named_and_the_rest_is_wiped(tmp_path: Path) -> None:
    file = full(tmp_path / "disk", 24 * MIB)
    with broken_disk(file, 9 * MIB // 512) as device:
        record, _ = run(device)
    assert not record["verified"]
    assert "could not be overwritten: destroy the disk" in record["error"], record
    bad = record["unwritable"]
    assert min(start for start, _ in bad) == 9 * MIB
    assert sum(length for _, length in bad) <= 4096, "a page of the kernel's cache at most"
    left = file.read_bytes()
    assert any(left[9 * MIB : 9 * MIB + 512])
    assert not any(left[: 9 * MIB])
    assert not any(left[9 * MIB + 4096 :])


@pytest.mark.disk
def test_a_disk_in_use_is_not_touched(tmp_path: Path) -> None:
    file = full(tmp_path / "disk")
    fd = os.open(file, os.O_RDWR)
    try:
        with loop_device(fd, write=True) as device:
            held = os.open(device, os.O_RDONLY | os.O_EXCL)
            try:
                record, _ = run(device)
            finally:
                os.close(held)
    finally:
        os.close(fd)
    assert "is in use" in record["error"]
    assert file.read_bytes().startswith(random.Random(1).randbytes(16))


def test_able_says_what_sysfs_says(tmp_path: Path) -> None:
    assert look(Target(str(tmp_path / "x"), 1, file=True), []) == Abilities(
        discard=True, zeros_after_discard=True
    )
