"""What the DHCP interop tests share: a server for given subnets, and the script that DHCP clients call."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dhcp.room import Room, Served, in_the_room

# udhcpc and dhclient call it with what they learnt: it writes that down, sets address and default route.
SCRIPT = """#!/bin/sh
env | grep -E '^(reason|new_|ip=|router=|dns=|domain=|lease=|siaddr=|boot_?file=|serverid=)' | sort >> {out}
addr=${{new_ip_address:-$ip}}
gw=${{new_routers:-$router}}
case "$reason$1" in
    RENEW|renew) exit 0 ;;
esac
ip addr flush dev eth0
[ -n "$addr" ] && ip addr add $addr/24 dev eth0
[ -n "$addr" ] && [ -n "$gw" ] && ip route replace default via $gw
exit 0
"""


def needs(program: str, package: str) -> None:
    """Skip without the program."""
    if not shutil.which(program):
        pytest.skip(f"{program} ({package}) is not installed")


def client_script(tmp_path: Path) -> tuple[str, Path]:
    """The script, and the file it writes."""
    out, program = tmp_path / "learnt", tmp_path / "script"
    program.write_text(SCRIPT.format(out=out))
    program.chmod(0o755)
    return str(program), out


def facts(out: Path) -> dict[str, str]:
    """What the client learnt last."""
    return dict(line.split("=", 1) for line in out.read_text().splitlines() if "=" in line)


@contextmanager
def running(where: Room, namespace: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A program of somebody else in a namespace, ended with the block; what it says comes by stderr."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace, *command],
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


@contextmanager
def serving(where: Room, tmp_path: Path, *subnets: dict[str, Any], quiet: bool = False) -> Iterator[Served]:
    """Our server in the room's server namespace."""
    config = tmp_path / "subnets.json"
    config.write_text(json.dumps({"interface": "br0", "subnets": subnets}))
    command = [sys.executable, "-m", "tests.interop.dhcp_serve", str(config), str(tmp_path / "leases.sqlite")]
    with in_the_room(where, [*command, *(["--quiet"] if quiet else [])]) as server:
        yield server
