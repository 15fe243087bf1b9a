"""Holds survive what captures survive, end when they end, and never block a capture."""

from __future__ import annotations

import os
from pathlib import Path

from imaging.store.holds import Holds

A, B, C = (bytes([n]) * 32 for n in range(3))


def test_what_is_noted_is_held_until_it_is_released(tmp_path: Path) -> None:
    holds = Holds(tmp_path / "holds")
    holds.note("one", [A, B])
    holds.note("two", [B, C])
    assert holds.held(60) == {A, B, C}
    holds.release("one")
    assert holds.held(60) == {B, C}
    assert Holds(tmp_path / "holds").held(60) == {B, C}  # a restart
    holds.release("two")
    holds.release("three")
    assert holds.held(60) == set()


def test_who_gives_no_name_is_released_by_hash(tmp_path: Path) -> None:
    holds = Holds(tmp_path / "holds")
    holds.note("", [A, B])
    holds.note("", [B, C])
    holds.release("", [B])
    assert holds.held(60) == {A, C}
    holds.release("", [A, C])
    assert not list((tmp_path / "holds").iterdir())


def test_a_hold_ends_a_while_after_it_was_last_used(tmp_path: Path) -> None:
    now = [0.0]
    holds = Holds(tmp_path / "holds", now=lambda: now[0])
    holds.note("one", [A])
    written = (tmp_path / "holds" / "one").stat().st_mtime
    now[0] = written + 59
    assert holds.held(60) == {A}
    now[0] = written + 61
    assert holds.held(60) == set()


def test_half_a_hash_that_a_crash_left_is_cut_off(tmp_path: Path) -> None:
    Holds(tmp_path / "holds").note("one", [A, B])
    path = tmp_path / "holds" / "one"
    os.truncate(path, 45)
    os.utime(path, (1000, 1000))
    holds = Holds(tmp_path / "holds", now=lambda: 1000.0)
    assert path.stat().st_mtime == 1000  # opening is not using
    holds.note("one", [C])
    assert path.read_bytes() == A + C


def test_any_name_will_do_for_a_holder(tmp_path: Path) -> None:
    holds = Holds(tmp_path / "holds")
    for name in ("../../etc/passwd", "x" * 300, "é", ".new", "a/b"):
        holds.note(name, [A])
        assert holds.held(60) == {A}
        holds.release(name)
        assert holds.held(60) == set()
    assert {path.name for path in tmp_path.iterdir()} == {"holds"}


def test_a_hold_that_cannot_be_written_is_kept_in_memory(tmp_path: Path) -> None:
    holds = Holds(tmp_path / "holds")
    (tmp_path / "holds" / "one").mkdir()  # opening it for writing fails, as on a full disk
    holds.note("one", [A])
    (tmp_path / "holds" / "one").rmdir()
    assert holds.held(60) == {A}
    holds.release("one")
    assert holds.held(60) == set()


def test_a_prune_hears_what_is_noted_after_it_began(tmp_path: Path) -> None:
    holds = Holds(tmp_path / "holds")
    holds.note("one", [A])
    holds.begin()
    holds.note("two", [B])
    holds.protect([C])
    assert [holds.is_new(hash) for hash in (A, B, C)] == [False, True, True]
    holds.end()
    assert not holds.is_new(B)
