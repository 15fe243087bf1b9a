"""Any bytes to the UDP ports of running servers: no crash, no growth, and others are served meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dhcp.room import ROOT, Room, room
from tests.fuzz.mutate import STORM


class Servers:
    """A running tests.fuzz.serve."""

    def __init__(self, where: Room, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["ip", "netns", "exec", where.server, sys.executable, "-m", "tests.fuzz.serve", str(folder)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert "ready" in self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def state(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line())
        return found

    def stop(self) -> int:
        """The exit status of an orderly end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            return self._process.wait(60)
        finally:
            self._process.kill()
            self._process.wait(60)


@pytest.mark.net
@pytest.mark.fuzz
@pytest.mark.timeout(300 + STORM // 50)
def test_no_datagram_harms_the_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shimx64.efi").write_bytes(bytes(100_000))
    (tmp_path / "boot.txt").write_text("one\ntwo\n" * 100)
    with room() as where:
        attacker = where.client()
        for last in (210, *range(211, 219)):
            where.inside(attacker, "ip", "addr", "add", f"10.77.0.{last}/24", "brd", "+", "dev", "eth0")
        servers = Servers(where, tmp_path)
        try:

            def attack(count: int, seed: int) -> dict[str, Any]:
                command = (sys.executable, "-m", "tests.fuzz.attack", "10.77.0.1", "10.77.0.210")
                done = where.inside(attacker, *command, str(count), str(seed), timeout=200 + STORM // 100)
                found: dict[str, Any] = json.loads(done.stdout)
                return found

            attack(STORM // 4, 1)  # what grows to its bound has done so after this
            before = servers.state()
            found = attack(STORM - STORM // 4, 2)
            after = servers.state()
        finally:
            status = servers.stop()
    with capsys.disabled():
        print(
            f"\n{STORM:,} mutated datagrams to ports 67, 4011 and 69, {found['rate']:,.0f}/s; "
            f"memory {before['rss'] / 1024:.1f} MB, then {after['rss'] / 1024:.1f} MB"
        )
    counters = after["counters"]
    assert after["alarms"] == []
    assert "crashed" not in counters
    assert found["unanswered"] == 0
    assert counters["received"] > STORM * 0.5
    assert counters["malformed"] > STORM * 0.05
    assert counters["dhcp.acknowledged"] > 0
    assert after["rss"] - before["rss"] < 8 * 1024
    assert after["files"] < 400  # transfers under way have a socket each
    assert status == 0
