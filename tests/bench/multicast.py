"""Multicast to 1, 4 and 16 machines beside udpcast; on a shaped link; with a slow disk, a late one.

Every receiver writes to a file in memory. Ours checks each chunk as it comes; udpcast's copies are compared
after its clock has stopped. The clock runs from when the sender begins to send to when the last receiver has
everything. Images are random bytes, so that both send as much.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.harness import Entry, Measurement
from tests.bench.lan import Lan, lan
from tests.bench.multicast_peers import (
    PATIENCE,
    Image,
    blank,
    finished,
    half_written,
    make_image,
    same,
    udp_receiver,
    udp_sender,
    udpcast,
    uftp,
)

ROUNDS = 3
LINK = 200  # Mbit/s of a shaped link
_NO_LIMIT = 9000  # Mbit/s, more than two cores send and receive
#: A shaped link counts Ethernet frames (1514 bytes here), our rate counts the wire (1538). A twentieth more,
#: so that the link's queue paces the stream and never runs dry; what does not fit blocks the sender, and is
#: not lost.
_RATE_OF_LINK = LINK * 1538 / 1514 * 1.05


# -- ours ---------------------------------------------------------------------------------------------------


class Ours:
    """A session of ours: sender, and receivers that come when they are started."""

    def __init__(
        self,
        net: Lan,
        image: Image,
        folder: Path,
        *,
        expected: int,
        rate: float,
        idle: float | None = None,
        gather: float = 20,
        key: bytes | None = None,
    ):
        self.net, self.image, self.folder = net, image, folder
        self.session = {
            "id": random.getrandbits(32), "group": "239.192.77.1", "port": 9000, "version": 2,
            "report": ["10.77.0.1", 9001], "symbol": 1446 if key else 1450, "key": key.hex() if key else None,
        }  # fmt: skip
        self._order = {
            "session": self.session, "manifest": image.manifest.id, "store": str(image.store),
            "interface": "10.77.0.1", "rate_mbit": rate, "gather_seconds": gather, "expected": expected,
            "idle_seconds": idle,
        }  # fmt: skip
        self.restart()

    def restart(self) -> None:
        """A sender process, the first one or another."""
        self.sender = self.net.python(self.net.server, "-m", "imaging.multicast.send", stdin=-1, stdout=-1)
        self.sender.stdin.write(json.dumps(self._order) + "\n")
        self.sender.stdin.flush()
        event(self.sender, "started")

    def receiver(self, host: int, **changes: Any) -> subprocess.Popen[str]:
        what = {
            "session": self.session, "interface": self.net.address(host), "store": str(self.image.store),
            "manifest": self.image.manifest.id, "target": str(blank(self.folder, host, self.image.size)),
            "limit": PATIENCE, **changes,
        }  # fmt: skip
        arguments = ("-m", "tests.bench.multicast_receiver", json.dumps(what))
        return self.net.python(self.net.hosts[host], *arguments, stdout=-1)

    def started(self) -> float:
        """When the gathering was over."""
        event(self.sender, "sweep-started")
        return time.monotonic()

    def close(self) -> dict[str, Any]:
        """Stop the sender; its totals."""
        self.sender.stdin.close()
        totals = event(self.sender, "stopped")
        self.sender.wait(10)
        self.sender.stdin = None
        return totals


def event(process: subprocess.Popen[str], name: str) -> dict[str, Any]:
    """The next line with this event. The entry's time limit bounds the wait. Raises RuntimeError."""
    assert process.stdout is not None
    for line in process.stdout:
        said: dict[str, Any] = json.loads(line)
        if said["event"] == name:
            return said
        if said["event"] == "failed":
            raise RuntimeError(f"ours: {said['reason']}")
    raise RuntimeError(f"ours ended before it said {name!r}")


def ends(receivers: Sequence[subprocess.Popen[str]]) -> float:
    """When the last of them had everything."""
    return max(float(event(receiver, "done")["at"]) for receiver in receivers)


