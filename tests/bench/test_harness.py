"""The parts of the harness that measure nothing: figures, limits, what is written and printed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench.dhcp import figures
from tests.bench.harness import (
    Entry,
    Measurement,
    NotMeasured,
    Result,
    TimeUp,
    failed,
    load_remark,
    median,
    missing,
    number,
    ratio,
    run_entry,
    table,
    time_limit,
    write_json,
)

CONTRACT = {"name", "unit", "ours", "peer", "peer_name", "ratio", "runs", "note"}
#: docs/benchmarks.md and the design name these.
WORDS = """dhcp_isc dhcp_kea dhcp_dnsmasq dhcp_p99_during_multicast tftp_w1 tftp_w4 tftp_w16 tftp_100_clients
boot_storm capture restore scan reset_one_file reset_light_day reset_heavy_day
multicast_n1 multicast_n4 multicast_n16 multicast_shaped_loss0
multicast_shaped_loss01 multicast_shaped_loss1 multicast_dead multicast_slow multicast_late multicast_union
multicast_frozen multicast_groups multicast_restarts multicast_reboot multicast_server_killed
multicast_sender_killed multicast_simulated link_shared dhcp_p99_link_shared
peers_vs_http peers_multicast_blocked peers_multicast_dies
api_20k_hosts agents_1000 store_scale"""
NAMES = WORDS.split()


@pytest.fixture
def found(tmp_path: Path) -> Measurement:
    return Measurement(1.0, tmp_path, tmp_path)


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


def test_median_and_ratio() -> None:
    assert median([5, 1, 100]) == 5
    assert median([4, 2]) == 3
    assert median([]) is None
    assert ratio(300, 100, lower=False) == 3
    assert ratio(2, 6, lower=True) == 3
    assert ratio(None, 6, lower=True) is ratio(6, None, lower=False) is None
    assert ratio(0, 6, lower=True) is None


def test_numbers_for_people() -> None:
    assert [number(value) for value in (None, 12345.6, 99.44, 0.01234)] == ["-", "12,346", "99.4", "0.0123"]


def test_an_entry_beside_a_peer(found: Measurement) -> None:
    def measure(m: Measurement) -> None:
        for round in m.rounds(3):
            m.ours.append([2.0, 9.0, 3.0][round])
            m.peer.append([6.0, 5.0, 6.0][round])
        m.remark("small files")
        m.remark("small files")

    entry = Entry("a", "s", measure, "no-such-package", lower=True)
    assert run_entry(entry, found) == Result("a", "s", 3.0, 6.0, "no-such-package", 2.0, 3, "small files")


def test_a_figure_without_a_peer_is_held_against_the_goal(found: Measurement) -> None:
    result = run_entry(Entry("a", "GB/s", lambda m: m.ours.append(3.0), goal=1.5), found)
    assert (result.peer, result.peer_name, result.ratio) == (1.5, "goal", 2.0)


@pytest.mark.parametrize(
    ("entry", "note"),
    [
        (Entry("a", "s"), "not measured by this version"),
        (Entry("a", "s", lambda m: None, "x", needs=("no-such-command",)), "no-such-command not installed"),
    ],
)
def test_what_cannot_be_measured_says_so_and_gives_no_figure(
    found: Measurement, entry: Entry, note: str
) -> None:
    result = run_entry(entry, found)
    assert result.ours is None
    assert result.ratio is None
    assert note in result.note
    assert not failed(result)


def test_an_entry_that_fails_gives_no_figure_even_after_some_rounds(found: Measurement) -> None:
    def measure(m: Measurement) -> None:
        m.ours.append(1.0)
        raise ValueError("the copies\ndiffer")

    result = run_entry(Entry("a", "s", measure, goal=1), found)
    assert result.ours is None
    assert result.note == "failed: ValueError: the copies differ"
    assert failed(result)


def test_an_entry_that_finds_it_cannot_is_no_failure(found: Measurement) -> None:
    def measure(m: Measurement) -> None:
        raise NotMeasured("too little memory")

    result = run_entry(Entry("a", "s", measure, goal=1), found)
    assert result.note == "not measured: too little memory"
    assert not failed(result)


def test_rounds_end_before_the_limit_and_say_so(found: Measurement) -> None:
    now = found.began

    def clock() -> float:
        return now

    done = 0
    for _ in found.rounds(9, clock):
        done += 1
        now += 60  # a third round would end at 180 s
    assert done == 2
    assert found.remarks == ["2 of 9 rounds in 150 s"]


def test_the_time_limit_cuts_off_and_is_lifted_afterwards() -> None:
    with pytest.raises(TimeUp), time_limit(0.05):
        time.sleep(5)
    with time_limit(0.05):
        pass
    time.sleep(0.08)


def test_load_is_told() -> None:
    assert load_remark(1.0, 2) == ""
    assert load_remark(7.5, 2).startswith("under load: 7.5 on 2 cores")


def test_the_file_has_the_shape_of_the_contract(tmp_path: Path, found: Measurement) -> None:
    results = [run_entry(Entry("a", "s", lambda m: m.ours.append(1 / 3), goal=1), found)]
    write_json(tmp_path / "bench.json", results)
    (line,) = json.loads((tmp_path / "bench.json").read_text())
    assert set(line) == CONTRACT
    assert line["ours"] == 0.3333
    assert [file.name for file in tmp_path.iterdir()] == ["bench.json"]


def test_the_table_has_a_line_for_each_and_its_note_below() -> None:
    results = [
        Result("short", "s", 1.0, 2.0, "peer 1.0", 2.0, 3, "a remark"),
        Result("a_long_name", "MB/s", None, None, "goal", None, 0, "not measured by this version"),
    ]
    lines = table(results).splitlines()
    assert lines[0].split()[:4] == ["name", "ours", "peer", "unit"]
    assert lines[1].split() == ["short", "1", "2", "s", "2.00", "3", "peer", "1.0"]
    assert lines[2] == "    a remark"
    assert lines[3].startswith("a_long_name     -")
    assert lines[4] == "    not measured by this version"


def test_missing_looks_where_debian_puts_servers() -> None:
    assert missing(["sh", "no-such-command"]) == ["no-such-command"]


def test_every_name_of_the_contract_is_there_once_and_documented() -> None:
    assert sorted(entry.name for entry in command.ENTRIES) == sorted(NAMES)
    page = (command.ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}`" not in page] == []


def test_only_chooses_and_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = command.arguments(["--only", "scan,capture"])
    assert [entry.name for entry in chosen.entries] == ["capture", "scan"]
    with pytest.raises(SystemExit):
        command.arguments(["--only", "scan,speed"])
    assert "unknown: speed" in capsys.readouterr().err


def test_perfdhcp_is_understood() -> None:
    report = """***Rate statistics***
Rate: 312.4 4-way exchanges/second, expected rate: 500

***Statistics for: DISCOVER-OFFER***
sent packets: 1000
received packets: 990
drops: 10

***Statistics for: REQUEST-ACK***
sent packets: 990
received packets: 937
"""
    assert figures(report) == (312.4, 937)
    with pytest.raises(ValueError, match="no rate"):
        figures("interface eth0 not found")
