"""Each file system there and back: made, filled, captured; put on noise, damaged, put back, compared."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imaging.capture import capture
from imaging.chunks import hash_chunk, read_masked
from imaging.deploy import deploy, verify
from imaging.disk.loop import loop_device
from imaging.manifest import Manifest
from imaging.store import ChunkStore
from tests.imaging.disks import run
from tests.imaging.matrix.filesystems import RECIPES, Recipe
from tests.imaging.matrix.trees import MIB

pytestmark = [pytest.mark.disk, pytest.mark.timeout(60)]

START = 1 * MIB


@contextmanager
def device(path: Path, sector: int, *, write: bool = False, offset: int = 0, size: int = 0) -> Iterator[str]:
    """A disk file, or a stretch of it, as a block device with sectors of that size."""
    with (
        open(path, "r+b" if write else "rb") as file,
        loop_device(file.fileno(), write=write, sector_size=sector, offset=offset, size=size) as name,
    ):
        yield name


def make_disk(recipe: Recipe, sector: int, scratch: Path) -> Path:
    """A GPT disk with the file system in partition 1 and files in it."""
    path = scratch / "source.img"
    with open(path, "wb") as file:
        file.truncate(START + recipe.size + MIB)
    first, last = START // sector, (START + recipe.size) // sector - 1
    with device(path, sector, write=True) as whole:
        run("sgdisk", f"--new=1:{first}:{last}", "--typecode=1:8300", whole)
    with device(path, sector, write=True, offset=START, size=recipe.size) as part:
        run(*recipe.make.format(sector=sector).split(), part)
        recipe.fill(part, scratch)
    return path


def captured(path: Path, sector: int, store: ChunkStore) -> Manifest:
    with device(path, sector) as disk:  # the loop device itself is read-only
        manifest = capture(
            disk, missing=store.missing, upload=lambda frames: [store.add_frame(*frame) for frame in frames]
        )
    store.put_manifest(manifest.to_bytes(), bytes(64))
    return Manifest.from_bytes(store.manifest(manifest.id)[0])


def noise_disk(path: Path, size: int) -> Path:
    """A disk that was another one before: no byte of it is zero for long."""
    block = os.urandom(MIB)
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(block)
    return path


def damage(path: Path, seed: int = 3) -> None:
    """Two hundred writes anywhere, and the table gone."""
    dice = random.Random(seed)
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.write(bytes(64 << 10))
        for _ in range(200):
            file.seek(dice.randrange(size - 65536))
            file.write(dice.randbytes(dice.randrange(1, 65536)))


def used_hashes(path: Path, manifest: Manifest) -> list[bytes]:
    with open(path, "rb") as file:
        return [
            hash_chunk(read_masked(file.fileno(), ref.offset, ref.length, ref.runs))
            for ref in manifest.chunks
        ]


def check(recipe: Recipe, part: str) -> None:
    for command in recipe.check:
        said = run(*command.split(), part)
        assert "[Fail]" not in said, said


ROWS = [(recipe, sector) for recipe in RECIPES for sector in recipe.sectors]


@pytest.mark.parametrize(
    ("recipe", "sector"), ROWS, ids=[f"{recipe.name}-{sector}" for recipe, sector in ROWS]
)
def test_there_and_back(recipe: Recipe, sector: int, tmp_path: Path) -> None:
    source = make_disk(recipe, sector, tmp_path)
    with device(source, sector, offset=START, size=recipe.size) as part:
        check(recipe, part)
        facts = recipe.facts(part, tmp_path)
    assert len(facts) > 40

    with ChunkStore(tmp_path / "store", reserve=0) as store:
        manifest = captured(source, sector, store)
        (partition,) = manifest.disks[0].partitions
        expected = "whole" if (recipe.name, sector) == ("f2fs", 4096) else "used"
        assert (partition.filesystem, partition.capture) == (recipe.kind, expected)
        assert recipe.least < partition.used < recipe.most * recipe.size or expected == "whole"

        target = noise_disk(tmp_path / "target.img", source.stat().st_size)
        for spoil in (False, True):
            if spoil:
                damage(target)
            with device(target, sector, write=True) as disk:
                done = deploy(disk, manifest, lambda ref: store.frame(ref.hash))
                assert done.written
                assert verify(disk, manifest).ok
    assert used_hashes(target, manifest) == list(manifest.hashes) == used_hashes(source, manifest)
    with device(target, sector) as disk:
        assert "No problems found" in run("sgdisk", "-v", disk)
    with device(target, sector, offset=START, size=recipe.size) as part:
        check(recipe, part)
        assert recipe.facts(part, tmp_path) == facts
