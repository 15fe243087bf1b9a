"""Disks that fail while they are deployed to: full, gone, forgetful. A sentence, never a false "done"."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.imaging.agent.conftest import RunAgent
from tests.imaging.agent.images import SIZE, blank, content, make_disk, store_image
from tests.imaging.agent.room import Room

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_disk(tmp_path / "source.img")


def last(room: Room) -> Any:
    assert len(room.outcomes) == 1
    return room.outcomes.pop()


def flip(path: Path, at: int) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        byte = os.pread(fd, 1, at)[0]
        os.pwrite(fd, bytes([byte ^ 0x10]), at)
    finally:
        os.close(fd)


@pytest.mark.parametrize("place", [3 * MIB + 77, 13 * MIB, 600, SIZE - 100])
def test_a_bit_that_flips_after_the_write_is_found_and_put_right(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """In either partition, in the table, in its backup."""
    import imaging.agent.deploy as module

    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img")
    genuine = module.prove

    def prove(*arguments: Any) -> None:
        flip(target, place)
        genuine(*arguments)

    monkeypatch.setattr(module, "prove", prove)
    room.order("deploy", manifest=manifest.id)
    _, _, screen = run_agent(disk=target)
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"]) == (True, True), outcome
    in_table = not MIB <= place < 15 * MIB
    assert f"agent: verify bad={0 if in_table else 1} table={'bad' if in_table else 'ok'}" in screen
    assert content(target) == content(source)
    subprocess.run(["sgdisk", "--verify", str(target)], check=True, capture_output=True)


def test_a_disk_that_shrinks_before_the_proof_is_not_called_done(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import imaging.agent.deploy as module

    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img")
    genuine = module.prove

    def prove(*arguments: Any) -> None:
        os.truncate(target, 8 * MIB)
        genuine(*arguments)

    monkeypatch.setattr(module, "prove", prove)
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=target)
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"], outcome["code"]) == (False, False, "disk-unsupported")
    assert "check its cable" in outcome["reason"]


@pytest.fixture
def small_room(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MiB: disk files on it promise more than there is."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def loop(small_room: Path) -> Iterator[tuple[Path, Path]]:
    """A block device that cannot keep what it takes, and the file behind it."""
    file = blank(small_room / "disk.img")
    done = subprocess.run(
        ["losetup", "--find", "--show", str(file)], check=True, capture_output=True, text=True
    )
    device = Path(done.stdout.strip())
    try:
        yield device, file
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)


@pytest.mark.disk
def test_a_disk_file_on_a_full_file_system_ends_in_one_sentence(
    room: Room, run_agent: RunAgent, source: Path, small_room: Path
) -> None:
    manifest = store_image(room, source)
    room.order("deploy", manifest=manifest.id, force_full=True)
    _, _, screen = run_agent(disk=blank(small_room / "disk.img"))
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"], outcome["code"]) == (False, False, "disk-failed")
    assert "No space left on device" in outcome["reason"]
    assert "Traceback" not in screen


@pytest.mark.disk
def test_a_device_that_loses_what_it_took_is_found_out(
    room: Room, run_agent: RunAgent, source: Path, loop: tuple[Path, Path]
) -> None:
    """The kernel takes the writes into its cache; the medium behind it refuses them afterwards."""
    device, _file = loop
    manifest = store_image(room, source)
    room.order("deploy", manifest=manifest.id, force_full=True)
    _, _, screen = run_agent(disk=device)
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"], outcome["code"]) == (False, False, "disk-failed")
    assert "replace it" in outcome["reason"] or "check the disk" in outcome["reason"]
    assert "Traceback" not in screen


@pytest.mark.disk
def test_a_disk_that_vanishes_in_mid_deploy_ends_in_one_sentence(
    room: Room, run_agent: RunAgent, source: Path, loop: tuple[Path, Path]
) -> None:
    device, file = loop
    manifest = store_image(room, source)
    served = 0

    def pull_the_plug(hash: bytes, frame: bytes) -> bytes:
        nonlocal served
        served += 1
        if served == 5:
            os.truncate(file, 0)
            subprocess.run(["losetup", "--set-capacity", str(device)], check=True)
        return frame

    room.on_chunk = pull_the_plug
    room.order("deploy", manifest=manifest.id, force_full=True)
    _, _, screen = run_agent(disk=device)
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"]) == (False, False)
    assert outcome["code"] in ("disk-failed", "disk-unsupported")
    assert str(device) in outcome["reason"] or "check the disk" in outcome["reason"]
    assert "Traceback" not in screen
