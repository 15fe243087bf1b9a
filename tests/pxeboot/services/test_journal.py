"""The journal on disk: whose line it is, and how much is kept."""

from __future__ import annotations

from datetime import datetime, timedelta

from pxeboot.events import Record
from pxeboot.services import journal
from tests.plane import NOW, Plane, mac


def write(plane: Plane, *records: Record) -> list[int]:
    with plane.write() as session:
        return journal.store(session, records)


def line(number: int, at: datetime = NOW) -> Record:
    return Record("dhcp", "dhcp.offered", f"line {at.isoformat()}", at, mac=mac(number))


def test_a_line_that_knows_only_the_mac_finds_its_host(plane: Plane) -> None:
    plane.room(1)
    ids = write(plane, line(1), line(9))
    assert ids == [1, 2]
    with plane.read() as session:
        assert [event.host for event in journal.list_events(session).items] == [None, "pc1"]
        assert [event.id for event in journal.list_events(session, host="pc1").items] == [1]
        assert [event.id for event in journal.list_events(session, mac=mac(9)).items] == [2]


def test_pages_and_resuming(plane: Plane) -> None:
    write(plane, *(line(1) for _ in range(5)))
    with plane.read() as session:
        first = journal.list_events(session, limit=3)
        second = journal.list_events(session, limit=3, cursor=first.next_cursor)
        assert [event.id for event in (*first.items, *second.items)] == [5, 4, 3, 2, 1]
        assert second.next_cursor is None
        assert [event.id for event in journal.list_events(session, after_id=3).items] == [4, 5]


def test_what_is_old_or_too_much_goes(plane: Plane) -> None:
    plane.room(2)
    write(plane, line(1, NOW - timedelta(days=91)), line(1, NOW - timedelta(days=89)))
    write(plane, *(line(2) for _ in range(8)))
    write(plane, *(line(9) for _ in range(60)))  # a stranger
    with plane.write() as session:
        assert journal.prune(session, keep_per_host=5, keep_days=90, now=NOW) == 1 + 3 + 10
    with plane.read() as session:
        assert len(journal.list_events(session, host="pc1", limit=100).items) == 1
        newest = [event.id for event in journal.list_events(session, host="pc2", limit=100).items]
        assert newest == [10, 9, 8, 7, 6]
        assert len(journal.list_events(session, mac=mac(9), limit=100).items) == 50