def ours(
    net: Lan,
    image: Image,
    folder: Path,
    hosts: int,
    rate: float,
    totals: dict[str, Any] | None = None,
    key: bytes | None = None,
) -> float:
    """Seconds until all hosts have the image; `totals` takes the sender's counters."""
    session = Ours(net, image, folder, expected=hosts, rate=rate, key=key)
    receivers = [session.receiver(host) for host in range(hosts)]
    began = session.started()
    seconds = ends(receivers) - began
    found = session.close()
    if totals is not None:
        totals.update(found)
    return seconds


# -- entries ------------------------------------------------------------------------------------------------


def unshaped(found: Measurement, hosts: int, megabytes: int) -> None:
    size = found.megabytes(megabytes)
    image = make_image(found.scratch, size)
    for _ in found.rounds(ROUNDS):
        with lan(hosts) as net:
            found.ours.append(image.size * 8e-9 / ours(net, image, found.scratch, hosts, _NO_LIMIT))
        with lan(hosts) as net:
            found.peer.append(image.size * 8e-9 / udpcast(net, image, found.scratch, hosts))
    with lan(hosts) as net:
        keyed = image.size * 8e-9 / ours(net, image, found.scratch, hosts, _NO_LIMIT, key=os.urandom(32))
    found.remark(
        f"{size} MiB of random bytes to {hosts}, veth without a limit (our rate: {_NO_LIMIT} Mbit/s); both "
        f"without a key; ours with one, as is its default (once): {keyed:.2f}"
    )


def shaped(found: Measurement, permille: int) -> None:
    """Payload as a share of the link's rate, 8 receivers that lose datagrams independently."""
    hosts, size = 8, found.megabytes(96)
    image = make_image(found.scratch, size)

    def room(measure: Callable[[Lan], float]) -> float:
        with lan(hosts) as net:
            net.shape(LINK)
            net.single_datagrams()
            for host in range(hosts if permille else 0):
                net.lose(host, permille)
            return 100 * image.size * 8e-6 / measure(net) / LINK

    totals: dict[str, Any] = {}
    for _ in found.rounds(ROUNDS):
        found.ours.append(room(lambda net: ours(net, image, found.scratch, hosts, _RATE_OF_LINK, totals)))
        try:
            found.peer.append(room(lambda net: udpcast(net, image, found.scratch, hosts)))
        except TimeoutError as error:  # it happens to udpcast on links that lose; ours counts all the same
            found.remark(str(error))
    try:
        share = room(lambda net: uftp(net, image, found.scratch, hosts, 0.975 * LINK))
        found.remark(f"uftp (once, at 97.5 % of the link): {share:.1f}")
    except (RuntimeError, OSError) as error:
        found.remark(f"uftp not measured: {error}")
    found.remark(
        f"{size} MiB to {hosts} over {LINK} Mbit/s, {permille / 10:g} % of the datagrams lost at each; "
        f"ours sent {100 * totals['bytes_sent'] / image.cut - 100:.1f} % beyond the image"
    )


def slow(found: Measurement) -> None:
    """One of eight has a disk of 3 MB/s: how long the other seven need."""
    hosts, size, speed = 8, found.megabytes(96), 3_000_000
    image = make_image(found.scratch, size)
    disk = found.scratch / "slow.py"
    disk.write_text(f"import sys, time\nwhile sys.stdin.buffer.read({speed // 20}):\n    time.sleep(0.05)\n")
    undisturbed = 0.0
    for number in found.rounds(2):
        with lan(hosts) as net:
            net.shape(LINK)
            if not number:
                undisturbed = ours(net, image, found.scratch, hosts, LINK)
            session = Ours(net, image, found.scratch, expected=hosts, rate=LINK)
            receivers = [session.receiver(host, slow=speed if host == 0 else 0) for host in range(hosts)]
            began = session.started()
            found.ours.append(ends(receivers[1:]) - began)
            session.close()
        with lan(hosts) as net:
            net.shape(LINK)
            # udp-receiver splits the command at blanks, it asks no shell.
            udp_receiver(net, found.scratch, 0, "--pipe", f"python3 {disk}")
            for host in range(1, hosts):
                udp_receiver(net, found.scratch, host)
            _, start = udp_sender(net, image, hosts)
            began = start()
            found.peer.append(finished(image, found.scratch, range(1, hosts)) - began)
        same(image, found.scratch, range(1, hosts))
    found.remark(
        f"{size} MiB over {LINK} Mbit/s, a disk of 3 MB/s at one of 8; the other 7: ours "
        f"{found.ours[0] / undisturbed:.2f} × its undisturbed time"
    )


