"""What commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 160  # what is piped is not cut to a screen's width


def print_json(value: Any) -> None:
    """Print `value` as indented JSON on standard output."""
    console.out(json.dumps(value, indent=2, ensure_ascii=False), highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print rows under headings; numbers right-aligned, None as a dash."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    collected = [list(row) for row in rows]
    for index, heading in enumerate(columns):
        numeric = bool(collected) and all(isinstance(row[index], int | float) for row in collected)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in collected:
        table.add_row(*[_cell(cell) for cell in row])
    console.print(table)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    text = str(value)
    # Times of the API are RFC 3339 with microseconds; people read seconds.
    return f"{text[:10]} {text[11:19]} UTC" if _TIME.fullmatch(text) else text


def size(count: int | None) -> str:
    """Bytes as people read them: 1.2 GB (powers of ten, as disks are sold)."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def show(
    value: Any, as_json: bool, columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = ""
) -> None:
    """Print JSON or the table, as asked."""
    if as_json:
        print_json(value)
    else:
        print_table(columns, rows, title)
