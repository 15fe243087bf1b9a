"""The store's index: chunk hash to place in a pack, in an SQLite file of its own."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from imaging.errors import StoreError
from imaging.store.packs import Place

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS chunk (
    hash BLOB PRIMARY KEY, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
    length INTEGER NOT NULL, plain INTEGER NOT NULL, damaged INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS chunk_place ON chunk (pack, offset);
CREATE TABLE IF NOT EXISTS pack (number INTEGER PRIMARY KEY, end INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
"""


class Index:
    """Thread-safe. One connection reads and one writes, so that lookups do not wait for a commit's fsync."""

    def __init__(self, path: Path, *, readonly: bool) -> None:
        """Raises StoreError when the file is damaged or of a version not known here."""
        self._path = path
        self._read_lock, self._write_lock = threading.Lock(), threading.Lock()
        try:
            if readonly:
                self._writer = None
                # Not mode=ro: a reader of a WAL database must be able to make the -shm file.
                self._reader = self._connect(f"file:{_quoted(path)}?mode=rw")
                self._reader.execute("PRAGMA query_only = ON")
            else:
                self._writer = self._connect(f"file:{_quoted(path)}?mode=rwc")
                self._writer.execute("PRAGMA journal_mode = WAL")
                # FULL: commit() promises that a power cut cannot take back what it returned for.
                self._writer.execute("PRAGMA synchronous = FULL")
                version = self._writer.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, _VERSION):
                    raise StoreError(f"The store's index {path} has version {version}: update this program.")
                self._writer.executescript(_SCHEMA)
                self._reader = self._connect(f"file:{_quoted(path)}?mode=rw")
        except sqlite3.Error as error:
            raise StoreError(
                f"The store's index {path} cannot be opened ({error}): "
                "move it away and start again, it is then rebuilt from the packs."
            ) from error

    @staticmethod
    def _connect(uri: str) -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)

    def close(self) -> None:
        with self._read_lock, self._write_lock:
            self._reader.close()
            if self._writer is not None:
                self._writer.close()

    def _rows(self, sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[int, ...]]:
        try:
            with self._read_lock:
                return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"The store's index {self._path} cannot be read: {error}.") from error

    def find(self, hash: bytes) -> Place | None:
        rows = self._rows("SELECT pack, offset, length, plain FROM chunk WHERE hash = ?", (hash,))
        return Place(*rows[0]) if rows else None

    def healthy(self, hashes: Iterable[bytes]) -> list[int | None]:
        """Plain length of each chunk that is here and not known to be damaged, else None."""
        sql = "SELECT plain FROM chunk WHERE hash = ? AND damaged = 0"
        try:
            with self._read_lock:
                rows = [self._reader.execute(sql, (hash,)).fetchone() for hash in hashes]
        except sqlite3.Error as error:
            raise StoreError(f"The store's index {self._path} cannot be read: {error}.") from error
        return [row[0] if row else None for row in rows]

    def ends(self) -> dict[int, int]:
        """Pack number to the end of what is indexed of it."""
        return {row[0]: row[1] for row in self._rows("SELECT number, end FROM pack")}

    def totals(self) -> tuple[int, int, int]:
        """(chunks, stored bytes, damaged chunks)."""
        rows = self._rows("SELECT COUNT(*), COALESCE(SUM(length), 0), COALESCE(SUM(damaged), 0) FROM chunk")
        return rows[0][0], rows[0][1], rows[0][2]

    def all(self) -> Iterator[tuple[bytes, Place]]:
        """Every chunk in pack order, read in pages so that writers are not held up."""
        pack, offset = -1, -1
        while True:
            try:
                with self._read_lock:
                    rows = self._reader.execute(
                        "SELECT hash, pack, offset, length, plain FROM chunk WHERE (pack, offset) > (?, ?) "
                        "ORDER BY pack, offset LIMIT 5000",
                        (pack, offset),
                    ).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"The store's index {self._path} cannot be read: {error}.") from error
            for hash, *place in rows:
                yield hash, Place(*place)
            if not rows:
                return
            pack, offset = rows[-1][1], rows[-1][2]

    def change(
        self,
        *,
        add: Iterable[tuple[bytes, Place]] = (),
        ends: dict[int, int] | None = None,
        remove: Iterable[bytes] = (),
        drop_packs: Iterable[int] = (),
        damaged: Iterable[bytes] = (),
    ) -> None:
        """One durable transaction; raises StoreError, and then nothing of it happened."""
        if self._writer is None:
            raise StoreError("This process opened the store for reading only.")
        with self._write_lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                self._writer.executemany(
                    "INSERT OR REPLACE INTO chunk (hash, pack, offset, length, plain) VALUES (?, ?, ?, ?, ?)",
                    ((hash, *place) for hash, place in add),
                )
                self._writer.executemany(
                    "INSERT OR REPLACE INTO pack (number, end) VALUES (?, ?)", (ends or {}).items()
                )
                self._writer.executemany("DELETE FROM chunk WHERE hash = ?", ((hash,) for hash in remove))
                self._writer.executemany("DELETE FROM pack WHERE number = ?", ((n,) for n in drop_packs))
                self._writer.executemany(
                    "UPDATE chunk SET damaged = 1 WHERE hash = ?", ((h,) for h in damaged)
                )
                self._writer.execute("COMMIT")
            except sqlite3.Error as error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise StoreError(
                    f"The store's index {self._path} cannot be written: {error}. Check the disk it is on."
                ) from error


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
