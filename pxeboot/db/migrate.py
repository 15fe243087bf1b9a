"""Bring a database to the newest schema, at every start; costs milliseconds when there is nothing to do.

Alembic itself takes half a second to import, so an up-to-date database is recognised without it.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

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
    """To the newest revision."""
    if current(database) == head():
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


def config(connection: Connection) -> Config:
    """Alembic's configuration for a connection."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    made.attributes["connection"] = connection
    return made
