"""Writers take their turn before they read; readers cannot write."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import select

from pxeboot.db.engine import open_database
from pxeboot.db.models import Group, Host
from pxeboot.settings import Settings
from tests.plane import Plane


def test_no_update_is_lost_between_threads(plane: Plane) -> None:
    with plane.write() as session:
        session.add(Group(name="counter", description="0"))

    def count() -> None:
        for _ in range(25):
            with plane.write() as session:
                row = session.exec(select(Group)).one()
                row.description = str(int(row.description) + 1)
                session.add(row)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with plane.read() as session:
        assert session.exec(select(Group)).one().description == "100"


def test_a_reading_session_refuses_to_write(plane: Plane) -> None:
    with plane.read() as session:
        session.add(Group(name="x"))
        with pytest.raises(OperationalError, match="readonly"):
            session.flush()
    with plane.write() as session:  # the same connection may write again
        session.add(Group(name="y"))


def test_foreign_keys_hold(plane: Plane) -> None:
    with plane.write() as session:
        session.add(Host(name="pc", group_id=999))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()


def test_an_exception_rolls_back(plane: Plane) -> None:
    def fail() -> None:
        with plane.write() as session:
            session.add(Group(name="x"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with plane.read() as session:
        assert session.exec(select(Group)).all() == []


def test_only_we_may_read_the_hashes_in_it(tmp_path: Path) -> None:
    settings = Settings.model_validate({"server": {"data_dir": tmp_path}})
    before = os.umask(0o022)
    try:
        open_database(settings).close()
        (tmp_path / "pxeboot.sqlite").chmod(0o644)  # as earlier releases made it
        database = open_database(settings)
        with database.write() as session:
            session.execute(text("CREATE TABLE t (x)"))
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("pxeboot.sqlite*")}
        database.close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}, modes
