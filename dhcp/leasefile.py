"""The lease table's file: opening it, telling whether it is one, and bringing older ones up to date.

SQLite in WAL mode with `synchronous=FULL`: a transaction that returned survives a power cut. `PRAGMA
user_version` holds the version of the schema, `PRAGMA application_id` says whose file it is.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socket import inet_aton, inet_ntoa
from typing import Final, Literal

VERSION: Final = 2
APPLICATION: Final = 0x50584C53  # "PXLS"

COLUMNS: Final = "address, subnet, mac, state, starts, expires, host_name, client_id, agent"
_TABLE = """
CREATE TABLE lease (
    address   TEXT PRIMARY KEY,
    subnet    TEXT NOT NULL,
    mac       TEXT,
    state     TEXT NOT NULL CHECK (state IN ('bound', 'released', 'declined')),
    starts    REAL NOT NULL,
    expires   REAL NOT NULL,
    host_name TEXT NOT NULL DEFAULT '',
    client_id TEXT NOT NULL DEFAULT '',
    agent     TEXT,
    UNIQUE (subnet, mac)
) WITHOUT ROWID
"""
# From each older version to the next. Version 1 did not carry its number.
_UPGRADES: Final = {1: "ALTER TABLE lease ADD COLUMN agent TEXT"}

State = Literal["offered", "bound", "released", "declined"]  # the first one is never in the file
Row = tuple[str, str, str | None, State, float, float, str, str, str | None]


class LeaseError(Exception):
    """The lease table cannot be read or written, or is in use elsewhere. The text says what to do."""


class LeaseFile:
    """An open lease file: `database`, and the lock that keeps a second process away until `close`."""

    def __init__(self, path: Path) -> None:
        """Open, make or upgrade it.

        Raises:
            LeaseError: another process has it; it is damaged, somebody else's, or from a newer version.
        """
        self.path = path
        try:
            lock = path.with_name(path.name + ".lock")
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LeaseError(
                f"{path} cannot be made: {error.strerror}; mend the folder or its rights"
            ) from error
        try:
            # Two daemons on one table would both think an address free; the lock dies with its process.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self.database.close()
                raise
        except BlockingIOError as error:
            os.close(self._lock)
            raise LeaseError(f"{path} is in use by another process; stop that one first") from error
        except sqlite3.Error as error:
            os.close(self._lock)
            raise LeaseError(f"{path} cannot be used as a lease table: {error}; {_remedy(path)}") from error
        except LeaseError:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()
        os.close(self._lock)

    def rows(self) -> Iterator[Row]:
        """Every lease, checked. Raises LeaseError for one that cannot be, sqlite3.Error."""
        for row in self.database.execute(f"SELECT {COLUMNS} FROM lease"):
            address = row[0]
            canonical = ""
            with suppress(OSError, TypeError):
                canonical = inet_ntoa(inet_aton(address))
            if canonical != address or not all(isinstance(moment, float) for moment in row[4:6]):
                raise LeaseError(f"{self.path} has a lease that is none ({address!r}); {_remedy(self.path)}")
            yield row

    def _prepare(self) -> None:
        def pragma(name: str) -> int:
            return int(self.database.execute(f"PRAGMA {name}").fetchone()[0])

        tables = {name for (name,) in self.database.execute("SELECT name FROM sqlite_schema")}
        version, application = pragma("user_version"), pragma("application_id")
        if application not in (0, APPLICATION) or (tables and "lease" not in tables):
            raise LeaseError(f"{self.path} is another program's database; {_remedy(self.path)}")
        if version > VERSION:
            raise LeaseError(
                f"{self.path} was written by a newer version (its schema is {version}, ours {VERSION}); "
                f"run that version again, or {_remedy(self.path)}"
            )
        damage = self.database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise LeaseError(f"{self.path} is damaged: {' '.join(damage.split())}; {_remedy(self.path)}")
        for statement in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=2000"):
            self.database.execute(f"PRAGMA {statement}")
        if tables and version == VERSION:
            return
        self.database.execute("BEGIN IMMEDIATE")
        if not tables:
            self.database.execute(_TABLE)
        else:
            for older in range(version or 1, VERSION):
                self.database.execute(_UPGRADES[older])
        self.database.execute(f"PRAGMA user_version={VERSION}")
        self.database.execute(f"PRAGMA application_id={APPLICATION}")
        self.database.execute("COMMIT")


def _remedy(path: Path) -> str:
    return (
        f"move it away (mv {path} {path}.bad) and start again: the table then begins empty, and machines "
        "that renew keep their addresses"
    )
