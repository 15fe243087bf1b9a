"""Lists of hosts as offices write them, and back."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.errors import Invalid
from pxeboot.services.host_csv import COLUMNS, LONGEST, HostRow, decode, parse, render

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=30).map(str.strip)
ROW = st.builds(HostRow, name=CELL.filter(bool), **{name: CELL for name in COLUMNS if name != "name"})


def cells(rows: list[HostRow]) -> list[tuple[str, ...]]:
    return [tuple(getattr(row, name) for name in COLUMNS) for row in rows]


@given(st.lists(ROW, max_size=8))
def test_what_is_written_is_read_again(rows: list[HostRow]) -> None:
    assert cells(parse(decode(render(rows).encode()))) == cells(rows)


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_one_clear_error(data: bytes) -> None:
    rows: list[HostRow] = []
    with contextlib.suppress(Invalid):
        rows = parse(decode(data))
    assert all(row.line > 1 for row in rows)


@pytest.mark.parametrize(
    "text",
    [
        "name,mac,room,ip\npc1,52:54:00:00:00:01,B204,10.20.0.31\n",
        "\ufeffName;MAC;Group;Address\r\npc1;52:54:00:00:00:01;B204;10.20.0.31\r\n;;;\r\n",
        "address\tgroup\tname\tmacs\n\n10.20.0.31\tB204\t pc1 \t52:54:00:00:00:01\n",
    ],
)
def test_separators_marks_and_orders_of_an_office(text: str) -> None:
    row = parse(decode(text.encode()))[0]
    assert (row.name, row.macs, row.group, row.address) == ("pc1", "52:54:00:00:00:01", "B204", "10.20.0.31")
    assert row.line in (2, 3)


def test_windows_character_set_is_read() -> None:
    assert parse(decode("name;group\npc1;Salle étude\n".encode("cp1252")))[0].group == "Salle étude"


def test_a_spreadsheet_runs_nothing_of_a_serial_number() -> None:
    text = render([HostRow(name="pc1", serial="=HYPERLINK(1)"), HostRow(name="pc2", serial="'quoted")])
    assert ",'=HYPERLINK(1)" in text
    assert [row.serial for row in parse(text)] == ["=HYPERLINK(1)", "'quoted"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "The list is empty"),
        ("\n\n", "The list is empty"),
        ("name,colour\npc1,red\n", "no column 'colour'"),
        ("macs,group\n", "one of them is name"),
        ("name,name\n", "each column once"),
        ("name,mac,macs\n", "each column once"),
        ("name,group\npc1,B204\npc2,B204,10.20.0.3\n", "Line 3 has 3 cells"),
    ],
)
def test_what_is_no_list_is_refused_with_the_line(text: str, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        parse(text)


def test_what_is_no_text_is_refused() -> None:
    for data in (b"PK\x03\x04\0\0", b"x" * (LONGEST + 1)):
        with pytest.raises(Invalid):
            decode(data)
