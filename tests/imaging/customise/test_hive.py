"""Offline registry: hives filled and read by hivex's own tools; damaged ones end in a sentence."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imaging.customise import hive
from imaging.customise.hive import Change, change_strings, read_string
from imaging.errors import CustomiseError, ToolMissing
from tests.imaging.customise import windows

NAME = r"ControlSet*\Control\ComputerName\ComputerName"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return windows.system_hive(tmp_path_factory.mktemp("hive") / "SYSTEM", sets=3)


def test_all_control_sets_are_changed_and_nothing_else(system: Path, tmp_path: Path) -> None:
    changed, counts = change_strings(
        system.read_bytes(),
        [
            Change(NAME, "ComputerName", "ÉLÈVE-07"),
            Change(r"No\Such\Key", "x", "y"),
            Change("Select", "New", "1"),
        ],
    )
    assert counts == [3, 0, 1]
    copy = tmp_path / "SYSTEM"
    copy.write_bytes(changed)
    for number in (1, 2, 3):
        names = windows.NAMES.format(number)
        assert windows.value(copy, rf"{names}\ComputerName", "ComputerName") == "ÉLÈVE-07"
        assert windows.value(copy, windows.PARAMETERS.format(number), "Hostname") == "reference"
    assert windows.value(copy, "Select", "Kept") == "untouched"
    assert windows.value(copy, "Select", "New") == "1"
    assert "ÉLÈVE" not in windows.value(system, windows.NAMES.format(1) + r"\ComputerName", "ComputerName")


def test_strings_are_read_and_missing_ones_are_none(system: Path) -> None:
    with open(system, "rb") as file:
        assert (
            read_string(file.fileno(), r"controlset001\services\TCPIP\Parameters", "hostname") == "reference"
        )
        assert read_string(file.fileno(), "Select", "None") is None
        assert read_string(file.fileno(), "None", "None") is None


@pytest.mark.parametrize("data", [b"", b"regf", b"regf" + bytes(8192), bytes(8192)])
def test_what_is_no_hive_is_refused(data: bytes) -> None:
    with pytest.raises(CustomiseError, match="damaged"):
        change_strings(data, [Change("a", "b", "c")])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoil=st.lists(st.tuples(st.integers(12, 8191), st.integers(0, 255)), min_size=1, max_size=30))
def test_a_damaged_hive_is_changed_or_refused_and_never_brings_us_down(
    system: Path, spoil: list[tuple[int, int]]
) -> None:
    data = bytearray(system.read_bytes())
    for at, byte in spoil:
        data[at] = byte
    with contextlib.suppress(CustomiseError):
        change_strings(bytes(data), [Change(NAME, "ComputerName", "PC07")])


def test_without_the_library_the_sentence_says_what_to_install(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hive, "_LIBRARY", "libnothing.so.0")
    with pytest.raises(ToolMissing, match="install libhivex0"):
        change_strings(system.read_bytes(), [Change(NAME, "ComputerName", "PC07")])
