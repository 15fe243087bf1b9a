"""Addresses that somebody uses already: found by ARP, behind a relay by ICMP; others do not wait."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from dhcp.actions import Probe
from dhcp.conflict import MOST_PROBES, LinkProbes
from tests.dhcp.conversation import LINK, MAC, plain
from tests.dhcp.room import Room, room, served

pytestmark = pytest.mark.net

SQUATTED, NEXT = "10.77.0.10", "10.77.0.11"


def udhcpc(where: Room, client: str) -> None:
    where.inside(client, "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-s", "/bin/true")


def dora(where: Room, client: str, **what: Any) -> dict[str, Any]:
    command = (sys.executable, "-m", "tests.dhcp.dora", "eth0", json.dumps(what))
    found: dict[str, Any] = json.loads(where.inside(client, *command, timeout=60).stdout)
    return found


def quarantined(path: Path) -> list[str]:
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT address FROM lease WHERE state = 'declined' AND mac IS NULL")
        return [address for (address,) in rows]


def test_a_squatters_address_is_not_given_away(tmp_path: Path) -> None:
    path = tmp_path / "leases.sqlite"
    with room() as where, served(where, path, "--probe") as server:
        squatter, client = where.client(), where.client()
        where.inside(squatter, "ip", "addr", "add", f"{SQUATTED}/24", "dev", "eth0")
        udhcpc(where, client)
        conflict = server.wait_for("kind", "dhcp.conflict")
        assert conflict["data"]["address"] == SQUATTED
        assert server.wait_for("kind", "dhcp.acknowledged")["data"]["address"] == NEXT
        assert quarantined(path) == [SQUATTED]
        # Whoever has it already is asked nothing, also when it answers for its own address.
        where.inside(client, "ip", "addr", "add", f"{NEXT}/24", "dev", "eth0")
        udhcpc(where, client)
        assert server.wait_for("kind", "dhcp.acknowledged")["data"]["address"] == NEXT
        assert server.process.stdin is not None
        server.process.stdin.close()
        counters = server.wait_for("counters")["counters"]
        assert (counters["probed"], counters["probe_in_use"]) == (2, 1)
        assert "crashed" not in counters


def test_behind_a_relay_an_echo_tells(tmp_path: Path) -> None:
    """The relay's host stands for its network: the squatted address answers there, the next does not."""
    path = tmp_path / "leases.sqlite"
    with room() as where, served(where, path, "--probe") as server:
        relay = where.client()
        for address in ("10.77.0.200/24", f"{SQUATTED}/32"):
            where.inside(relay, "ip", "addr", "add", address, "dev", "eth0")
        done = dora(
            where,
            relay,
            relay="10.77.0.200",
            rate=5,
            seconds=0.4,
            clients=2,
            linger=30,
            until_all=True,
            patience=30,
        )
        assert done["acknowledged"] == 2
        assert server.wait_for("kind", "dhcp.conflict")["data"]["address"] == SQUATTED
        assert quarantined(path) == [SQUATTED]


def test_a_probe_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """A machine that has its address goes through while others' new addresses are looked up."""
    with room() as where, served(where, tmp_path / "leases.sqlite", "--probe", "--quiet") as server:
        client = where.client()
        first = dora(where, client, rate=10, seconds=0.1, clients=1, first=0, linger=30, until_all=True)
        assert first["p50"] > 290  # looked up
        strangers, patient = where.client(), {"linger": 30, "until_all": True, "patience": 30}
        known = json.dumps({"rate": 20, "seconds": 1.5, "clients": 1, "first": 0, **patient})
        new = json.dumps({"rate": 20, "seconds": 1.5, "clients": 1000, "first": 5000, **patient})
        program = f"{sys.executable} -m tests.dhcp.dora eth0"
        both = (
            f"ip netns exec {strangers} {program} '{new}' > {tmp_path}/new & "
            f"ip netns exec {client} {program} '{known}' > {tmp_path}/known; wait"
        )
        where.inside(where.server, "sh", "-c", both, timeout=60)
        waited, quick = (json.loads((tmp_path / name).read_text()) for name in ("new", "known"))
        assert waited["acknowledged"] == quick["acknowledged"] == 30
        assert waited["p50"] > 290
        assert quick["p50"] < 250, "a look takes 300 ms"
        assert server.process.poll() is None


def test_a_storm_is_not_looked_up_beyond_the_bound() -> None:
    with room() as where:
        code = "from tests.dhcp.test_conflict import storm; storm()"
        found = json.loads(where.inside(where.server, sys.executable, "-c", code).stdout)
    assert found["looked"] == [True] * MOST_PROBES + [False] * 10
    assert found["counters"] == {"probed": MOST_PROBES, "probe_skipped": 11, "probe_remembered": 1}
    assert found["free"] == MOST_PROBES


def storm() -> None:
    """In the namespace, as a process of its own: more new addresses than are looked up at one time."""

    async def look() -> None:
        probes, answers = LinkProbes(), []

        def ask(address: str, interface: str = "br0") -> bool:
            probe = Probe(address=address, interface=interface, mac=MAC, packet=plain(), arrived_on=LINK)
            return probes.look(probe, answers.append)

        ask("10.77.0.9", "lo")  # no Ethernet: it counts as free
        looked = [ask(f"10.77.{1 + last // 250}.{last % 250}") for last in range(MOST_PROBES + 10)]
        async with asyncio.timeout(60):
            while len(answers) < MOST_PROBES:
                await asyncio.sleep(0.05)
        ask("10.77.1.1")  # known to be free by now
        print(json.dumps({"looked": looked, "counters": probes.counters, "free": answers.count(False)}))
        probes.close()

    asyncio.run(look())


async def test_a_way_that_is_barred_forbids_only_that_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall's or a `prohibit` route's EPERM says nothing about our rights."""
    asked: list[bytes] = []

    class Barred:
        def __init__(self, echoed: Any) -> None:
            """The socket could be made."""

        def ask(self, address: bytes) -> None:
            asked.append(address)
            if len(asked) == 1:
                raise PermissionError(1, "Operation not permitted")

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr("dhcp.conflict._Pinger", Barred)
    probes = LinkProbes()

    def look(address: str) -> bool:
        packet = plain(giaddr="10.30.0.254")
        probe = Probe(address=address, interface="br0", mac=MAC, packet=packet, arrived_on=LINK)
        return probes.look(probe, lambda in_use: None)

    assert not look("10.30.0.10")
    assert look("10.31.0.10")
    probes.close()
