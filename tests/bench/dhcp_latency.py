"""How long a whole DHCP exchange takes at 500 a second, alone and while an image is sent beside it.

The client is tests/dhcp/dora.py, a process with real-time priority in a namespace of its own: from its
DISCOVER to our ACK, which left only when the lease was durable. Beside it our own multicast sender sends to
receivers in the same namespaces as fast as they take it.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from tests.bench.dhcp import FIRST, LAST
from tests.bench.harness import Entry, Measurement
from tests.bench.lan import Lan, lan, udp_port_open, wait_until
from tests.bench.multicast import Ours, ends
from tests.bench.multicast_peers import make_image

ROUNDS = 3
EXCHANGES = 500  # a second
GOAL, GOAL_ALONE = 50.0, 20.0  # ms, the 99th percentile
_RECEIVERS = 2
_RATE = 1000  # Mbit/s: a link of a gigabit filled


def storm(net: Lan, host: int, seconds: float, first: int, rate: int = EXCHANGES) -> dict[str, Any]:
    """So many exchanges a second from one host, as through a relay. RuntimeError when 1 % were lost."""
    found = exchanges(net, host, seconds, first, rate)
    if found["acknowledged"] < 0.99 * found["begun"]:
        raise RuntimeError(f"of {found['begun']} exchanges only {found['acknowledged']} were finished")
    return found


def exchanges(net: Lan, host: int, seconds: float, first: int, rate: int) -> dict[str, Any]:
    """What tests/dhcp/dora.py found."""
    what = {
        "rate": rate, "seconds": seconds, "clients": 20_000, "first": first, "realtime": True,
        "relay": net.address(host), "server": "10.77.0.1",
    }  # fmt: skip
    process = net.python(net.hosts[host], "-m", "tests.dhcp.dora", "eth0", json.dumps(what), stdout=-1)
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    process.wait(10)
    return found


def during_multicast(found: Measurement) -> None:
    seconds = max(1.0, 4 * found.scale)
    size = found.megabytes(768, 128)
    image = make_image(found.scratch, size)
    alone: list[float] = []
    halves: list[float] = []
    for number in found.rounds(ROUNDS):
        with lan(_RECEIVERS + 1) as net:
            leases = found.disk / f"leases{number}.sqlite"
            net.python(
                net.server,
                *("-m", "tests.dhcp.serve", "eth0", "10.77.0.0/16", FIRST, LAST, str(leases), "--quiet"),
                stdin=-1,
                stdout=-3,
            )
            wait_until("our DHCP server", lambda server=net.server: udp_port_open(server, 67))
            alone.append(storm(net, _RECEIVERS, seconds, 0)["p99"])
            session = Ours(net, image, found.scratch, expected=_RECEIVERS, rate=_RATE)
            receivers = [session.receiver(host) for host in range(_RECEIVERS)]
            began = session.started()
            beside = storm(net, _RECEIVERS, seconds, 30_000)
            stopped = time.monotonic()
            finished = ends(receivers)
            session.close()
            found.ours.append(beside["p99"])
            halves.append(beside["p50"])
            if finished < stopped - 1.5:  # the client waits a second in the end
                found.remark("the image had arrived before the exchanges were over")
            found.remark(
                f"image at {image.size * 8e-6 / (finished - began):.0f} Mbit/s, the link's rate {_RATE}"
            )
    found.remark(
        f"median exchange {statistics.median(halves):.1f} ms; alone p99 {statistics.median(alone):.1f} ms "
        f"(goal {GOAL_ALONE:g}); {EXCHANGES} exchanges a second, {_RECEIVERS} receivers"
    )


ENTRIES = (
    Entry(
        "dhcp_p99_during_multicast",
        "ms",
        during_multicast,
        goal=GOAL,
        lower=True,
        needs=("ss", "setpriv"),
    ),
)
