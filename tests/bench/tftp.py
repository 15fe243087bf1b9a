"""TFTP: one client at several window sizes beside atftpd, and a hundred clients at once beside dnsmasq."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

from tests.bench.harness import Entry, Measurement
from tests.bench.lan import Lan, lan, udp_port_open, wait_until

BLKSIZE = 1428
ROUNDS = 3

Start = Callable[[Lan, Path], None]


def ours(net: Lan, folder: Path) -> None:
    net.python(net.server, "-m", "tests.interop.tftp_server", str(folder), stdout=-3)


def atftpd(net: Lan, folder: Path) -> None:
    command = ["atftpd", "--daemon", "--no-fork", "--user", "root", "--group", "root", "--verbose=0"]
    quiet = ["--logfile", "/dev/null", "--pidfile", str(folder / "pid"), "--maxthread", "200"]
    net.start(net.server, *command, *quiet, "--bind-address", "10.77.0.1", str(folder), stdout=-3, stderr=-3)


def dnsmasq(net: Lan, folder: Path) -> None:
    net.start(
        net.server,
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"),
        *("--group=root", "--pid-file=", "--enable-tftp", f"--tftp-root={folder}", "--tftp-max=200"),
        *("--quiet-tftp", "--bind-interfaces", "--listen-address=10.77.0.1"),
        stderr=-3,
    )


def fetched(start: Start, folder: Path, *, window: int, copies: int) -> dict[str, Any]:
    """Serve the folder's one file in a network of its own, and fetch it: what tftp_client printed."""
    (file,) = folder.glob("*.img")
    digest = blake3(file.read_bytes()).hexdigest()
    with lan(1) as net:
        start(net, folder)
        wait_until(f"a TFTP server ({start.__name__})", lambda: udp_port_open(net.server, 69))
        done = net.run(
            net.hosts[0],
            *(sys.executable, "-m", "tests.bench.tftp_client", "10.77.0.1", file.name, str(BLKSIZE)),
            *(str(window), str(copies), digest),
            timeout=165,
        )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def make_file(found: Measurement, size: int) -> Path:
    folder = found.scratch / "tftp"
    folder.mkdir()
    (folder / "file.img").write_bytes(os.urandom(size))
    return folder


def one_client(found: Measurement, window: int) -> None:
    megabytes = found.megabytes(32, 4)
    folder = make_file(found, megabytes * 1_000_000)
    for _ in found.rounds(ROUNDS + 2):
        for start, values in ((ours, found.ours), (atftpd, found.peer)):
            figures = fetched(start, folder, window=window, copies=1)
            if (figures["window"], figures["blksize"]) != (window, BLKSIZE):
                found.remark(
                    f"{start.__name__} agreed to windowsize {figures['window']}, blksize {figures['blksize']}"
                )
            values.append(megabytes / figures["seconds"])
    found.remark(f"{megabytes} MB, blksize {BLKSIZE}, windowsize {window}")


def hundred_clients(found: Measurement) -> None:
    """They ask for windowsize 4, as OVMF and most UEFI firmware do; dnsmasq knows no windowsize."""
    copies = 100 if found.scale > 0.2 else 20
    folder = make_file(found, 4_000_000)
    for _ in found.rounds(ROUNDS):
        for start, values in ((ours, found.ours), (dnsmasq, found.peer)):
            figures = fetched(start, folder, window=4, copies=copies)
            values.append(figures["seconds"])
            found.remark(f"{start.__name__}: windowsize {figures['window']}")
    found.remark(f"{copies} clients at once, 4 MB each; time of the last")


NEEDS = ("ss", "setpriv")
ENTRIES = (
    *(
        Entry(
            f"tftp_w{window}",
            "MB/s",
            lambda found, window=window: one_client(found, window),
            "atftpd",
            needs=("atftpd", *NEEDS),
        )
        for window in (1, 4, 16)
    ),
    Entry("tftp_100_clients", "s", hundred_clients, "dnsmasq-base", lower=True, needs=("dnsmasq", *NEEDS)),
)
