"""The store's index: chunk hash to place in a pack, in an SQLite file of its own."""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imaging.chunks import MAX_FRAME
from imaging.errors import StoreError
from imaging.manifest import CHUNK_SIZE, HASH_SIZE
from imaging.store.packs import PACK_HEAD, RECORD, Place

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS chunk (
    hash BLOB PRIMARY KEY, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
    length INTEGER NOT NULL, plain INTEGER NOT NULL, damaged INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS chunk_place ON chunk (pack, offset);
CREATE TABLE IF NOT EXISTS pack (number INTEGER PRIMARY KEY, end INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS recompressed (pack INTEGER PRIMARY KEY, level INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""
#: Hashes in one question: SQLite allows 32,766 variables since 3.32, 999 before.
_BATCH = 500
_HIGHEST = "highest_pack"
_COLUMNS = "hash, pack, offset, length, plain, damaged"
#: SQLite keeps what it is given, and a flipped bit can make a number a text: never let one out.
_SANE = " AND ".join(f"typeof({name}) = 'integer'" for name in ("pack", "offset", "length", "plain"))
_POSSIBLE = (
    f"{_SANE} AND typeof(hash) = 'blob' AND length(hash) = {HASH_SIZE} AND pack > 0 "
    f"AND offset >= {PACK_HEAD.size} AND length BETWEEN 1 AND {MAX_FRAME} "
    f"AND plain BETWEEN 1 AND {CHUNK_SIZE}"
)


#: executemany: a statement and its rows.
_Do = Callable[[str, Iterable[Any]], object]


class Row(NamedTuple):
    """A chunk as the index has it."""

    hash: bytes
    place: Place
    damaged: bool


class IndexTotals(NamedTuple):
    """Sums over all chunks: count, frame bytes, plain bytes, damaged."""

    chunks: int
    stored: int
    plain: int
    damaged: int


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
            raise self._broken("opened", error) from error

    @staticmethod
    def _connect(uri: str) -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)

    def _broken(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"The store's index {self._path} cannot be {what} ({error}): "
            "check the disk it is on; if that is sound, move it away and start again: it is then rebuilt "
            "from the packs."
        )

    def close(self) -> None:
        with self._read_lock, self._write_lock:
            self._reader.close()
            if self._writer is not None:
                self._writer.close()

    def _rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._read_lock:
                return self._reader.execute(sql, parameters).fetchall()
        except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
            raise self._broken("read", error) from error

    # --- looking up ---

    def find(self, hash: bytes) -> Place | None:
        rows = self._rows("SELECT pack, offset, length, plain FROM chunk WHERE hash = ?", (hash,))
        return Place(*rows[0]) if rows else None

    def rows(self, hashes: Sequence[bytes]) -> dict[bytes, Row]:
        """The rows of those of the chunks that are here, damaged or not."""
        found: dict[bytes, Row] = {}
        for at in range(0, len(hashes), _BATCH):
            batch = hashes[at : at + _BATCH]
            sql = f"SELECT {_COLUMNS} FROM chunk WHERE {_SANE} AND hash IN ({','.join('?' * len(batch))})"
            for row in self._rows(sql, batch):
                found[row[0]] = _row(row)
        return found

    def healthy(self, hashes: Sequence[bytes]) -> list[int | None]:
        """Plain length of each chunk that is here and not known to be damaged, else None."""
        found: dict[object, int] = {}
        for at in range(0, len(hashes), _BATCH):
            batch = hashes[at : at + _BATCH]
            marks = ",".join("?" * len(batch))
            found.update(
                self._rows(f"SELECT hash, plain FROM chunk WHERE damaged = 0 AND hash IN ({marks})", batch)
            )
        return [found.get(hash) for hash in hashes]

    def ends(self) -> dict[int, int]:
        """Pack number to the end of what is indexed of it."""
        rows = self._rows("SELECT number, end FROM pack WHERE typeof(end) = 'integer'")
        return {row[0]: row[1] for row in rows}

    def highest(self) -> int:
        """The highest pack number that was ever used, as far as the index knows."""
        top = self._rows("SELECT COALESCE(MAX(number), 0) FROM pack")[0][0]
        noted = self.note(_HIGHEST) or ""
        return max(int(top), int(noted) if noted.isdecimal() else 0)

    def totals(self) -> IndexTotals:
        sums = "COUNT(*), COALESCE(SUM(length), 0), COALESCE(SUM(plain), 0), COALESCE(SUM(damaged != 0), 0)"
        return IndexTotals(*self._rows(f"SELECT {sums} FROM chunk WHERE {_SANE}")[0])

    def damaged(self) -> list[bytes]:
        """Hashes of chunks known to be damaged."""
        return [row[0] for row in self._rows("SELECT hash FROM chunk WHERE damaged != 0")]

    def all(self) -> Iterator[tuple[bytes, Place]]:
        """Every chunk in pack order, read in pages so that writers are not held up."""
        pack, offset = -1, -1
        while True:
            sql = (
                f"SELECT {_COLUMNS} FROM chunk WHERE (pack, offset) > (?, ?) AND {_SANE} "
                "ORDER BY pack, offset LIMIT 5000"
            )
            page = [_row(row) for row in self._rows(sql, (pack, offset))]
            for row in page:
                yield row.hash, row.place
            if not page:
                return
            pack, offset = page[-1].place[:2]

    def of_pack(self, pack: int, after: int = -1, limit: int = 5000) -> list[Row]:
        """Up to ``limit`` chunks of a pack behind an offset, in order."""
        sql = (
            f"SELECT {_COLUMNS} FROM chunk WHERE pack = ? AND offset > ? AND {_SANE} ORDER BY offset LIMIT ?"
        )
        return [_row(row) for row in self._rows(sql, (pack, after, limit))]

    def pages(self, pack: int, after: int = -1) -> Iterator[list[Row]]:
        """All chunks of a pack, page by page."""
        while page := self.of_pack(pack, after):
            yield page
            after = page[-1].place.offset

    def live(self, pack: int) -> tuple[int, int]:
        """(chunks, bytes with their record heads) that the index has in a pack."""
        row = self._rows(
            f"SELECT COUNT(*), COALESCE(SUM(length), 0) FROM chunk WHERE pack = ? AND {_SANE}", (pack,)
        )[0]
        return row[0], row[1] + RECORD.size * row[0]

    def packs_named(self) -> list[int]:
        """Packs that at least one chunk is said to be in."""
        return [row[0] for row in self._rows(f"SELECT DISTINCT pack FROM chunk WHERE {_SANE}")]

    def recompressed(self) -> dict[int, int]:
        """Pack to the zstd level it was recompressed to (or found not worth it)."""
        return {row[0]: row[1] for row in self._rows("SELECT pack, level FROM recompressed")}

    def note(self, key: str) -> str | None:
        """A text that care keeps over restarts."""
        rows = self._rows("SELECT value FROM note WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def check(self) -> list[str]:
        """What SQLite finds wrong with the file (nothing: an empty list)."""
        try:
            found = [str(row[0]) for row in self._rows("PRAGMA integrity_check(20)")]
        except StoreError as error:
            return [str(error.__cause__)]
        return [text for text in found if text != "ok"]

    def drop_impossible(self) -> list[bytes]:
        """Delete rows that no store ever wrote (flipped bits); their hashes, where they still are hashes."""
        rows = self._rows(f"SELECT hash FROM chunk WHERE NOT ({_POSSIBLE})")
        if rows:
            self._write(lambda do: do(f"DELETE FROM chunk WHERE NOT ({_POSSIBLE})", [()]))
        return [row[0] for row in rows if isinstance(row[0], bytes) and len(row[0]) == HASH_SIZE]

    # --- changing ---

    def change(
        self,
        *,
        add: Iterable[tuple[bytes, Place]] = (),
        move: Iterable[tuple[bytes, Place, Place]] = (),
        ends: Mapping[int, int] | None = None,
        remove: Iterable[tuple[bytes, Place]] = (),
        drop_packs: Iterable[int] = (),
        damaged: Iterable[tuple[bytes, Place]] = (),
        sound: Iterable[tuple[bytes, Place]] = (),
        levels: Mapping[int, int] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """One durable transaction; raises StoreError, and then nothing of it happened.

        ``move`` (from, to), ``remove``, ``damaged`` and ``sound`` act only while the chunk is still where the
        caller saw it: a capture may have brought it anew meanwhile.
        """
        at = "WHERE hash = ? AND pack = ? AND offset = ?"

        def all_of_it(do: _Do) -> None:
            do(
                "INSERT OR REPLACE INTO chunk (hash, pack, offset, length, plain) VALUES (?, ?, ?, ?, ?)",
                ((hash, *place) for hash, place in add),
            )
            do(
                f"UPDATE chunk SET pack = ?, offset = ?, length = ? {at}",
                ((*to[:3], hash, *old[:2]) for hash, old, to in move),
            )
            do(
                "INSERT INTO pack (number, end) VALUES (?, ?) "
                "ON CONFLICT (number) DO UPDATE SET end = excluded.end",
                (ends or {}).items(),
            )
            do(f"DELETE FROM chunk {at}", ((hash, *place[:2]) for hash, place in remove))
            for number in drop_packs:
                do("DELETE FROM pack WHERE number = ?", [(number,)])
                do("DELETE FROM recompressed WHERE pack = ?", [(number,)])
                do(
                    "INSERT INTO note VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = "
                    "MAX(CAST(value AS INTEGER), CAST(excluded.value AS INTEGER))",
                    [(_HIGHEST, str(number))],
                )
            do(f"UPDATE chunk SET damaged = 1 {at}", ((h, *p[:2]) for h, p in damaged))
            do(f"UPDATE chunk SET damaged = 0 {at}", ((h, *p[:2]) for h, p in sound))
            do("INSERT OR REPLACE INTO recompressed VALUES (?, ?)", (levels or {}).items())
            do("INSERT OR REPLACE INTO note VALUES (?, ?)", (notes or {}).items())

        self._write(all_of_it)

    def _write(self, work: Callable[[_Do], object]) -> None:
        if self._writer is None:
            raise StoreError("This process opened the store for reading only.")
        with self._write_lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                work(self._writer.executemany)
                self._writer.execute("COMMIT")
            except (sqlite3.Error, OverflowError) as error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise self._broken("written", error) from error


def _row(row: tuple[Any, ...]) -> Row:
    return Row(row[0], Place(*row[1:5]), bool(row[5]))


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
