"""Disks of other sizes: file systems grow and shrink with theirs, what lies behind moves, nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from imaging.disk.device import Disk
from imaging.disk.table import read_table
from tests.imaging.agent.conftest import RunAgent
from tests.imaging.agent.room import Room
from tests.imaging.disks import run
from tests.imaging.matrix.filesystems import RECIPES, Facts, Recipe
from tests.imaging.matrix.trees import MIB
from tests.imaging.matrix.way import device, noise_disk

pytestmark = pytest.mark.disk

BEHIND = 6 * MIB
GROWING = [recipe for recipe in RECIPES if recipe.name in ("ext4", "xfs", "btrfs", "ntfs")]
SHRINKING = [recipe for recipe in GROWING if recipe.name != "xfs"]


class Source(NamedTuple):
    """A disk with something before, and a partition of noise behind the file system."""

    path: Path
    size: int
    recipe: Recipe
    start: int
    length: int
    facts: Facts
    noise: bytes


def make(recipe: Recipe, scratch: Path, room_behind: int = 0) -> Source:
    path, start = scratch / "source.img", 3 * MIB
    length = recipe.size + room_behind
    size = start + length + BEHIND + MIB
    noise = os.urandom(BEHIND)
    with open(path, "wb") as file:
        file.truncate(size)
    with device(path, 512, write=True) as whole:
        run(
            "sgdisk",
            "--new=1:2048:+2M", "--typecode=1:ef02",
            f"--new=2:{start // 512}:{(start + length) // 512 - 1}", "--typecode=2:8300",
            f"--new=3:0:+{BEHIND // MIB}M", "--typecode=3:8300",
            whole,
        )  # fmt: skip
    with device(path, 512, write=True, offset=start, size=length) as part:
        run(*recipe.make.format(sector=512).split(), part)
        recipe.fill(part, scratch)
    with open(path, "r+b") as file:
        file.seek(start + length)
        file.write(noise)
    with device(path, 512, offset=start, size=length) as part:
        facts = recipe.facts(part, scratch)
    return Source(path, size, recipe, start, length, facts, noise)


def capture(room: Room, run_agent: RunAgent, source: Source) -> str:
    room.order("capture", capture={"whole": ["unknown"]})
    run_agent(disk=source.path)
    outcome = room.outcomes.pop()
    assert outcome["ok"], outcome
    return room.versions[-1]


def deployed(room: Room, run_agent: RunAgent, target: Path, id: str, **options: Any) -> tuple[Any, str]:
    with device(target, 512, write=True) as disk:
        room.order("deploy", manifest=id, deploy=options)
        _, _, screen = run_agent(disk=Path(disk))
    return room.outcomes.pop(), screen


def judge(target: Path, source: Source, scratch: Path, length: int) -> None:
    """The table, the file system at its new size, its files, and what moved."""
    with Disk(target) as opened:
        _, partitions = read_table(opened)
    second, third = partitions[1], partitions[2]
    assert (second.start, second.size) == (source.start, length)
    assert third.start == source.start + length
    with open(target, "rb") as file:
        file.seek(third.start)
        assert file.read(BEHIND) == source.noise
    with device(target, 512) as disk:
        assert "No problems found" in run("sgdisk", "-v", disk)
    with device(target, 512, write=True, offset=second.start, size=length) as part:
        for command in source.recipe.check:
            run(*command.split(), part)
        assert source.recipe.facts(part, scratch) == source.facts


@pytest.mark.parametrize("recipe", GROWING, ids=lambda recipe: recipe.name)
def test_a_larger_disk_and_back_to_the_image(
    room: Room, run_agent: RunAgent, tmp_path: Path, recipe: Recipe
) -> None:
    source = make(recipe, tmp_path)
    id = capture(room, run_agent, source)
    more = 160 * MIB  # Btrfs resizes to 256 MiB or more only
    target = noise_disk(tmp_path / "target.img", source.size + more)
    outcome, screen = deployed(room, run_agent, target, id, grow=[2], discard=True)
    assert (outcome["ok"], outcome["verified"]) == (True, True), outcome
    assert f"agent: grown partition=2 filesystem={recipe.kind} from={source.length}" in screen
    judge(target, source, tmp_path, source.length + more)
    # A reset finds nearly everything in place, and the file system grown again afterwards.
    outcome, _ = deployed(room, run_agent, target, id, grow=[2])
    assert (outcome["ok"], outcome["verified"]) == (True, True), outcome
    assert outcome["chunks"]["kept"] > outcome["chunks"]["total"] * 0.5
    judge(target, source, tmp_path, source.length + more)


@pytest.mark.parametrize("recipe", SHRINKING, ids=lambda recipe: recipe.name)
def test_a_smaller_disk_when_the_files_fit(
    room: Room, run_agent: RunAgent, tmp_path: Path, recipe: Recipe
) -> None:
    source = make(recipe, tmp_path, room_behind=320 * MIB if recipe.kind == "btrfs" else 64 * MIB)
    id = capture(room, run_agent, source)
    less = 48 * MIB
    target = noise_disk(tmp_path / "target.img", source.size - less)
    before = target.read_bytes()
    outcome, _ = deployed(room, run_agent, target, id)
    assert outcome["code"] == "disk-too-small"
    assert str(source.size - less) in outcome["reason"]
    assert target.read_bytes() == before
    outcome, screen = deployed(room, run_agent, target, id, shrink=True)
    assert (outcome["ok"], outcome["verified"]) == (True, True), outcome
    assert f"agent: shrunk partition=2 filesystem={recipe.kind} from={source.length}" in screen
    judge(target, source, tmp_path, source.length - less)


@pytest.mark.parametrize("name", ["xfs", "ext4"])
def test_a_disk_that_is_too_small_is_refused_with_numbers_and_untouched(
    room: Room, run_agent: RunAgent, tmp_path: Path, name: str
) -> None:
    """XFS cannot shrink; ext4 can, but not below what it holds."""
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    source = make(recipe, tmp_path)
    id = capture(room, run_agent, source)
    size = source.size - (16 * MIB if name == "xfs" else recipe.size - 8 * MIB)
    target = noise_disk(tmp_path / "target.img", size)
    before = target.read_bytes()
    outcome, _ = deployed(room, run_agent, target, id, shrink=True)
    assert (outcome["ok"], outcome["code"]) == (False, "disk-too-small")
    assert str(size) in outcome["reason"]
    assert target.read_bytes() == before
    assert room.chunks_served == 0
