"""The command line against a real server behind a Unix socket."""

from __future__ import annotations

import io
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from api.app import create_app
from pxeboot.adapters import container
from pxeboot.adapters.container import Services
from pxeboot.cli import main
from pxeboot.services import auth, groups, hosts
from pxeboot.settings import Settings
from tests.plane import mac, migrated_database


@dataclass
class Said:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Said]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(migrated_database(), data / "pxeboot.sqlite")
    made = container.open_services(Settings.model_validate({"server": {"data_dir": data}}))
    yield made
    container.close(made)


@pytest.fixture
def run(
    tmp_path: Path,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """`run("host", "list")` as an administrator of a server with group B204 and hosts pc1 and pc2."""
    with services.write() as session:
        token = auth.create_token(session, name="cli", role="admin")[0]
        groups.create_group(session, name="B204")
        for number in (1, 2):
            hosts.create_host(session, name=f"pc{number}", macs=[mac(number)], group="B204")
    socket = str(tmp_path / "s")
    server = uvicorn.Server(uvicorn.Config(create_app(services), uds=socket, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)

    def call(*words: str, typed: str = "") -> Said:
        before = ["pxeboot", "--socket", socket, "--url", "http://pxeboot", "--token", token]
        monkeypatch.setattr(sys, "argv", [*before, *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Said(int(ended.value.code or 0), printed.out, printed.err)

    yield call
    server.should_exit = True
    thread.join(60)
