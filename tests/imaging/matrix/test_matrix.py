"""Each file system there and back: made, filled, captured; put on noise, damaged, put back, compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.store import ChunkStore
from tests.imaging.disks import run
from tests.imaging.matrix.filesystems import RECIPES, Recipe
from tests.imaging.matrix.way import START, captured, device, partitioned, put_back, used_hashes

pytestmark = pytest.mark.disk


def make_disk(recipe: Recipe, sector: int, scratch: Path) -> Path:
    """A GPT disk with the file system in partition 1 and files in it."""
    path = partitioned(scratch / "source.img", recipe.size, sector)
    with device(path, sector, write=True, offset=START, size=recipe.size) as part:
        run(*recipe.make.format(sector=sector).split(), part)
        recipe.fill(part, scratch)
    return path


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

        target = put_back(tmp_path / "target.img", source.stat().st_size, manifest, store, sector)
    assert used_hashes(source, manifest) == list(manifest.hashes)
    with device(target, sector, offset=START, size=recipe.size) as part:
        check(recipe, part)
        assert recipe.facts(part, tmp_path) == facts
