"""Where tests on real firmware find the boot environment and a control plane."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot.bootenv import build
from tests.pxeboot.boot.machines import Site

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def boot_files() -> Path:
    place = Path(os.environ.get("PXEBOOT_BOOTENV_DIR", REPOSITORY / "var"))
    return build(place / "boot", place / "cache").path


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path, boot_files: Path) -> Iterator[Site]:
    made = Site(tmp_path / "data", boot_files, **getattr(request, "param", {}))
    yield made
    made.close()
