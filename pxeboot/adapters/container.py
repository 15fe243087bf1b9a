"""Everything a request handler may need, made once by `pxeboot.main` (and by tests) and passed to
`create_app`.

For the API and the pages: `services.read()`, `services.write()`, `services.settings`, `services.journal`,
`services.principal(token)`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session

from pxeboot.adapters.boottree import FileNotes
from pxeboot.adapters.exchange import Exchange
from pxeboot.adapters.fileshed import FileShed
from pxeboot.adapters.leaseview import LeaseView
from pxeboot.adapters.multicast import SessionManager
from pxeboot.adapters.peers import PeerTable
from pxeboot.adapters.rescueshed import RescueShed
from pxeboot.adapters.store import StoreGateway
from pxeboot.adapters.storekeeper import StoreKeeper
from pxeboot.db.engine import Database
from pxeboot.doctor.periodic import Watch
from pxeboot.events import Journal
from pxeboot.services import auth, journal, rescues, unit
from pxeboot.services.auth import Principal
from pxeboot.services.jobs import Jobs
from pxeboot.settings import Settings


@dataclass
class Services:
    """What the handlers share. `base_url` is ours as machines reach it, `http://ADDRESS[:PORT]`.

    `settings` and `leases` are replaced as a whole by a reload: take them anew for each request.
    """

    settings: Settings
    database: Database
    journal: Journal
    store: StoreGateway
    sessions: SessionManager
    leases: LeaseView
    base_url: str = "http://127.0.0.1"
    base_urls: dict[str, str] = field(default_factory=dict)  # by address of ours, where we have several
    reload: Callable[[], Awaitable[Any]] | None = None  # `adapters.reload.Reloader.reload`, in the daemon
    status: Callable[[], dict[str, Any]] | None = None  # `adapters.bootservices.BootServices.status`
    file_notes: FileNotes = field(default_factory=FileNotes)  # which boot file was noted for whom
    doctor: Watch = field(init=False)
    files: FileShed = field(init=False)  # file drops and drivers for deployed systems
    jobs: Jobs = field(init=False)  # long work of the server itself
    keeper: StoreKeeper = field(init=False)
    exchange: Exchange = field(init=False)
    rescues: RescueShed = field(init=False)  # archives of files copied out of machines
    peers: PeerTable = field(init=False)  # machines that give each other chunks

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.journal)
        self.keeper = StoreKeeper(self)
        self.exchange = Exchange(self)
        self.rescues = RescueShed(self.settings.rescue_dir, self.settings.images.reserve_mb)
        self.peers = PeerTable(lambda: self.settings, self.store, self.sessions)

        def note(kind: str, sentence: str, data: dict[str, Any]) -> None:
            self.journal.record("doctor", kind, sentence, data=data)

        self.files = FileShed(self.settings.server.data_dir)
        self.doctor = Watch(lambda: self.settings, note)

    @property
    def secrets_key(self) -> Path:
        """The file of the key that seals secrets."""
        return self.settings.server.data_dir / "keys" / "secrets.key"

    def base_url_at(self, local: str) -> str:
        """Our URL as a machine reaches it that talks to `local`, an address of ours ("" = the usual one)."""
        return self.base_urls.get(local, self.base_url)

    def read(self) -> AbstractContextManager[Session]:
        """A session that may only read."""
        return self.database.read()

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A unit of work: commits at the end, rolls back on an exception, journals after the commit."""
        with unit.writing(self.database, self.journal) as session:
            yield session

    def forget_rescues(self, now: datetime) -> None:
        """Delete the archives whose time is over, and what broken-off tasks left."""
        with self.read() as session:
            late = rescues.expired(session, now=now)
        for id in late:
            with self.write() as session:
                rescues.delete(session, id, actor="retention")
            self.rescues.remove(id)
        with self.read() as session:
            known = rescues.known(session)
        self.rescues.sweep(known)

    def principal(self, token: str) -> Principal:
        """Who holds an API token; keeps `last_used_at` to the minute. Unauthorized."""
        now = datetime.now(UTC)
        with self.read() as session:
            who = auth.authenticate(session, token, now=now)
            fresh = auth.used_recently(session, token, now=now)
        if not fresh:
            with self.write() as session:
                auth.touch_token(session, token, now=now)
        return who


def make_journal(database: Database) -> Journal:
    """A journal that writes to this database (not started yet)."""

    def store(records: object) -> list[int]:
        with database.write() as session:
            return journal.store(session, records)  # type: ignore[arg-type]

    return Journal(store)


def open_services(settings: Settings, *, base_url: str = "http://127.0.0.1", address: str = "") -> Services:
    """Database, journal (started), store and session manager of a data directory; no DHCP. Close with
    `close`."""
    from pxeboot.db.engine import open_database

    database = open_database(settings)
    made = make_journal(database)
    store = StoreGateway.open(
        settings.store_dir,
        settings.server.data_dir / "keys" / "server.ed25519",
        reserve_mb=settings.images.reserve_mb,
    )
    made.start()
    sessions = SessionManager(settings, database, made, store.path, address)
    return Services(settings, database, made, store, sessions, LeaseView(None), base_url)


def close(services: Services) -> None:
    """End the jobs, write what waits and let go of the files."""
    services.jobs.close()
    services.journal.stop()
    services.store.close()
    services.database.close()
