"""Changes of the lease table on their way to its file: gathered in order, written in few statements."""

from __future__ import annotations

import sqlite3
from functools import cache
from itertools import chain
from typing import Final

from dhcp.leasefile import COLUMNS

Values = tuple[str | float | None, ...]

# A machine has one row per subnet ...
FORGET: Final = "DELETE FROM lease WHERE subnet = ? AND mac = ? AND address <> ?"
# ... and an address changes hands only when nobody holds it: the database itself refuses two owners.
BIND: Final = f"""
INSERT INTO lease ({COLUMNS}) VALUES {{}}
ON CONFLICT (address) DO UPDATE SET subnet = excluded.subnet, mac = excluded.mac, state = excluded.state,
    starts = excluded.starts, expires = excluded.expires, host_name = excluded.host_name,
    client_id = excluded.client_id, agent = excluded.agent
WHERE lease.mac = excluded.mac OR lease.expires <= excluded.starts
"""
RELEASE: Final = "UPDATE lease SET state = 'released', expires = ? WHERE address = ? AND mac = ?"
DECLINE: Final = """
INSERT OR REPLACE INTO lease (address, subnet, mac, state, starts, expires)
VALUES (?, ?, NULL, 'declined', ?, ?)
"""
PARDON: Final = "UPDATE lease SET expires = ? WHERE address = ? AND state = 'declined'"
_OWNER: Final = "SELECT 1 FROM lease WHERE address = ? AND mac = ? AND starts = ?"
_ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
_MOST_ROWS: Final = 64  # of one statement: in a long one a row costs two thirds of what it does alone


class Refused(Exception):
    """The file has another owner for an address. The text is the address."""


class Changes:
    """Statements in order, like ones together."""

    def __init__(self) -> None:
        self._groups: list[tuple[str, list[Values]]] = []

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, statement: str, values: Values) -> None:
        """One more: `FORGET`, `BIND` (with a value for each column), `RELEASE`, `DECLINE` or `PARDON`."""
        if self._groups and self._groups[-1][0] is statement:
            self._groups[-1][1].append(values)
        else:
            self._groups.append((statement, [values]))

    def write(self, database: sqlite3.Connection) -> None:
        """Begin a transaction with all of them; somebody has to commit it. Raises Refused, sqlite3.Error."""
        database.execute("BEGIN IMMEDIATE")
        for statement, rows in self._groups:
            if statement is BIND:
                _bind(database, rows)
            else:
                database.executemany(statement, rows)


def _bind(database: sqlite3.Connection, rows: list[Values]) -> None:
    at = 0
    while left := len(rows) - at:
        # Powers of two: so few statements that SQLite compiles each only once.
        part = rows[at : at + min(_MOST_ROWS, 1 << left.bit_length() - 1)]
        if database.execute(_binding(len(part)), list(chain.from_iterable(part))).rowcount != len(part):
            raise Refused(_refused(database, part))
        at += len(part)


@cache
def _binding(rows: int) -> str:
    return BIND.format(", ".join([_ROW] * rows))


def _refused(database: sqlite3.Connection, rows: list[Values]) -> str:
    """The first address of these bindings that the database left to somebody else."""
    for address, _, mac, _, starts, *_ in rows:
        if database.execute(_OWNER, (address, mac, starts)).fetchone() is None:
            return str(address)
    return "an address"
