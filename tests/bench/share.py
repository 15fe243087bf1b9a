"""Two multicast sessions of different images and an HTTP deploy share a link, by the real daemon.

Three operations begin at once on a link capped at 150 Mbit/s; the second has a limit of 30. So they should
send 60, 30 and 60; when that limit is lifted, 50 each. What each sends is what its machine takes in, with the
headers that it cost. Meanwhile DHCP of the same daemon is asked as through a relay.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imaging.chunks import compress, hash_chunk
from imaging.manifest import CHUNK_SIZE, DiskImage, Manifest, Runs
from pxeboot.adapters import container
from pxeboot.services import hosts, images, operations
from pxeboot.services.views import OperationRequest
from pxeboot.settings import Settings
from tests.bench.dhcp import FIRST, LAST
from tests.bench.dhcp_latency import exchanges
from tests.bench.harness import Entry, Measurement
from tests.bench.lan import Lan, lan, run, udp_port_open, wait_until

CAP = 150  # Mbit/s that the arbiter may give out
LIMIT = 30
FIRST_SHARES = (60.0, 30.0, 60.0)
LATER_SHARES = (50.0, 50.0, 50.0)
EXCHANGES = 100  # DHCP, a second: the whole daemon answers, with journal and known hosts
SETTLE = 5.0  # s after a change, before it is measured
GOAL, GOAL_DHCP = 5.0, 50.0
# Wire octets for each octet of a frame: 1440 of 1538 of a datagram, 1448 of 1538 of a TCP segment.
_COST = {"multicast": 1538 / 1440, "http": 1538 / 1448}
_WAYS = ("multicast", "multicast", "http")
_ROUNDS = 2


@dataclass
class _Seen:
    """What one machine said, read by a thread of its own."""

    process: subprocess.Popen[str]
    said: list[tuple[float, int]] = field(default_factory=list)

    def follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            fact = json.loads(line)
            self.said.append((fact["at"], fact["bytes"]))

    def mbit(self, start: float, end: float) -> float:
        """Megabits of frames a second between two moments."""
        inside = [(at, count) for at, count in self.said if start <= at <= end]
        if len(inside) < 3:
            raise RuntimeError("a machine fell silent")
        (first, before), (last, after) = inside[0], inside[-1]
        return (after - before) * 8e-6 / (last - first)


def settings_of(folder: Path) -> Settings:
    return Settings.model_validate(
        {
            "server": {"data_dir": folder},
            "network": {"interface": "eth0", "address": "10.77.0.1"},
            "dhcp": {
                "enabled": True,
                "subnets": [
                    {"network": "10.77.0.0/16", "interface": "eth0", "mode": "full",
                     "pools": [f"{FIRST}-{LAST}"], "conflict_probe": False}
                ],
            },
            "images": {"reserve_mb": 0},
            "multicast": {"gather_seconds": 1},
            "bandwidth": {"caps": [f"eth0 = {CAP} Mbit/s"]},
            "doctor": {"every_seconds": 0},
        }
    )  # fmt: skip


def prepare(settings: Settings, macs: list[str], sizes: tuple[int, int]) -> list[str]:
    """Images, hosts and operations in the database and store; the operations' ids."""
    services = container.open_services(settings)
    for name, megabytes in zip(("first", "second"), sizes, strict=True):
        hashes = []
        for _ in range(megabytes):
            chunk = os.urandom(CHUNK_SIZE)
            hashes.append(hash_chunk(chunk))
            services.store.add([(hashes[-1], compress(chunk))])
        size = megabytes * CHUNK_SIZE
        manifest = Manifest([DiskImage(size, 512, None, (), Runs([(0, size)]), b"".join(hashes))])
        services.store.put_manifest(manifest.to_bytes())
        with services.write() as session:
            images.add_version(
                session, name, manifest=manifest.id, disk_bytes=size, used_bytes=size, stored_bytes=size,
                chunks=megabytes,
            )  # fmt: skip
    ids = []
    for number, (mac, image, way) in enumerate(zip(macs, ("first", "second", "first"), _WAYS, strict=True)):
        with services.write() as session:
            hosts.create_host(session, name=f"pc{number}", macs=[mac], state="approved")
            wanted = OperationRequest.model_validate(
                {"kind": "deploy", "hosts": [f"pc{number}"], "image": image, "transport": way,
                 "limit_mbit": LIMIT if number == 1 else None}
            )  # fmt: skip
            ids.append(operations.start(session, wanted, actor="bench", settings=settings).id)
    container.close(services)
    return ids


