"""A private network for measurements: one server, some hosts, one bridge, none of it joined to the machine.

Namespaces are named after this process and removed when the block ends; processes started in them die with
it, even when it is killed.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_serial = itertools.count()
_OURS = re.compile(r"^bench(\d+)x\d+-\w+$")


class Lan:
    """``server`` is 10.77.0.1/16; ``hosts[n]`` is 10.77.0.(10 + n), or has no address (``bare``)."""

    def __init__(self, hosts: int, *, bare: bool = False) -> None:
        prefix = f"bench{os.getpid()}x{next(_serial)}"
        self.switch, self.server = f"{prefix}-switch", f"{prefix}-server"
        self.hosts = [f"{prefix}-h{number}" for number in range(hosts)]
        self._bare = bare
        self._started: list[subprocess.Popen[Any]] = []

    def address(self, host: int) -> str:
        return f"10.77.0.{10 + host}"

    def build(self) -> None:
        """Raises RuntimeError when the kernel refuses."""
        ends = [self.server, *self.hosts]
        run("ip", "-batch", "-", input="".join(f"netns add {name}\n" for name in [self.switch, *ends]))
        # forward_delay 0: no 15 s of listening before the ports forward; no snooping: every port hears
        switch = ["link add br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up"]
        for number, name in enumerate(ends):
            switch.append(f"link add p{number} type veth peer name eth0 netns {name}")
            switch.append(f"link set p{number} master br0 up")
        self.ip(self.switch, *switch)
        for number, name in enumerate(ends):
            lines = ["link set lo up", "link set eth0 up"]
            if number == 0 or not self._bare:
                address = "10.77.0.1" if number == 0 else self.address(number - 1)
                # brd +: udpcast looks for its receivers at the broadcast address
                lines.insert(0, f"addr add {address}/16 brd + dev eth0")
                lines.append("route add 224.0.0.0/4 dev eth0")
            self.ip(name, *lines)

    def ip(self, namespace: str, *lines: str) -> None:
        run("ip", "-n", namespace, "-batch", "-", input="\n".join(lines) + "\n")

    def run(self, namespace: str, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run("ip", "netns", "exec", namespace, *command, **options)

    def start(self, namespace: str, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """A process in a namespace; it is killed at the end, or when we die."""
        inside = ["ip", "netns", "exec", namespace, "setpriv", "--pdeathsig", "KILL", *command]
        # A session of its own: the kernel shares the processor among sessions first (sched_autogroup), and
        # each of these stands for a machine that has its processor to itself.
        defaults: dict[str, Any] = {
            "stdin": subprocess.DEVNULL, "text": True, "cwd": ROOT, "start_new_session": True,
        }  # fmt: skip
        process = subprocess.Popen(inside, **{**defaults, **options})
        self._started.append(process)
        return process

    def python(self, namespace: str, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        return self.start(namespace, sys.executable, *arguments, **options)

    def shape(self, mbit: int) -> None:
        """Give the server's link a rate, counted in Ethernet frames without preamble and gap."""
        # 0.2 s of queue: a sender that was kept from its processor makes up for as much, without loss
        rate = f"tbf rate {mbit}mbit burst 256k latency 200ms"
        self.run(self.server, "tc", "qdisc", "add", "dev", "eth0", "root", *rate.split())

    def single_datagrams(self) -> None:
        """Let no bursts through as one packet: shaping counts, and loss takes, single datagrams."""
        self.run(self.server, "ethtool", "-K", "eth0", "tx-udp-segmentation", "off")

    def lose(self, host: int, permille: int) -> None:
        """Lose this share of what arrives at a host by UDP."""
        rules = (
            "table inet loss {\n chain in {\n type filter hook input priority 0;\n"
            f" meta l4proto udp numgen random mod 1000 < {permille} drop\n }}\n}}\n"
        )
        self.run(self.hosts[host], "nft", "-f", "-", input=rules)

    def stop(self, process: subprocess.Popen[Any]) -> None:
        """Kill it, at once, and let go of its pipes."""
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def remove(self) -> None:
        for process in self._started:
            self.stop(process)
        for name in [self.server, *self.hosts, self.switch]:
            run("ip", "netns", "del", name, check=False)


@contextmanager
def lan(hosts: int, *, bare: bool = False) -> Iterator[Lan]:
    made = Lan(hosts, bare=bare)
    try:
        made.build()
        yield made
    finally:
        made.remove()


def run(
    *command: str, check: bool = True, timeout: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A short command. Raises RuntimeError with what it said, or subprocess.TimeoutExpired."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT, **options
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 15) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)


def udp_port_open(namespace: str, port: int) -> bool:
    """Whether somebody in the namespace has this UDP port bound."""
    listed = run("ip", "netns", "exec", namespace, "ss", "-Hlun", f"sport = :{port}", check=False)
    return bool(listed.stdout.strip())


def sweep() -> None:
    """Take away what runs of ours that were killed left behind."""
    for line in run("ip", "netns", "list", check=False).stdout.splitlines():
        name = line.split()[0] if line.split() else ""
        if (found := _OURS.match(name)) and not Path(f"/proc/{found[1]}").exists():
            run("ip", "netns", "del", name, check=False)
