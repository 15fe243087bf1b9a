"""Eight machines without multicast: fetching from each other, beside everybody fetching from the server.

The real daemon and real agents in a virtual room, the server's port shaped, the machines' ports wide. The
figure is the longest time of the eight from the first look at the disk to the last chunk written.
"""

from __future__ import annotations

import threading

from tests.bench.harness import Entry, Measurement
from tests.bench.room import HOSTS, LINK, classroom, longest, shares

#: A chunk of random bytes on the link: TCP, IP and Ethernet take 74 of 1514 bytes.
_GOODPUT = LINK * 1440 / 1514


def against_http(found: Measurement) -> None:
    """How many times faster eight machines are that fetch from each other than from the server alone."""
    size = found.megabytes(48)
    with classroom(found, size) as room:
        for _ in found.rounds(2):
            alone = longest(room.deploy("http"))
            tasks = room.deploy("peers")
            found.ours.append(alone / longest(tasks))
            ideal = size * 8 * 1.048576 / _GOODPUT
            found.remark(
                f"{size} MiB, the server's port {LINK} Mbit/s: the server alone {alone:.1f} s, "
                f"peers {longest(tasks):.1f} s (the image needs {ideal:.1f} s once), {shares(tasks)}"
            )


def blocked(found: Measurement, seconds: float) -> None:
    """Multicast is dropped by the switch, from the start or ``seconds`` after the first datagrams."""
    size = found.megabytes(64 if not seconds else 176, 16)
    with classroom(found, size) as room:
        ideal = size * 8 * 1.048576 / _GOODPUT
        for _ in found.rounds(1 if seconds else 2):
            timer = threading.Timer(_BOOT_SECONDS + seconds, room.block)
            if seconds:
                timer.start()
            else:
                room.block()
            try:
                tasks = room.deploy("multicast")
            finally:
                timer.cancel()
            room.unblock()
            found.ours.append(longest(tasks) / ideal)
            reason = next((task["way_reason"] for task in tasks if task["way_reason"]), "none")
            found.remark(
                f"{size} MiB to {HOSTS}, the server's port {LINK} Mbit/s: {longest(tasks):.1f} s, "
                f"{shares(tasks)}; a host says: {reason}"
            )


_BOOT_SECONDS = 8.0  # DHCP, boot script and the agent's start of eight simulated hosts, and the gathering
NEEDS = ("nft", "tc", "cmp", "busybox")
ENTRIES = (
    Entry("peers_vs_http", "× the server alone", against_http, goal=3, needs=NEEDS),
    Entry(
        "peers_multicast_blocked", "× the image's time", lambda found: blocked(found, 0), goal=HOSTS / 3,
        lower=True, needs=NEEDS,
    ),
    Entry(
        "peers_multicast_dies", "× the image's time", lambda found: blocked(found, 10), goal=HOSTS / 3,
        lower=True, needs=NEEDS,
    ),
)  # fmt: skip
