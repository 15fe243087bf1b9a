"""The migrations lead to exactly the tables of `models`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, inspect
from sqlmodel import Session

from pxeboot.boot.decide import Client
from pxeboot.db import migrate
from pxeboot.db.engine import Database
from pxeboot.services import boots, lookup
from pxeboot.settings import Settings


def by_alembic(database: Database) -> None:
    with database.engine.connect() as connection:
        command.upgrade(migrate.config(connection), "head")
        connection.commit()


@pytest.mark.parametrize("make", [by_alembic, migrate.upgrade])
def test_made_from_empty_nothing_differs(tmp_path: Path, make: Callable[[Database], None]) -> None:
    database = Database(tmp_path / "new.sqlite")
    assert migrate.current(database) is None
    make(database)
    assert migrate.current(database) == migrate.head()
    with database.engine.connect() as connection:
        command.check(migrate.config(connection))  # raises when a model has no migration
        indexes = {index["name"]: index for index in inspect(connection).get_indexes("task")}
    assert "NOT IN" in str(indexes["uq_task_active_host"]["dialect_options"]["sqlite_where"])
    migrate.upgrade(database)  # at every start: nothing to do
    database.close()


def test_both_ways_make_the_same_database(tmp_path: Path) -> None:
    def schema(make: Callable[[Database], None], name: str) -> list[str]:
        database = Database(tmp_path / name)
        make(database)
        with database.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").all()
        database.close()
        # Constraints may come in any order.
        return sorted(",".join(sorted(re.sub(r'[\s"]+|\)$', "", row[0]).split(","))) for row in rows)

    assert schema(by_alembic, "alembic.sqlite") == schema(migrate.upgrade, "models.sqlite")


def test_foreign_keys_are_on_after_an_upgrade(tmp_path: Path) -> None:
    database = Database(tmp_path / "new.sqlite")
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()


def test_a_filled_database_of_the_first_release_keeps_everything(tmp_path: Path) -> None:
    database = Database(tmp_path / "old.sqlite")
    with database.engine.connect() as connection:
        command.upgrade(migrate.config(connection), "0001")
        now = "2026-09-01 08:00:00.000000"
        for statement in (
            f'INSERT INTO "group" (id, name, description, name_template, created_at) '
            f"VALUES (1, 'B204', '', 'B204-##', '{now}')",
            _filled(connection, "host", id=1, name="pc1", group_id=1, state="APPROVED", created_at=now),
            "INSERT INTO host_mac (mac, host_id) VALUES ('52:54:00:00:00:01', 1)",
        ):
            connection.exec_driver_sql(statement)
        connection.commit()
    migrate.upgrade(database)
    assert migrate.current(database) == migrate.head()
    with database.read() as session:
        host = lookup.host(session, "52:54:00:00:00:01")
        group = lookup.group(session, "B204")
        assert (host.name, host.group_id, host.boot, host.dhcp_options) == ("pc1", group.id, {}, {})
        assert (host.reserved_address, group.boot, group.dhcp_options) == ("", {}, {})
        assert decide_for(session) == "local"
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        command.check(migrate.config(connection))
    database.close()


def _filled(connection: Connection, table: str, **given: object) -> str:
    """An INSERT that gives every column that needs one a value."""
    plain: dict[str, object] = {"INTEGER": 0, "BOOLEAN": 0, "JSON": "{}"}
    for column in inspect(connection).get_columns(table):
        if not column["nullable"] and column["default"] is None and column["name"] not in given:
            given[column["name"]] = plain.get(str(column["type"]), "")
    values = ", ".join(repr(value) for value in given.values())
    return f"INSERT INTO {table} ({', '.join(given)}) VALUES ({values})"


def decide_for(session: Session) -> str:
    client = Client("52:54:00:00:00:01", "bios", "ipxe")
    return boots.preview(session, client, settings=Settings(), now=datetime.now(UTC)).action
