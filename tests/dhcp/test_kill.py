"""A server that is killed at any moment of a storm has kept every promise that a client heard of."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.dhcp.leasecheck import Told, judge, told
from tests.dhcp.room import ROOT, room, served

KILLS = 20
SEED = int(os.environ.get("PXEBOOT_SEED", "67"))


@pytest.mark.net
def test_twenty_kills_in_the_middle_of_a_storm_break_no_promise(tmp_path: Path) -> None:
    """Leases of 3 s among twice as many machines as addresses, so that they change hands all the time."""
    path, log = tmp_path / "leases.sqlite", tmp_path / "told"
    log.touch()
    chance = random.Random(SEED)
    with room() as where:
        client = where.client()
        for number in range(KILLS):
            with served(where, path, "3", "--quiet", first="10.77.0.10", last="10.77.0.209") as server:
                storm = {
                    "rate": 400, "seconds": 1.5, "clients": 400, "first": chance.randrange(400),
                    "release": 0.2, "log": str(log), "linger": 0.3,
                }  # fmt: skip
                clients = subprocess.Popen(
                    ["ip", "netns", "exec", client, sys.executable, "-m", "tests.dhcp.dora", "eth0",
                     json.dumps(storm)],
                    cwd=ROOT, stdout=subprocess.DEVNULL,
                )  # fmt: skip
                try:
                    before = log.stat().st_size
                    deadline = time.monotonic() + 60
                    while log.stat().st_size == before and time.monotonic() < deadline:
                        time.sleep(0.005)
                    time.sleep(chance.uniform(0, 0.8))
                    server.process.send_signal(signal.SIGKILL)
                    server.process.wait(30)
                    time.sleep(0.2)  # for what was on its way
                finally:
                    clients.kill()
                    clients.wait(30)
            assert judge(path, told(log)) == [], f"after kill {number + 1}"
    history = told(log)
    assert len(history) > KILLS * 10
    changed_hands = {one.address for one in history}
    assert len({(one.address, one.mac) for one in history}) > len(changed_hands)


def test_the_judge_sees_broken_promises(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE lease (address, mac, state, starts, expires)")
        database.execute("INSERT INTO lease VALUES ('10.0.0.1', 'a', 'bound', 1.0, 10.0)")
    kept, lost = Told("a", "10.0.0.1", 1.0, 10.0), Told("b", "10.0.0.2", 2.0, 11.0)
    assert judge(path, [kept]) == []
    assert judge(path, [kept, lost]) == ["b was told 10.0.0.2, the file says nobody"]
    stolen = Told("a", "10.0.0.1", 5.0, 10.0)
    theirs = Told("c", "10.0.0.1", 4.0, 9.0)
    assert judge(path, [theirs, stolen]) == ["10.0.0.1 was given to a while c had it"]
    theirs.given_back = 4.5
    assert judge(path, [theirs, stolen]) == []
    assert judge(path, [Told("a", "10.0.0.1", 1.0, 20.0)]) == [
        "a was told 10.0.0.1 until 20.0, the file: bound, 10.0"
    ]
