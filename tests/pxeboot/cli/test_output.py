"""What commands print is read by people: units, times, dashes for nothing."""

from __future__ import annotations

import pytest

from pxeboot.cli.output import print_table, size


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_147_483_648, "2.1 GB"), (None, "-")]
)
def test_sizes_are_in_powers_of_ten(count: int | None, text: str) -> None:
    assert size(count) == text


def test_a_table_shows_seconds_and_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("host", "seen", "group"), [("B204-01", "2026-11-23T19:39:08.783097Z", None)])
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.split() == ["B204-01", "2026-11-23", "19:39:08", "UTC", "-"]
