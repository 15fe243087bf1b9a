"""DHCP: how many leases a second (DISCOVER, OFFER, REQUEST, ACK) are given, by perfdhcp of the Kea project.

For each server the offered rate climbs until it no longer follows; its figure is the best rate of answered
exchanges. Lease files lie on a disk, since ours and ISC dhcpd wait for it before they acknowledge. Ours is
killed in the end, and every lease it acknowledged must be in its file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.harness import Entry, Measurement
from tests.bench.lan import Lan, lan, udp_port_open, wait_until

CLIENTS = 60_000  # more than are begun in one step: a client that comes twice would count twice
FIRST, LAST = "10.77.8.0", "10.77.255.250"  # 63,000 addresses
ROUNDS = 3
_PERIOD = 3  # s a rate is held; perfdhcp takes whole seconds
_STEP = 1.3  # how much more is offered next

Start = Callable[[Lan, Path], None]


def ours(net: Lan, folder: Path) -> None:
    """tests/dhcp/serve.py: the engine with its durable lease table, as the daemon runs it."""
    server = net.python(
        net.server,
        *("-m", "tests.dhcp.serve", "eth0", "10.77.0.0/16", FIRST, LAST, str(folder / "leases.sqlite")),
        "--quiet",
        stdin=-1,
        stdout=-1,
    )
    assert server.stdout is not None
    if "ready" not in server.stdout.readline():
        raise RuntimeError("our DHCP server did not start")


def own_copy(command: str, folder: Path) -> str:
    """The program under another path: AppArmor, where it is on, binds Debian's profile to the path, and that
    forbids files outside /var/lib.
    """
    source = shutil.which(command, path="/usr/sbin:/usr/bin")
    assert source is not None
    return shutil.copy(source, folder / f"bench-{command}")


def isc(net: Lan, folder: Path) -> None:
    (folder / "dhcpd.conf").write_text(
        "authoritative; ping-check false; default-lease-time 3600; max-lease-time 3600;\n"
        "subnet 10.77.0.0 netmask 255.255.0.0 {\n"
        f" range {FIRST} {LAST}; option routers 10.77.0.1; option domain-name-servers 10.77.0.1;\n}}\n"
    )
    (folder / "leases").touch()
    files = ["-cf", "dhcpd.conf", "-lf", "leases", "-pf", "pid"]
    net.start(
        net.server,
        *(own_copy("dhcpd", folder), "-4", "-f", "-q", *files, "eth0"),
        cwd=folder,
        stderr=(folder / "log").open("w"),
    )


def kea(net: Lan, folder: Path) -> None:
    """Two threads, as many as it profits from here, and its fast lease file (written, but not synced)."""
    configuration = {
        "Dhcp4": {
            "interfaces-config": {"interfaces": ["eth0"], "dhcp-socket-type": "raw"},
            "lease-database": {"type": "memfile", "persist": True, "name": str(folder / "leases.csv")},
            "multi-threading": {"enable-multi-threading": True, "thread-pool-size": 2},
            "valid-lifetime": 3600,
            "subnet4": [
                {
                    "subnet": "10.77.0.0/16",
                    "pools": [{"pool": f"{FIRST} - {LAST}"}],
                    "option-data": [
                        {"name": "routers", "data": "10.77.0.1"},
                        {"name": "domain-name-servers", "data": "10.77.0.1"},
                    ],
                }
            ],
            "loggers": [{"name": "kea-dhcp4", "severity": "ERROR"}],
        }
    }
    (folder / "kea.json").write_text(json.dumps(configuration))
    places = {"KEA_PIDFILE_DIR": str(folder), "KEA_LOCKFILE_DIR": str(folder), "PATH": "/usr/sbin:/usr/bin"}
    net.start(
        net.server,
        *(own_copy("kea-dhcp4", folder), "-c", "kea.json"),
        cwd=folder,
        env=places,
        stdout=(folder / "log").open("w"),
        stderr=-2,
    )


def dnsmasq(net: Lan, folder: Path) -> None:
    net.start(
        net.server,
        *(own_copy("dnsmasq", folder), "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"),
        *("--user=root", "--group=root", "--pid-file=", "--no-ping", "--dhcp-authoritative"),
        *(f"--dhcp-lease-max={CLIENTS * 3}", f"--dhcp-leasefile={folder}/leases", "--interface=eth0"),
        *("--bind-interfaces", f"--dhcp-range={FIRST},{LAST},255.255.0.0,1h", "--quiet-dhcp"),
        cwd=folder,
        stderr=(folder / "log").open("w"),
    )


def figures(report: str) -> tuple[float, int]:
    """(exchanges a second, exchanges completed) of perfdhcp's report. Raises ValueError."""
    rate = re.search(r"^Rate: ([\d.]+)", report, re.MULTILINE)
    done = re.findall(r"^received packets: (\d+)", report, re.MULTILINE)
    if rate is None or len(done) < 2:
        raise ValueError(f"perfdhcp said no rate: {report[-300:]}")
    return float(rate[1]), int(done[1])


