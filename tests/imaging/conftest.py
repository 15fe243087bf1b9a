"""What the tests of capture and deploy begin with: an empty store, and a disk that has every file system."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imaging.store import ChunkStore
from tests.imaging import disks


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChunkStore]:
    with ChunkStore(tmp_path / "store", reserve=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("master")
    return disks.make_disk(scratch / "master.img", scratch)


@pytest.fixture
def source(tmp_path: Path, master: Path) -> Path:
    disks.run("cp", "--sparse=always", master, tmp_path / "source.img")
    return tmp_path / "source.img"
