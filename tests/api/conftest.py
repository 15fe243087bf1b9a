"""The HTTP application over a real database and chunk store, called without a socket."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.app import create_app
from pxeboot.adapters import container
from pxeboot.adapters.container import Services
from pxeboot.adapters.leaseview import LeaseView
from tests import plane as furniture


class Served(furniture.Plane):
    """A control plane with its application; `client(n)` speaks from machine n's address."""

    def __init__(self, data_dir: Path, **sections: Any) -> None:
        super().__init__(data_dir, **sections)
        self.services: Services = container.open_services(self.settings, base_url="http://10.20.0.1")
        # No lease table and an empty neighbour table: a token is bound to the requester's address alone.
        self.services.leases = LeaseView(None, neighbour=lambda address: None)
        self.app: FastAPI = create_app(self.services)

    def client(self, number: int = 1, credential: str = "") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        transport = httpx.ASGITransport(
            self.app, client=(furniture.ip(number), 40000), raise_app_exceptions=False
        )
        return httpx.AsyncClient(transport=transport, base_url="http://10.20.0.1", headers=headers)

    def close(self) -> None:
        container.close(self.services)
        self.database.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path / "data")
    yield made
    made.close()
    shutil.rmtree(tmp_path / "data")


@pytest.fixture
async def client(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with served.client() as made:
        yield made
