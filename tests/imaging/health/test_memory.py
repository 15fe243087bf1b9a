"""memtester's output, read as it comes; its form is written after memtester 4.7 (tests.c, memtester.c)."""

from __future__ import annotations

import shutil

import pytest

from imaging.health.memory import Output, shares
from imaging.health.memory import test_memory as run_memory_test

MIB = 1 << 20
GOOD = b"""pagesize is 4096
want 64MB (67108864 bytes)
got  64MB (67108864 bytes), trying mlock ...locked.
Loop 1/1:
  Stuck Address       : testing   1\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08\x08ok         
  Random Value        : \x08-\x08\\\x08ok
  Compare XOR         : ok
"""  # noqa: W291


def test_tests_are_counted_whatever_pieces_they_come_in() -> None:
    for step in (1, 7, 1000):
        output = Output()
        for at in range(0, len(GOOD), step):
            output.feed(GOOD[at : at + step])
        assert (output.tests, output.failures) == (3, [])


def test_a_long_drawing_does_not_hide_the_tests_name() -> None:
    output = Output()
    for piece in (b"  8-bit Writes        :  ", b"\x08-\x08|" * 3000, b" \x08ok\n"):
        output.feed(piece)
    assert output.tests == 1


def test_a_fault_is_told_in_memtesters_words() -> None:
    output = Output()
    output.feed(
        b"  Random Value        : FAILURE: 0x5a != 0x5b at offset 0x00001000.\n  Compare XOR   : ok\n"
    )
    assert output.failures == ["0x5a != 0x5b at offset 0x00001000."]
    assert output.tests == 1


def test_memory_is_shared_among_processors_and_some_is_left_for_the_system() -> None:
    assert shares(1024 * MIB, 0, 2) == [416, 416]
    assert shares(1024 * MIB, 100, 8) == [100]
    assert shares(100 * MIB, 0, 4) == []
    assert len(shares(64 << 30, 0, 64)) == 8


def test_too_little_memory_is_said_not_passed() -> None:
    found = run_memory_test(0, 0, 1, 1, progress=lambda *_: None, check=lambda: None)
    assert not found.passed
    assert "0 MiB of memory are free" in found.problem


@pytest.mark.disk  # as root: it locks memory
@pytest.mark.skipif(shutil.which("memtester") is None, reason="memtester is not installed")
def test_a_megabyte_is_really_tested() -> None:
    told: list[tuple[int, int]] = []
    found = run_memory_test(
        400 * MIB, 1, 1, 1, progress=lambda *so_far: told.append(so_far), check=lambda: None
    )
    assert found.passed, found
    assert told[-1] == (18, 18)
