"""The database: one SQLite file in WAL mode, whose writers take their turn before they read.

SQLAlchemy's default transactions on SQLite begin late and lose updates; here every writing session says
BEGIN IMMEDIATE, so
what it reads is what it changes. Reading sessions are `query_only`: a service that writes in one fails
loudly.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlmodel import Session, create_engine

from pxeboot.settings import Settings

BUSY_MILLISECONDS = 10_000  # only another process (a backup, a migration) can make us wait


class Database:
    """Sessions over one SQLite file. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = _engine(path)
        self._readers = self.engine.execution_options(pxeboot_readonly=True)
        # SQLite's own busy handler polls and is unfair; inside the process writers queue here.
        self._writer = threading.Lock()

    @contextlib.contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one moment and may not write."""
        with Session(self._readers, autoflush=False) as session:
            yield session

    @contextlib.contextmanager
    def write(self) -> Iterator[Session]:
        """A session that holds the write lock from its first statement; commits at the end, rolls back
        on an exception."""
        with self._writer, Session(self.engine) as session:
            yield session
            session.commit()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_database(settings: Settings) -> Database:
    """The daemon's database, brought to the newest schema; its directory is made if need be."""
    from pxeboot.db import migrate

    settings.server.data_dir.mkdir(parents=True, exist_ok=True)
    path = settings.server.data_dir / "pxeboot.sqlite"
    with contextlib.suppress(OSError):  # another owner's; SQLite gives its other files the same mode
        path.touch(mode=0o600)
        path.chmod(0o600)  # hashes of passwords are in it
    database = Database(path)
    migrate.upgrade(database)
    return database


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        # One connection per busy thread: FastAPI's 40, the loop's default executor and our own few.
        pool_size=8,
        max_overflow=72,
        connect_args={"timeout": BUSY_MILLISECONDS / 1000, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # sqlite3 must not begin on its own: we do, below
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",  # in WAL mode a crash loses no consistency, only the last moments
            "foreign_keys=ON",
            f"busy_timeout={BUSY_MILLISECONDS}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        if connection.get_execution_options().get("pxeboot_readonly"):
            connection.exec_driver_sql("PRAGMA query_only=ON")
            connection.exec_driver_sql("BEGIN")
        else:
            connection.exec_driver_sql("PRAGMA query_only=OFF")
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
