"""New settings while the daemon runs: all of them, or none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pxeboot.adapters.listening import ServiceFailed
from pxeboot.adapters.reload import Reloader
from pxeboot.settings import Settings


class Failing:
    """Boot services that cannot take the new settings."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def use(self, settings: Settings, plan: Any) -> None:
        raise self._error


@pytest.mark.parametrize(
    "error", [ServiceFailed("DHCP cannot listen."), OSError("no more files"), KeyError("x")]
)
async def test_whatever_goes_wrong_the_old_settings_stay(tmp_path: Path, error: Exception) -> None:
    file = tmp_path / "pxeboot.toml"
    file.write_text("[tasks]\nmax_attempts = 7\n")
    old = Settings()
    journal = SimpleNamespace(record=lambda *args, **more: None)
    services: Any = SimpleNamespace(settings=old, journal=journal)
    boot: Any = Failing(error)
    with pytest.raises(Exception):  # noqa: B017
        await Reloader(services, boot, (), file).reload()
    assert services.settings is old
