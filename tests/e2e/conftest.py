"""Where the end-to-end rooms find their boot environment and reference system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pxeboot.bootenv.build import build as build_bootenv
from pxeboot.lab import guest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def var() -> Path:
    """Built things and rooms: `PXEBOOT_VAR`, else `var/` of the checkout, as for scripts/setup."""
    if os.geteuid() != 0:
        pytest.skip("the virtual room needs root")
    return Path(os.environ.get("PXEBOOT_VAR", ROOT / "var"))


@pytest.fixture(scope="session")
def boot_files(var: Path) -> Path:
    """The boot environment, brought up to date."""
    build_bootenv(var / "boot", var / "cache")
    return var / "boot"


@pytest.fixture(scope="session")
def reference(var: Path) -> guest.Guest:
    """The reference system."""
    return guest.build(var / "cache")
