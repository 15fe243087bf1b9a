"""What every DHCP conversation needs: a lease table on disk, and a responder for one subnet on eth0."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dhcp.leases import SqliteLeases
from dhcp.responder import Responder
from tests.dhcp.conversation import Make, Shelf, subnet


@pytest.fixture
def leases(tmp_path: Path) -> Iterator[SqliteLeases]:
    store = SqliteLeases(tmp_path / "leases.sqlite")
    yield store
    store.close()


@pytest.fixture
def make(leases: SqliteLeases) -> Make:
    """`make(more=(other subnets,), choice=..., **changes to the subnet)`."""

    def responder(*, more: tuple[Any, ...] = (), choice: Any = None, **changes: Any) -> Responder:
        return Responder([subnet(**changes), *more], leases, choice or Shelf())

    return responder
