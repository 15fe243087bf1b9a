"""A wire with a server at one end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pxeboot.doctor.room import Wired, wired


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wired]:
    with wired(tmp_path) as made:
        yield made
