"""The migrations lead to exactly the tables of `models`."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from sqlalchemy import inspect

from pxeboot.db import migrate
from pxeboot.db.engine import Database


def test_upgrade_from_empty_then_nothing_differs(tmp_path: Path) -> None:
    database = Database(tmp_path / "new.sqlite")
    assert migrate.current(database) is None
    migrate.upgrade(database)
    assert migrate.current(database) == migrate.head()
    with database.engine.connect() as connection:
        command.check(migrate.config(connection))  # raises when a model has no migration
        indexes = {index["name"]: index for index in inspect(connection).get_indexes("task")}
    assert "NOT IN" in str(indexes["uq_task_active_host"]["dialect_options"]["sqlite_where"])
    migrate.upgrade(database)  # at every start: nothing to do
    database.close()


def test_foreign_keys_are_on_after_an_upgrade(tmp_path: Path) -> None:
    database = Database(tmp_path / "new.sqlite")
    migrate.upgrade(database)
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    database.close()
