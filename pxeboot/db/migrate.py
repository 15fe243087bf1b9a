"""Bring a database to the newest schema, at every start; costs milliseconds when there is nothing to do.

Alembic takes half a second and 25 MB to import, so it is only called for a database of an older release.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlmodel import SQLModel

from pxeboot.db import models  # noqa: F401  (fills the metadata)
from pxeboot.db.engine import Database

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

MIGRATIONS = Path(__file__).with_name("migrations")


@cache
def head() -> str:
    """The newest revision: the one no other names as the one before it."""
    revisions, before = set(), set()
    for file in (MIGRATIONS / "versions").glob("[!_]*.py"):
        text = file.read_text(encoding="utf-8")
        revisions.update(re.findall(r'^revision\b[^=]*= "(\w+)"', text, re.MULTILINE))
        before.update(re.findall(r'^down_revision\b[^=]*= "(\w+)"', text, re.MULTILINE))
    (only,) = revisions - before
    return str(only)


def current(database: Database) -> str | None:
    """The revision a database is at; None when it is empty."""
    with database.engine.connect() as connection:
        table = connection.exec_driver_sql(
            "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
        ).scalar()
        if not table:
            return None
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return str(found) if found else None


def upgrade(database: Database) -> None:
    """To the newest revision. A new database gets the tables as they are now (tests compare the two ways)."""
    found = current(database)
    if found == head():
        return
    if found is None:
        _create(database)
        return
    from alembic import command

    with database.engine.connect() as connection:
        # SQLite changes tables by copying them, which foreign keys would hinder; the pragma must be set
        # outside a transaction, so before ours begins.
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA foreign_keys=OFF")
        try:
            command.upgrade(config(connection), "head")
            connection.commit()
        finally:
            raw.execute("PRAGMA foreign_keys=ON")


def _create(database: Database) -> None:
    # Without Alembic: a first start is half a second quicker and stays 25 MB smaller for its whole life.
    with database.engine.begin() as connection:
        SQLModel.metadata.create_all(connection)
        connection.exec_driver_sql(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        connection.exec_driver_sql("INSERT INTO alembic_version (version_num) VALUES (?)", (head(),))


def config(connection: Connection) -> Config:
    """Alembic's configuration for a connection."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    made.attributes["connection"] = connection
    return made
