"""Lists of hosts as CSV, as spreadsheets write and read them (RFC 4180, with their liberties). Pure text.

Columns go by the names in the first line, in any order; another separator than the comma, a byte order mark
and Windows' own character set are understood, because that is what comes out of an office.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields

from pxeboot.errors import Invalid

LONGEST = 2 << 20  # bytes: some 20,000 hosts
NOTHING = "-"  # in a cell: take away what is there (an empty one leaves it)
# A spreadsheet would run a cell that begins like this as a formula: an apostrophe in front makes it text.
_FORMULA = ("=", "+", "@", "'", "\t", "-")


@dataclass(frozen=True, slots=True)
class HostRow:
    """A line of the list; "" says nothing, `-` takes away. `macs` holds addresses with spaces between."""

    name: str
    macs: str = ""
    group: str = ""
    state: str = ""
    address: str = ""
    uuid: str = ""
    serial: str = ""
    line: int = 0


COLUMNS = tuple(each.name for each in fields(HostRow) if each.name != "line")
_ALIASES = {"mac": "macs", "host": "name", "reserved_address": "address", "ip": "address", "room": "group"}


def decode(data: bytes) -> str:
    """The text of a file. Invalid for one that is too large or no text."""
    if len(data) > LONGEST:
        raise Invalid(f"The list is larger than {LONGEST >> 20} MiB; split it.", field="body")
    if b"\0" in data:
        raise Invalid("This is no CSV text; save the sheet as CSV (UTF-8).", field="body")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def parse(text: str) -> list[HostRow]:
    """The rows of a list. Invalid for a heading that is missing or unknown, or a line with too many cells."""
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = max(",;\t", key=first.count) if first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return list(_rows(reader))
    except csv.Error as error:
        raise Invalid(f"Line {reader.line_num}: {error}.", field=f"line {reader.line_num}") from error


def _rows(reader: Iterator[list[str]]) -> Iterator[HostRow]:
    headings: list[str] = []
    for cells in reader:
        number = int(getattr(reader, "line_num", 0))
        clean = [_plain(cell) for cell in cells]
        if not any(clean):
            continue
        if not headings:
            headings = _headings(clean)
            continue
        if len(clean) > len(headings) and any(clean[len(headings) :]):
            raise Invalid(
                f"Line {number} has {len(clean)} cells, but there are {len(headings)} columns.",
                field=f"line {number}",
            )
        yield HostRow(**dict(zip(headings, clean, strict=False)), line=number)
    if not headings:
        raise Invalid(f"The list is empty; its first line names the columns: {', '.join(COLUMNS)}.")


def _headings(cells: list[str]) -> list[str]:
    found = [_ALIASES.get(cell.lower(), cell.lower()) for cell in cells]
    for cell, name in zip(cells, found, strict=True):
        if name not in COLUMNS:
            raise Invalid(f"There is no column {cell!r}; columns are {', '.join(COLUMNS)}.", field="line 1")
    if "name" not in found or len(set(found)) != len(found):
        raise Invalid("The first line names each column once, and one of them is name.", field="line 1")
    return found


def render(rows: Iterable[HostRow]) -> str:
    """The list of these rows, with all columns."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells: Mapping[str, str] = {name: getattr(row, name) for name in COLUMNS}
        writer.writerow([_guarded(cell) for cell in cells.values()])
    return out.getvalue()


def _guarded(cell: str) -> str:
    return "'" + cell if cell.startswith(_FORMULA) else cell


def _plain(cell: str) -> str:
    text = cell.strip()
    return text[1:] if len(text) > 1 and text[0] == "'" and text[1:].startswith(_FORMULA) else text
