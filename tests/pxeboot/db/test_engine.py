"""Writers take their turn before they read; readers cannot write."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import select

from pxeboot.db.models import Group, Host
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
        thread.join(30)
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
