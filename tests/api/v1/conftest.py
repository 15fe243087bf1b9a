"""The admin API over a real control plane, asked as administrator, as viewer and as a stranger."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from api.app import create_app
from pxeboot.adapters import container
from pxeboot.adapters.container import Services
from pxeboot.services import auth, hosts, images
from pxeboot.settings import Settings
from tests.plane import migrated_database


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    shutil.copy(migrated_database(), tmp_path / "pxeboot.sqlite")  # migrating anew takes a second
    settings = Settings.model_validate({"server": {"data_dir": tmp_path}, "images": {"reserve_mb": 0}})
    made = container.open_services(settings)
    yield made
    container.close(made)


@pytest.fixture
def app(services: Services) -> FastAPI:
    import webui

    made = create_app(services)
    webui.mount(made)
    return made


@pytest.fixture
def ask(app: FastAPI, services: Services) -> Callable[..., httpx.Response]:
    """`ask("GET", "/hosts", by="admin", json=…)`; `by=None` sends no token."""
    tokens: dict[str, str] = {}
    with services.write() as session:
        for role in auth.ROLES:
            tokens[role] = auth.create_token(session, name=role, role=role)[0]
    client = TestClient(app, raise_server_exceptions=False)

    def call(method: str, path: str, *, by: str | None = "admin", **more: Any) -> httpx.Response:
        headers = {**more.pop("headers", {})}
        if by:
            headers["Authorization"] = f"Bearer {tokens.get(by, by)}"
        return client.request(method, f"/api/v1{path}", headers=headers, **more)

    return call


@pytest.fixture
def room(services: Services, ask: Callable[..., httpx.Response]) -> None:
    """A group of two approved hosts, a third one pending, and an image with one version."""
    ask("POST", "/groups", json={"name": "B204"})
    with services.write() as session:
        for number, state in ((1, "approved"), (2, "approved"), (3, "pending")):
            hosts.create_host(
                session,
                name=f"B204-0{number}",
                macs=[f"52:54:00:00:00:0{number}"],
                group="B204",
                state=state,
            )
        images.add_version(
            session,
            "debian",
            manifest="ab" * 32,
            disk_bytes=2_000_000_000,
            used_bytes=700_000_000,
            stored_bytes=250_000_000,
            chunks=700,
            source_host="B204-01",
        )
