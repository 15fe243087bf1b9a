"""The shell programs of the boot environment: syntax, and promises that a short boot does not show."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pxeboot.bootenv import inputs

SHELL = ("init", "udhcpc.sh", "hotplug.sh")


@pytest.mark.parametrize("name", SHELL)
def test_syntax(name: str) -> None:
    subprocess.run(["sh", "-n", str(inputs.HERE / name)], check=True)


def test_every_way_out_of_init_is_a_restart() -> None:
    text = (inputs.HERE / "init").read_text()
    last = [line for line in text.splitlines() if line.strip()][-1]
    assert last.startswith("fail ")
    assert re.search(r"^restart\(\) \{.*?reboot.*?sysrq-trigger.*?^\}", text, re.DOTALL | re.MULTILINE)
    # `exit` only at the end of restart(), when the kernel did not listen: it panics, and panic=30 restarts.
    assert re.findall(r"^\s*exit\b.*$", text, re.MULTILINE) == ["    exit 1"]


def dhcp(tmp_path: Path, reason: str, **words: str) -> tuple[list[str], str]:
    """Run the DHCP script with a recording `ip`; return what it called and the lease file."""
    text = (inputs.HERE / "udhcpc.sh").read_text()
    for place in ("/run/pxeboot", "/run/resolv.conf"):
        text = text.replace(place, str(tmp_path / place.rsplit("/", 1)[-1]))
    text = text.replace("PATH=/usr/sbin:/usr/bin", f"PATH={tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    (tmp_path / "pxeboot").mkdir()
    calls = tmp_path / "calls"
    calls.touch()
    (tmp_path / "ip").write_text(f'#!/bin/sh\necho "$*" >> {calls}\n')
    (tmp_path / "ip").chmod(0o755)
    subprocess.run(["sh", "-c", text, "udhcpc.sh", reason], env={"interface": "eth0", **words}, check=True)
    lease = tmp_path / "pxeboot" / "lease"
    return calls.read_text().splitlines(), lease.read_text() if lease.exists() else ""


def test_a_lease_gives_address_route_and_multicast(tmp_path: Path) -> None:
    calls, lease = dhcp(
        tmp_path,
        "bound",
        ip="10.0.0.7",
        mask="16",
        router="10.0.0.1 10.0.0.2",
        lease="600",
        serverid="10.0.0.1",
    )
    assert calls == [
        "address replace 10.0.0.7/16 dev eth0 valid_lft 600 preferred_lft 600",
        "route replace default via 10.0.0.1 dev eth0 onlink",
        "route replace 224.0.0.0/4 dev eth0",
    ]
    assert "PXEBOOT_ADDRESS=10.0.0.7\n" in lease


def test_classless_routes_replace_the_router(tmp_path: Path) -> None:
    calls, _ = dhcp(
        tmp_path,
        "renew",
        ip="10.0.0.7",
        mask="24",
        router="10.0.0.1",
        mtu="1400",
        staticroutes="0.0.0.0/0 10.0.0.2 10.9.0.0/16 0.0.0.0",
    )
    assert calls[1:] == [
        "link set eth0 mtu 1400",
        "route replace 0.0.0.0/0 via 10.0.0.2 dev eth0 onlink",
        "route replace 10.9.0.0/16 dev eth0",
        "route replace 224.0.0.0/4 dev eth0",
    ]


def test_what_the_network_says_is_no_shell(tmp_path: Path) -> None:
    _, lease = dhcp(tmp_path, "bound", ip="10.0.0.7", mask="24", serverid="1.2.3.4;reboot $(reboot)")
    assert "PXEBOOT_DHCP_SERVER=1.2.3.4\n" in lease
    assert "reboot" not in lease
