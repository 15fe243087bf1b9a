"""A room switched on at once: 200 machines, DHCP and TFTP from one process, and nothing may be said twice."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from tests.bench.harness import Entry, Measurement
from tests.bench.lan import lan

MACHINES = 200
SHIM, GRUB = 1_000_000, 3_800_000  # octets, as Debian's are
ROUNDS = 2
_POOL = ("10.77.8.0", "10.77.11.255")


def boot_storm(found: Measurement) -> None:
    """Raises RuntimeError when a machine got a wrong file."""
    # Machines stay two hundred: fewer octets each is what a smaller scale means.
    shim, grub = (max(50_000, round(size * found.scale)) for size in (SHIM, GRUB))
    folder = found.scratch / "boot"
    folder.mkdir()
    for name, size in (("shimx64.efi", shim), ("grubx64.efi", grub)):
        (folder / name).write_bytes(os.urandom(size))
    figures: list[dict[str, Any]] = []
    for number in found.rounds(ROUNDS):
        leases = found.disk / f"leases{number}.sqlite"
        with lan(1) as net:
            server = net.python(
                net.server,
                *("-m", "tests.bench.storm_server", "eth0", "10.77.0.0/16", *_POOL, str(leases), str(folder)),
                *("--quiet", "--probe"),
                stdin=-1,
                stdout=-1,
            )
            assert server.stdout is not None
            if "ready" not in server.stdout.readline():
                raise RuntimeError("our servers did not start")
            client = (sys.executable, "-m", "tests.bench.storm_client")
            done = net.run(net.hosts[0], *client, str(MACHINES), str(shim), str(grub), timeout=120)
            said, _ = server.communicate(timeout=20)
        figure = json.loads(done.stdout)
        for line in said.splitlines():
            figure.update(json.loads(line))
        if figure["wrong"] or figure["tftp"]["completed"] < 3 * MACHINES:
            raise RuntimeError(f"a machine got a wrong file: {figure}")
        figures.append(figure)
        found.ours.append(figure["seconds"])
    worst = {
        "blocks sent twice by us": max(f["tftp"]["resent"] for f in figures),
        "TFTP messages repeated after 1 s": max(f["tftp_retries"] for f in figures),
        "DHCP messages repeated after 4 s": max(f["dhcp_retries"] for f in figures),
    }
    found.remark(
        f"{MACHINES} machines within a second, each shim {shim / 1e6:.1f} MB (512 × 4), three absent files, "
        f"GRUB {grub / 1e6:.1f} MB (1024 × 1), configuration; worst round: "
        + ", ".join(f"{count} {what}" for what, count in worst.items())
        + f", absent file answered in {max(f['absent_p99_ms'] for f in figures):.0f} ms (p99), "
        f"{max(f['megabytes'] for f in figures)} MB of memory"
    )


ENTRIES = (Entry("boot_storm", "s", boot_storm, lower=True, needs=("ip", "setpriv")),)
