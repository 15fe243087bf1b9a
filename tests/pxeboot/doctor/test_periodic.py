"""The daemon's own look: what is new and gone is told once, and a child that fails is a finding."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from pxeboot.doctor import periodic
from pxeboot.doctor.finding import Finding
from pxeboot.doctor.periodic import Watch
from pxeboot.settings import Settings


class Told:
    """Stands where the journal is."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, str]] = []

    def __call__(self, kind: str, sentence: str, data: dict[str, Any]) -> None:
        self.notes.append((kind, sentence))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.notes]


def foreign(level: Any = "error", **data: object) -> Finding:
    return Finding(
        "dhcp-servers", level, "10.0.0.2", "%(at)s gives addresses.", "Switch it off.", {"at": "it", **data}
    )


def watch(told: Told, **sections: Any) -> Watch:
    return Watch(lambda: Settings.model_validate(sections), told)


def test_the_journal_hears_only_of_changes() -> None:
    told = Told()
    made = watch(told)
    made.take([foreign()], ["dhcp-servers"])
    made.take([foreign(at="it, still")], ["dhcp-servers"])
    assert told.notes == [("doctor.found", "it gives addresses. Switch it off.")]
    made.take([Finding("disk", "warning", "/", "full")], ["disk"])
    assert [finding.check for finding in made.findings] == ["dhcp-servers", "disk"], "both are current"
    assert [finding.subject for finding in made.errors] == ["10.0.0.2"]
    made.take([Finding("dhcp-servers", "ok", "eth1", "fine")], ["dhcp-servers"])
    assert told.kinds == ["doctor.found", "doctor.found", "doctor.gone"]
    assert "No longer so" in told.notes[-1][1]
    assert made.errors == []
    made.take([foreign()], ["dhcp-servers"])
    assert told.kinds[-1] == "doctor.found", "it came back"


async def test_without_interface_or_interval_nothing_runs() -> None:
    await asyncio.wait_for(watch(Told(), network={"interface": "eth1"}).run(0), 1)
    await asyncio.wait_for(watch(Told()).run(60), 1)


async def test_the_whole_look_is_made_by_a_process_of_its_own(tmp_path: Path) -> None:
    made = watch(Told(), server={"data_dir": tmp_path})
    found = await made.look()
    assert made.at is not None
    assert {"interface", "boot-files", "disk", "clock"} <= {finding.check for finding in found}
    assert [finding.check for finding in made.errors][:1] == ["interface"]


async def test_an_interface_that_cannot_be_asked_on_is_a_finding() -> None:
    told = Told()
    made = watch(told, network={"interface": "nowhere0"})
    [finding] = await made.look_for_servers()
    assert finding.level == "note"
    assert "nowhere0" in finding.sentence
    assert told.notes == []


@pytest.mark.parametrize(
    ("program", "tells"),
    [("#!/bin/sh\necho rubbish\n", "without an answer"), ("#!/bin/sh\nexec sleep 60\n", "took more than")],
)
async def test_a_child_that_fails_or_hangs(
    program: str, tells: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "WHOLE_LIMIT", 0.5)
    child = tmp_path / "python"
    child.write_text(program)
    child.chmod(0o755)
    made = Watch(lambda: Settings.model_validate({}), Told(), python=str(child))
    [finding] = await made.look()
    assert tells in finding.sentence
    assert not made.running


async def test_one_look_at_a_time() -> None:
    made = Watch(lambda: Settings.model_validate({}), Told(), python=sys.executable)
    async with made._alone():
        assert made.running
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(made.look(), 0.2)
    assert not made.running
