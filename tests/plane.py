"""A control plane on a real SQLite file, for tests: a migrated database is made once and copied."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlmodel import Session

from pxeboot.boot.decide import Client
from pxeboot.db.engine import Database, open_database
from pxeboot.events import Change, Record
from pxeboot.services import boots, checkin, groups, hosts, images, operations, unit
from pxeboot.services.views import OperationRequest, OperationView
from pxeboot.settings import Settings

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MANIFEST = "ab" * 32


@cache
def migrated_database() -> Path:
    """An empty database of today's tables, made once per run."""
    folder = Path(tempfile.mkdtemp(prefix="pxeboot-test-"))
    open_database(Settings.model_validate({"server": {"data_dir": folder}})).close()
    return folder / "pxeboot.sqlite"


class Heard:
    """Stands where the journal is: what a committed unit of work would tell the world."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.changes: list[Change] = []

    def add(self, record: Record) -> None:
        self.records.append(record)

    def publish(self, change: Change) -> None:
        self.changes.append(change)

    @property
    def kinds(self) -> list[str]:
        return [record.kind for record in self.records]


class Plane:
    """Database, settings, and what was said."""

    def __init__(self, data_dir: Path, **sections: Any) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.settings = Settings.model_validate({"server": {"data_dir": data_dir}, **sections})
        if not (data_dir / "pxeboot.sqlite").exists():
            shutil.copy(migrated_database(), data_dir / "pxeboot.sqlite")
        self.database = Database(data_dir / "pxeboot.sqlite")
        self.heard = Heard()

    def read(self) -> contextlib.AbstractContextManager[Session]:
        return self.database.read()

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        with unit.writing(self.database, self.heard) as session:  # type: ignore[arg-type]
            yield session

    # --- the furniture of most conversations

    def room(self, count: int = 3, *, name: str = "B204", state: str = "approved") -> None:
        """A group of hosts pc1, pc2 … and the image debian@1."""
        with self.write() as session:
            groups.create_group(session, name=name, name_template=f"{name}-##")
            for number in range(1, count + 1):
                hosts.create_host(session, name=f"pc{number}", macs=[mac(number)], group=name, state=state)
            images.add_version(
                session, "debian", manifest=MANIFEST, disk_bytes=10, used_bytes=5, stored_bytes=3, chunks=1
            )

    def start(self, **request: Any) -> OperationView:
        with self.write() as session:
            return operations.start(
                session, OperationRequest(**request), actor="ada", settings=self.settings, now=NOW
            )

    def operation(self, id: str) -> OperationView:
        with self.read() as session:
            return operations.get(session, id)

    def boot(self, number: int, now: datetime = NOW, address: str | None = None) -> boots.Boot:
        """The machine's GRUB fetches its configuration."""
        with self.write() as session:
            return boots.begin(
                session,
                Client(mac(number), "uefi-x64", "grub"),
                address=address or ip(number),
                is_owner=lambda address, mac: True,
                settings=self.settings,
                now=now,
            )

    def checkin(
        self, number: int, token: str, now: datetime = NOW, address: str | None = None
    ) -> checkin.CheckIn:
        with self.write() as session:
            return checkin.checkin(
                session,
                token=token,
                mac=mac(number),
                address=address or ip(number),
                agent="test",
                inventory={"firmware": "uefi", "secure_boot": True, "serial": f"S{number}"},
                now=now,
                same_machine=lambda address, mac: False,
                settings=self.settings,
            )


def mac(number: int) -> str:
    return f"52:54:00:00:00:{number:02x}"


def ip(number: int) -> str:
    return f"10.20.0.{100 + number}"