def write_config(path: Path, settings: Settings) -> None:
    lines = []
    for section in ("server", "network", "images", "multicast", "bandwidth", "doctor"):
        told = getattr(settings, section).model_dump(mode="json", exclude_unset=True)
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in told.items())]
    (subnet,) = settings.dhcp.model_dump(mode="json", exclude_unset=True)["subnets"]
    lines += ["[[dhcp.subnets]]", *(f"{key} = {json.dumps(value)}" for key, value in subnet.items())]
    path.write_text("\n".join(lines) + "\n")


def round_of(found: Measurement, net: Lan, folder: Path) -> tuple[float, dict[str, Any]]:
    """The worst deviation from the shares in percent, and what the DHCP client found."""
    seconds = max(4.0, 8 * found.scale)
    macs = [net.run(host, "cat", "/sys/class/net/eth0/address").stdout.strip() for host in net.hosts[:3]]
    settings = settings_of(folder / "data")
    # Enough for the whole time, also for one that gets more than its part.
    megabytes = round((2 * (seconds + SETTLE) + 8) * 12)
    ids = prepare(settings, macs, (megabytes, megabytes * 2 // 3))
    config = folder / "pxeboot.toml"
    write_config(config, settings)
    net.python(net.server, "-m", "pxeboot.cli", "serve", "--config", str(config), stdout=-3, stderr=-3)
    wait_until("the daemon", lambda: udp_port_open(net.server, 67), 60)
    wait_until("its HTTP", lambda: bool(run(
        "ip", "netns", "exec", net.server, "ss", "-Hltn", "sport = :80").stdout.strip()), 60)  # fmt: skip
    machines = [
        _Seen(net.python(host, "-m", "tests.bench.share_machine", mac, net.address(number), stdout=-1))
        for number, (host, mac) in enumerate(zip(net.hosts, macs, strict=False))
    ]
    for machine in machines:
        threading.Thread(target=machine.follow, daemon=True).start()
    wait_until("all take in", lambda: all(m.said and m.said[-1][1] > 1 << 20 for m in machines), 60)
    time.sleep(SETTLE)
    begun = time.monotonic()
    dhcp = exchanges(net, 3, seconds, 0, EXCHANGES)
    worst = [_worst(found, machines, FIRST_SHARES, begun, begun + seconds)]
    command = (sys.executable, "-m", "pxeboot.cli", "--config", str(config))
    net.run(net.server, *command, "operation", "limit", ids[1], "--none")
    time.sleep(SETTLE)
    begun = time.monotonic()
    time.sleep(seconds)
    worst.append(_worst(found, machines, LATER_SHARES, begun, begun + seconds))
    return max(worst), dhcp


def _worst(
    found: Measurement, machines: list[_Seen], shares: tuple[float, ...], start: float, end: float
) -> float:
    rates = [machine.mbit(start, end) * _COST[way] for machine, way in zip(machines, _WAYS, strict=True)]
    told = ", ".join(f"{rate:.1f}" for rate in rates)
    found.remark(f"{told} Mbit/s where {', '.join(f'{share:g}' for share in shares)} were to be")
    return max(abs(rate - share) / share * 100 for rate, share in zip(rates, shares, strict=True))


def shared(found: Measurement, *, dhcp: bool) -> None:
    halves = []
    for number in found.rounds(_ROUNDS):
        folder = found.scratch / f"round{number}"
        folder.mkdir()
        with lan(4) as net:
            worst, said = round_of(found, net, folder)
        if dhcp and said["acknowledged"] < 0.99 * said["begun"]:
            raise RuntimeError(f"of {said['begun']} exchanges only {said['acknowledged']} were finished")
        halves.append(said["p50"])
        found.ours.append(said["p99"] if dhcp else worst)
        found.remark(f"DHCP p99 {said['p99']:.1f} ms" if not dhcp else f"shares {worst:.1f} % off at worst")
    found.remark(
        f"the real daemon, {CAP} Mbit/s for two sessions and HTTP downloads; {EXCHANGES} exchanges a second, "
        f"median {statistics.median(halves):.1f} ms"
    )


ENTRIES = (
    Entry(
        "link_shared", "% off its share", lambda found: shared(found, dhcp=False),
        goal=GOAL, lower=True, needs=("ss", "setpriv"),
    ),
    Entry(
        "dhcp_p99_link_shared", "ms", lambda found: shared(found, dhcp=True),
        goal=GOAL_DHCP, lower=True, needs=("ss", "setpriv"),
    ),
)  # fmt: skip
