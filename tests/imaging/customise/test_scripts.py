"""Administrators' scripts: what they see, what they said, and the end of those that have none."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from imaging.customise.scripts import Ran, run_script
from imaging.errors import Cancelled

pytestmark = pytest.mark.disk  # namespaces of their own want root


def ran(text: str, *arguments: str, seconds: float = 20, **environment: str) -> Ran:
    return run_script(text, arguments, environment, seconds)


def test_arguments_environment_output_and_status() -> None:
    result = ran('echo "$1|$2|$WHO|$PWD"; echo wrong >&2; read x; exit 7', "a b", "$(id)", WHO="pc 07")
    assert (result.status, result.output, result.ok) == (7, "a b|$(id)|pc 07|/\nwrong\n", False)
    assert result.last_lines() == "a b|$(id)|pc 07|/ / wrong"
    assert ran("true").ok


def test_only_the_named_environment_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PXEBOOT_TOKEN_OF_THE_AGENT", "secret")
    assert "secret" not in ran("env").output


def test_a_script_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    started = time.monotonic()
    result = ran(f"(setsid sh -c 'sleep 8; touch {tmp_path}/late' &) ; trap '' TERM; sleep 500", seconds=1)
    assert (result.status, result.ok) == (None, False)
    assert time.monotonic() - started < 60
    time.sleep(max(0.0, started + 9 - time.monotonic()))
    assert not (tmp_path / "late").exists()


def test_a_script_that_closed_its_output_still_has_to_end() -> None:
    assert ran("exec >&- 2>&-; sleep 0.5; exit 4").status == 4
    assert ran("exec >&- 2>&-; sleep 100", seconds=1).status is None


def test_a_flood_is_bounded_and_its_end_is_kept() -> None:
    result = ran("yes 0123456789 | head -c 30000000; echo; echo the end", seconds=30)
    assert result.ok
    assert len(result.output) < 5000
    assert "bytes left out" in result.output
    assert result.last_lines().endswith("the end")
    assert ran("yes", seconds=1).status is None


def test_what_is_no_text_becomes_text() -> None:
    result = ran(r"printf '\033[31m\000\377é\r\nx'")
    assert result.output == "�[31m��é\nx"


def test_a_cancelled_task_ends_its_script(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()

    def check() -> None:
        if stop.is_set():
            raise Cancelled("The task was stopped.")

    started = time.monotonic()
    with pytest.raises(Cancelled):
        run_script(f"sleep 8; touch {tmp_path}/late", (), {}, 60, check=check)
    time.sleep(max(0.0, started + 9 - time.monotonic()))
    assert not (tmp_path / "late").exists()


def test_a_script_sees_its_own_processes_alone() -> None:
    assert ran("echo $$").output.strip() == "1"
    assert ran("ls -d /proc/[0-9]* | wc -l").output.strip() in ("1", "2", "3")
