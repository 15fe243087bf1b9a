"""The migrations lead to exactly the tables of `models`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect

from pxeboot.db import migrate
from pxeboot.db.engine import Database


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