def late(found: Measurement) -> None:
    """A machine is switched on when the others are half-way: how long it then needs."""
    hosts, size = 4, found.megabytes(192)
    image = make_image(found.scratch, size)
    undisturbed = 0.0
    for number in found.rounds(ROUNDS):
        with lan(hosts) as net:
            net.shape(LINK)
            if not number:
                undisturbed = ours(net, image, found.scratch, hosts - 1, LINK)
            session = Ours(net, image, found.scratch, expected=hosts - 1, rate=LINK)
            receivers = [session.receiver(host) for host in range(hosts - 1)]
            session.started()
            event(receivers[0], "half")
            began = time.monotonic()
            comer = session.receiver(hosts - 1)
            found.ours.append(ends([comer]) - began)
            ends(receivers)
            session.close()
        with lan(hosts) as net:
            net.shape(LINK)
            for host in range(hosts - 1):
                udp_receiver(net, found.scratch, host)
            sender, start = udp_sender(net, image, hosts - 1)
            start()
            half_written(found.scratch / "target0", image.size)
            began = time.monotonic()
            udp_receiver(net, found.scratch, hosts - 1)
            finished(image, found.scratch, range(hosts - 1))
            sender.wait(PATIENCE)
            udp_sender(net, image, 1)  # it lets nobody in once it sends: a second session
            found.peer.append(finished(image, found.scratch, [hosts - 1]) - began)
        same(image, found.scratch, range(hosts))
    found.remark(
        f"{size} MiB over {LINK} Mbit/s to 3, a fourth joins half-way; ours "
        f"{found.ours[0] / undisturbed:.2f} × the time of the image, Python's start included; udpcast serves "
        "it in a second session"
    )


def union(found: Measurement) -> None:
    """Eight disks that each lack another 2 % of the image: what is sent, against the union of what lacks."""
    hosts, size = 8, found.megabytes(400, 100)
    image = make_image(found.scratch, size)
    for _ in found.rounds(ROUNDS):
        lacks = [random.sample(range(size), max(2, size // 50)) for _ in range(hosts)]
        wanted = sum(image.sizes[index] for index in set().union(*lacks))
        with lan(hosts) as net:
            session = Ours(net, image, found.scratch, expected=hosts, rate=LINK)
            receivers = [session.receiver(host, only=lacks[host]) for host in range(hosts)]
            session.started()
            ends(receivers)
            found.ours.append(session.close()["bytes_sent"] / wanted)
    found.remark(f"8 hosts lack 2 % each of {size} MiB; UDP payload sent, headers and announces included")


NEEDS = ("ethtool", "nft", "tc", "cmp", "setpriv")
UDPCAST = ("udp-sender", "udp-receiver", *NEEDS)


def _udpcast(name: str, unit: str, measure: Callable[[Measurement], None], *, lower: bool = False) -> Entry:
    return Entry(name, unit, measure, "udpcast", lower=lower, needs=UDPCAST)


ENTRIES = (
    *(
        _udpcast(
            f"multicast_n{hosts}",
            "Gbit/s",
            lambda found, hosts=hosts, size=size: unshaped(found, hosts, size),
        )
        for hosts, size in ((1, 512), (4, 256), (16, 96))
    ),
    *(
        _udpcast(
            f"multicast_shaped_loss{name}",
            "% of the link",
            lambda found, permille=permille: shaped(found, permille),
        )
        for name, permille in (("0", 0), ("01", 1), ("1", 10))
    ),
    _udpcast("multicast_slow", "s of the others", slow, lower=True),
    _udpcast("multicast_late", "s of the late one", late, lower=True),
    Entry("multicast_union", "× the union", union, goal=1.05, lower=True, needs=NEEDS),
)
