"""What a deploy task may ask for beside the image: sizes, single partitions, several disks, discard …"""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from imaging.capture import capture
from imaging.manifest import Manifest
from imaging.options import CaptureOptions
from tests.imaging.agent.conftest import RunAgent
from tests.imaging.agent.images import SIZE, blank, content, make_disk, partitions, store_image
from tests.imaging.agent.room import Room

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_disk(tmp_path / "source.img")


def last(room: Room) -> Any:
    assert len(room.outcomes) == 1
    return room.outcomes.pop()


def two_disks(room: Room, *paths: Path) -> Manifest:
    images = []
    for path in paths:
        manifest = capture(
            path,
            options=CaptureOptions(whole=("unknown",)),
            missing=room.store.missing,
            upload=lambda frames: [room.store.add_frame(hash, frame) for hash, frame in frames],
        )
        images += manifest.disks
    both = Manifest(images)
    room.put_manifest(both.to_bytes())
    return both


def test_an_image_of_two_disks_goes_to_two_disks(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    data = make_disk(tmp_path / "data.img", size=32 * MIB, seed=2)
    manifest = two_disks(room, source, data)
    first, second = blank(tmp_path / "a.img"), blank(tmp_path / "b.img", 40 * MIB)
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=f"{first},{second}")
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"]) == (True, True), outcome
    chunks = outcome["chunks"]
    assert chunks["total"] == chunks["kept"] + chunks["written"] == len(manifest.chunks) == 28
    assert (content(first), content(second)) == (content(source), content(data))
    assert all("No problems found" in partitions(disk) for disk in (first, second))
    # One of them changes: only what it lacks is sent.
    with open(second, "r+b") as file:
        file.seek(5 * MIB)
        file.write(b"a student was here")
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=f"{first},{second}")
    assert last(room)["chunks"] == {"total": 28, "kept": 27, "written": 1}
    assert content(second) == content(data)


def test_an_image_of_two_disks_is_not_put_on_one(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = two_disks(room, source, source)
    target = blank(tmp_path / "a.img")
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=target)
    outcome = last(room)
    assert outcome["code"] == "manifest-several-disks"
    assert "has 2 disks, and the task says for 1" in outcome["reason"]
    assert target.read_bytes() == bytes(SIZE)


def test_the_second_disk_too_small_leaves_the_first_one_alone(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = two_disks(room, source, source)
    first, second = blank(tmp_path / "a.img"), blank(tmp_path / "b.img", 8 * MIB)
    room.order("deploy", manifest=manifest.id)
    run_agent(disk=f"{first},{second}")
    assert last(room)["code"] == "disk-too-small"
    assert first.read_bytes() == bytes(SIZE)


def test_one_partition_is_put_back_and_the_other_one_is_not_touched(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = tmp_path / "target.img"
    target.write_bytes(source.read_bytes())
    with open(target, "r+b") as file:
        for at in (3 * MIB, 12 * MIB):
            file.seek(at)
            file.write(b"a student was here")
    before = target.read_bytes()
    room.order("deploy", manifest=manifest.id, deploy={"partitions": [2]})
    _, _, screen = run_agent(disk=target)
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"]) == (True, True), outcome
    assert outcome["chunks"] == {"total": 4, "kept": 3, "written": 1}
    assert "written=2 grown=none cut=none" in screen
    after = target.read_bytes()
    assert after[11 * MIB : 15 * MIB] == source.read_bytes()[11 * MIB : 15 * MIB]
    assert (after[: 11 * MIB], after[15 * MIB :]) == (before[: 11 * MIB], before[15 * MIB :])


def test_one_partition_on_a_disk_that_has_others_is_refused_with_numbers(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img")
    subprocess.run(["sgdisk", "-n", "1:2048:+8M", str(target)], check=True, capture_output=True)
    before = target.read_bytes()
    room.order("deploy", manifest=manifest.id, deploy={"partitions": [1]})
    run_agent(disk=target)
    outcome = last(room)
    assert outcome["code"] == "table-differs"
    assert f"({8 * MIB} bytes from {MIB}" in outcome["reason"]
    assert f"({10 * MIB} bytes from {MIB}" in outcome["reason"]
    assert target.read_bytes() == before


def test_growth_of_what_cannot_grow_is_refused_before_anything_is_written(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img", 64 * MIB)
    room.order("deploy", manifest=manifest.id, deploy={"grow": [2]})
    run_agent(disk=target)
    outcome = last(room)
    assert (outcome["code"], "unknown" in outcome["reason"]) == ("placement-refused", True)
    assert target.read_bytes() == bytes(64 * MIB)


def test_options_from_the_future_are_refused(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img")
    room.order("deploy", manifest=manifest.id, deploy={"teleport": True})
    run_agent(disk=target)
    assert last(room)["code"] == "options-invalid"
    assert target.read_bytes() == bytes(SIZE)


def test_unused_space_is_discarded_when_asked_for(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = tmp_path / "target.img"
    target.write_bytes(os.urandom(SIZE))
    room.order("deploy", manifest=manifest.id, deploy={"discard": True})
    _, _, screen = run_agent(disk=target)
    assert last(room)["verified"]
    assert f"agent: discarded disk={target} bytes={8 * MIB}" in screen
    assert content(target) == content(source)
    assert target.read_bytes()[16 * MIB : 23 * MIB] == bytes(7 * MIB)


def test_a_deploy_without_proof_says_that_it_has_none(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path
) -> None:
    manifest = store_image(room, source)
    target = blank(tmp_path / "target.img")
    room.order("deploy", manifest=manifest.id, deploy={"verify": False})
    run_agent(disk=target)
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"]) == (True, False)
    assert "verify" not in outcome["seconds"]
    assert content(target) == content(source)


@pytest.mark.parametrize("options", [{"partitions": [1], "discard": True}, {"discard": True}])
def test_whatever_was_asked_for_a_deploy_killed_half_way_goes_on(
    room: Room, run_agent: RunAgent, source: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    manifest = store_image(room, source)
    target = tmp_path / "target.img"
    target.write_bytes(source.read_bytes())
    with open(target, "r+b") as file:
        file.seek(MIB)
        file.write(os.urandom(8 * MIB))
    served = 0

    def die(hash: bytes, frame: bytes) -> bytes:
        nonlocal served
        served += 1
        if served >= 5:
            raise ConnectionAbortedError("the power went")
        return frame

    room.on_chunk = die
    room.go_on = lambda progress: (served < 5, "The power went.")
    room.order("deploy", manifest=manifest.id, deploy=options)
    run_agent(disk=target)
    assert last(room)["ok"] is False
    room.go_on, room.on_chunk = lambda progress: (True, ""), lambda hash, frame: frame
    room.chunks_served = 0
    room.order("deploy", manifest=manifest.id, deploy=options, attempt=2)
    run_agent(disk=target)
    outcome = last(room)
    assert (outcome["ok"], outcome["verified"]) == (True, True)
    assert room.chunks_served < 8
    assert content(target) == content(source)