def processors() -> tuple[set[int], int]:
    """(the servers', perfdhcp's): it polls. A server that never sleeps stays where the kernel put it, and
    beside perfdhcp gets half a processor, although another is idle: so no server is put there. Kea, whose
    threads sleep and are placed anew all the time, was seen to keep away from perfdhcp by itself.
    """
    all_of_them = os.sched_getaffinity(0)
    alone = max(all_of_them)
    return all_of_them - {alone} or all_of_them, alone


@contextmanager
def bound_to(some: set[int]) -> Iterator[None]:
    """What is started meanwhile runs on these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, some)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def offer(net: Lan, rate: int, seconds: float) -> tuple[float, int]:
    """Let perfdhcp begin ``rate`` exchanges a second; what came of it."""
    _, alone = processors()
    done = net.run(
        net.hosts[0],
        *(
            *("taskset", "-c", str(alone)),
            "perfdhcp",
            "-4",
            "-l",
            "eth0",
            "-r",
            str(rate),
            "-R",
            str(CLIENTS),
            "-p",
            f"{seconds:.0f}",
        ),
        *("-W", "100000"),  # µs it waits in the end, which its rate counts
        check=False,  # its status tells of unanswered ones, which are the point here
        timeout=seconds + 30,
    )
    return figures(done.stdout)


def best(net: Lan, start: int, seconds: float) -> tuple[float, int]:
    """(best rate answered, most exchanges completed in one step); climbs from ``start`` until the answers
    fall behind twice in a row: once may be the machine's other work.
    """
    rate, top, most, behind = start, 0.0, 0, 0
    while behind < 2:
        got, completed = offer(net, rate, seconds)
        top, most = max(top, got), max(most, completed)
        behind = behind + 1 if completed < 0.9 * rate * seconds else 0
        rate = round(rate * _STEP)
    # Too much on offer makes some servers slower than they can be: once more about what they managed.
    for share in (1.0, 1.1, 1.2):
        got, completed = offer(net, max(50, round(top * share)), seconds)
        top, most = max(top, got), max(most, completed)
    return top, most


@contextmanager
def serving(start: Start, folder: Path) -> Iterator[Lan]:
    """The server in a network of its own, with an empty lease table and one host for perfdhcp."""
    folder.mkdir()
    with lan(1) as net:
        with bound_to(processors()[0]):
            start(net, folder)
        # ISC dhcpd and Kea listen on a raw socket, but hold port 67 too.
        wait_until(f"a DHCP server ({start.__name__})", lambda: udp_port_open(net.server, 67))
        yield net


def durable(folder: Path, completed: int) -> int:
    """Leases bound in our file after a kill. Raises RuntimeError when acknowledged ones are not there."""
    with sqlite3.connect(folder / "leases.sqlite") as database:
        (kept,) = database.execute("SELECT count(*) FROM lease WHERE state = 'bound'").fetchone()
    # perfdhcp counts its clients up from one address: so many exchanges are so many machines.
    if kept < min(completed, CLIENTS):
        raise RuntimeError(f"{completed} leases acknowledged, {kept} on the disk after a kill")
    return int(kept)


def sync_milliseconds(folder: Path) -> float:
    """How long a small append and its fsync take on this disk, median of 15: what a durable lease costs."""
    times = []
    with open(folder / "sync", "ab") as file:
        for _ in range(15):
            began = time.monotonic()
            file.write(bytes(200))
            file.flush()
            os.fsync(file.fileno())
            times.append(time.monotonic() - began)
    return 1000 * statistics.median(times)


def beside(found: Measurement, peer: Start, first: int) -> None:
    seconds = max(1, round(_PERIOD * found.scale))
    found.remark(f"an fsync takes {sync_milliseconds(found.disk):.2f} ms here")
    for number in found.rounds(ROUNDS):
        folder = found.disk / f"ours{number}"
        with serving(ours, folder) as net:
            rate, completed = best(net, 3000, seconds)
        kept = durable(folder, completed)
        found.ours.append(rate)
        with serving(peer, found.disk / f"peer{number}") as net:
            other, _ = best(net, first, seconds)
        found.peer.append(other)
        found.remarks[1:] = [f"ours: {kept:,} leases on disk after SIGKILL, every acknowledged one"]


ENTRIES = tuple(
    Entry(
        name,
        "exchanges/s",
        lambda found, peer=peer, first=first: beside(found, peer, first),
        package,
        needs=("perfdhcp", command, "ss", "setpriv", "taskset"),
    )
    for name, package, command, peer, first in (
        ("dhcp_isc", "isc-dhcp-server", "dhcpd", isc, 700),
        ("dhcp_kea", "kea-dhcp4-server", "kea-dhcp4", kea, 3000),
        ("dhcp_dnsmasq", "dnsmasq-base", "dnsmasq", dnsmasq, 100),
    )
)
