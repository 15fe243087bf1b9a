"""Deploys without multicast, or with one that dies: real agents in namespaces, a switch that drops."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.imaging.agent.images import blank
from tests.imaging.agent.test_net import CHUNKS, SESSION, Site, written
from tests.imaging.multicast.room import lines_until, net_room, sh

pytestmark = pytest.mark.net

PEERS = {"secret": "ab" * 32, "port": 9080, "across": False, "linger": 20}
IMAGE = CHUNKS * 300_000  # bytes of random content


class Neighbourhood(Site):
    """Hosts that may fetch from each other."""

    def deploy(self, *hosts: int) -> list[subprocess.Popen[str]]:
        return [self.agent(host, blank(self.disk(host), CHUNKS << 20)) for host in hosts]

    def disk(self, host: int) -> Path:
        return self.path / f"disk-{host}.img"

    def log(self, host: int) -> str:
        path = self.path / f"host-{host}.log"
        return path.read_text() if path.exists() else ""

    def block(self, *protocol: str) -> None:
        """The switch drops what fits; ``ip daddr 239.0.0.0/8`` are the groups."""
        what = " ".join(protocol) or "ip daddr 239.0.0.0/8"
        rules = f"table bridge t {{ chain f {{ type filter hook forward priority 0; {what} drop\n }}\n}}\n"
        command = ["ip", "netns", "exec", self.room.switch, "nft", "-f", "-"]
        subprocess.run(command, input=rules, text=True, check=True, timeout=60)

    def unblock(self) -> None:
        sh("ip", "netns", "exec", self.room.switch, "nft", "delete", "table", "bridge", "t")


def total(outcomes: list[dict[str, Any]], way: str) -> int:
    return sum(int(outcome[f"bytes_{way}"]) for outcome in outcomes)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Neighbourhood]:
    with net_room(3) as room:
        made = Neighbourhood(room, tmp_path)
        made.tell(f"peers {json.dumps(PEERS)}")
        yield made


def test_three_hosts_take_each_chunk_from_the_server_about_once(site: Neighbourhood) -> None:
    outcomes = site.finish(*site.deploy(0, 1, 2))
    assert site.same(*map(site.disk, range(3)))
    assert total(outcomes, "multicast") == 0
    assert total(outcomes, "peers") > 1.5 * IMAGE
    assert site.tell("told")["chunks"] < 1.4 * CHUNKS


def test_hosts_that_hear_no_multicast_say_why_and_hear_it_again(site: Neighbourhood) -> None:
    shape = "tc qdisc add dev eth0 root tbf rate 16mbit burst 64k latency 200ms"
    sh("ip", "netns", "exec", site.room.server, *shape.split())
    site.tell(f"session {json.dumps(SESSION)}")
    sender = site.sender(gather_seconds=0, rate_mbit=14)
    agents = site.deploy(0, 1)
    lines_until(sender, "sweep-started", 60)
    for host in (0, 1):
        written(site.disk(host), 20)
    site.block()
    # Both had some of it, nobody has all. The server's word of what it sends makes the reason known.
    deadline, sent, told = time.monotonic() + 90, 0, site.tell("told")
    while not (told["peers"] and any("stopped forwarding" in reason for reason in told["reasons"])):
        assert time.monotonic() < deadline, site.log(0)
        sent += 10
        site.tell(f"sent {sent}")
        time.sleep(0.2)
        told = site.tell("told")
    site.unblock()
    outcomes = site.finish(*agents)
    assert site.same(site.disk(0), site.disk(1))
    assert total(outcomes, "multicast") > 0
    assert total(outcomes, "peers") > 0
    for host in (0, 1):
        ways = [line.split()[2] for line in site.log(host).splitlines() if " agent: way=" in line]
        # A machine with other work may have been alone for a moment; the order is what counts.
        assert "way=multicast" in ways[ways.index("way=peers") :], site.log(host)


def test_hosts_that_are_done_wait_for_a_slow_one_that_fetches_from_them(site: Neighbourhood) -> None:
    port = "tc qdisc add dev p3 root tbf rate 20mbit burst 64k latency 200ms"  # the switch's, to host 2
    sh("ip", "netns", "exec", site.room.switch, *port.split())
    outcomes = site.finish(*site.deploy(0, 1, 2))
    assert site.same(*map(site.disk, range(3)))
    last = max(outcomes, key=lambda outcome: outcome["seconds"]["receive"])
    assert last["bytes_peers"] > IMAGE / 2
    assert any("Other machines are still fetching" in site.log(host) for host in (0, 1)), site.log(0)
    assert "Other machines are still fetching" not in site.log(2)


def test_neighbours_that_cannot_be_reached_are_left_and_the_server_gives_all(site: Neighbourhood) -> None:
    site.block("tcp dport 9080")
    outcomes = site.finish(*site.deploy(0, 1))
    assert site.same(site.disk(0), site.disk(1))
    assert total(outcomes, "peers") == 0
    assert total(outcomes, "http") >= 2 * IMAGE


def test_a_neighbour_that_stops_in_mid_transfer_holds_nobody_up(site: Neighbourhood) -> None:
    agents = site.deploy(0, 1, 2)
    written(site.disk(0), 4)
    agents[0].send_signal(19)  # SIGSTOP: its connections stay open and say nothing
    outcomes = site.finish(*agents[1:])
    assert site.same(site.disk(1), site.disk(2))
    assert len(outcomes) == 2
