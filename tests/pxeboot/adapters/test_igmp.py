"""A bridge that snoops IGMP without a querier floods; with ours, the stream goes to its members alone."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.bench.lan import Lan, lan

pytestmark = [pytest.mark.net, pytest.mark.skipif(os.geteuid() != 0, reason="root")]

GROUP = "239.192.7.7"
QUERIER = """
import asyncio, json
from pxeboot.adapters.igmp import run_queriers
def note(kind, sentence, data): print(json.dumps([kind, data]), flush=True)
places = [("eth0", "{address}")]
asyncio.run(run_queriers(places, lambda: True, note, query_seconds=0.5, response_seconds=0.2))
"""
SENDER = f"""
import socket, time
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    line.sendto(bytes(200), ("{GROUP}", 9000)); time.sleep(0.01)
"""
MEMBER = f"""
import socket, struct
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.bind(("{GROUP}", 9000))
line.setsockopt(0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("{GROUP}") + socket.inet_aton("0.0.0.0"))
while True: line.recv(2000)
"""


def counted(net: Lan, namespace: str, way: str) -> int:
    """Packets that went over a cable so far: `rx` into the namespace, `tx` out of it."""
    return int(net.run(namespace, "cat", f"/sys/class/net/eth0/statistics/{way}_packets").stdout)


def heard(net: Lan, host: int) -> float:
    """The share of what the server sends in a second that arrives at a host."""
    place = net.hosts[host]
    sent, before = counted(net, net.server, "tx"), counted(net, place, "rx")
    time.sleep(1.0)
    while counted(net, net.server, "tx") < sent + 30:  # on a busy machine it takes longer
        time.sleep(0.1)
    got = counted(net, place, "rx") - before
    return got / (counted(net, net.server, "tx") - sent)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"


def querier(net: Lan, namespace: str, address: str) -> subprocess.Popen[str]:
    return net.python(namespace, "-c", QUERIER.format(address=address), stdout=subprocess.PIPE)


def test_the_stream_goes_to_its_members_and_stays() -> None:
    member, bystander = 0, 1
    with lan(2) as net:
        # Times in hundredths of a second: a bridge forgets members after 2 s here, as others after 4 minutes.
        net.ip(
            net.switch,
            "link set br0 type bridge mcast_snooping 1 mcast_querier 0 mcast_query_response_interval 20 "
            "mcast_membership_interval 200 mcast_querier_interval 300",
        )
        net.python(net.server, "-c", SENDER)
        net.python(net.hosts[member], "-c", MEMBER)
        until(lambda: heard(net, bystander) > 0.5)  # nobody asks: everybody gets everything
        ours = querier(net, net.server, "10.77.0.1")
        until(lambda: heard(net, bystander) < 0.2)  # only the queries
        end = time.monotonic() + 4
        while time.monotonic() < end:  # twice as long as the bridge remembers
            assert heard(net, member) > 0.5
        assert heard(net, bystander) < 0.2
        net.stop(ours)
        until(lambda: heard(net, bystander) > 0.5)


def test_the_lower_address_asks() -> None:
    with lan(1) as net:
        high = querier(net, net.hosts[0], net.address(0))
        assert high.stdout is not None
        assert json.loads(high.stdout.readline())[0] == "multicast.querier-started"
        querier(net, net.server, "10.77.0.1")
        silent = json.loads(high.stdout.readline())
        assert silent == ["multicast.querier-silent", {"interface": "eth0", "querier": "10.77.0.1"}]
