"""A machine to which too little of the stream comes through: out of the group by IGMP, and in again."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imaging.agent.hearing import is_member
from tests.imaging.agent.images import blank
from tests.imaging.agent.test_net import CHUNKS, SESSION, Site
from tests.imaging.multicast.room import lines_until, net_room, sh

pytestmark = [pytest.mark.net, pytest.mark.timeout(400)]

GROUP = str(SESSION["group"])
# Over HTTP it takes half a minute: there must be something left to come by multicast again.
SLOW_HTTP = """
    table inet slow {
      chain out {
        type filter hook output priority 0;
        tcp sport 8000 ip daddr 10.9.0.10 limit rate over 500 kbytes/second burst 100 kbytes drop
      }
    }"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with net_room(2) as room:
        # A switch that snoops and asks, and so fills only the ports of members. Linux trusts its own queries
        # after one response interval (in hundredths of a second, as all of these) only. A host that joined
        # before it heard the first query of IGMPv2 sends no leave: then its port empties when it has not
        # answered for the membership interval, which a switch has longer than here.
        bridge = ("ip", "-n", room.switch, "link", "set", "br0", "type", "bridge")
        sh(*bridge, "mcast_query_response_interval", "50", "mcast_query_interval", "200",
           "mcast_startup_query_interval", "200", "mcast_membership_interval", "700")  # fmt: skip
        sh(*bridge, "mcast_snooping", "1", "mcast_querier", "1")
        yield Site(room, tmp_path)


def within(site: Site, *command: str, host: int = 0, text: str = "") -> str:
    where = site.room.switch if command[0] == "bridge" else site.room.hosts[host]
    return subprocess.run(
        ["ip", "netns", "exec", where, *command],
        input=text, capture_output=True, text=True, check=True, timeout=20,
    ).stdout  # fmt: skip


def member(site: Site, host: int) -> bool:
    return is_member(within(site, "cat", "/proc/net/igmp", host=host), GROUP, "eth0")


def forwarded(site: Site, port: str) -> bool:
    """Whether the switch sends the group to this port."""
    lines = within(site, "bridge", "mdb", "show").splitlines()
    return any(f"grp {GROUP}" in line and f"port {port}" in line for line in lines)


def until(condition: Callable[[], bool], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def test_a_machine_that_loses_too_much_leaves_the_group_and_comes_back(site: Site) -> None:
    site.room.lose(0, 400)
    subprocess.run(
        ["ip", "netns", "exec", site.room.server, "nft", "-f", "-"],
        input=SLOW_HTTP, text=True, check=True, timeout=20,
    )  # fmt: skip
    site.tell(f"session {json.dumps(SESSION)}")
    sender = site.sender(gather_seconds=0, rate_mbit=9)
    disks = [blank(site.path / f"disk-{n}.img", CHUNKS << 20) for n in range(2)]
    agents = [site.agent(n, disk) for n, disk in enumerate(disks)]
    log = site.path / "host-0.log"
    lines_until(sender, "sweep-started", 30)
    until(lambda: member(site, 0) and forwarded(site, "p1"), 60, log)
    until(lambda: not member(site, 0), 60, log)
    assert member(site, 1)
    until(lambda: not forwarded(site, "p1"), 60, log)
    assert forwarded(site, "p2")
    within(site, "nft", "delete", "table", "inet", "loss")
    until(lambda: member(site, 0), 60, log)
    outcomes = site.finish(*agents)
    assert site.same(*disks)
    told = log.read_text()
    assert "it has left the group" in told
    assert told.index("too much is lost") < told.rindex("agent: way=multicast"), told
    slow = max(outcomes, key=lambda outcome: outcome["bytes_http"])
    assert slow["bytes_http"] > 0
    assert slow["bytes_multicast"] > slow["bytes_http"] / 4


def test_a_machine_that_hears_nothing_stays_a_member(site: Site) -> None:
    site.tell(f"session {json.dumps(SESSION)}")  # and no sender
    agent = site.agent(0, blank(site.path / "disk-0.img", CHUNKS << 20))
    log = site.path / "host-0.log"
    until(lambda: log.exists() and "agent: way=http" in log.read_text(), 60, log)
    assert member(site, 0)
    site.finish(agent)
