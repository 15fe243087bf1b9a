"""Behind a relay that we did not write: ISC dhcrelay between the clients' network and ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dhcp.room import Room, Served, room, run
from tests.interop.dhcp_room import client_script, facts, needs, running, serving

pytestmark = pytest.mark.net

NEAR = {"network": "10.77.0.0/24", "interface": "br0", "ranges": [["10.77.0.10", "10.77.0.99"]]}
FAR = {
    "network": "10.78.0.0/24",
    "ranges": [["10.78.0.10", "10.78.0.99"]],
    "routers": ["10.78.0.1"],
    "lease_seconds": 8,
}


@dataclass
class Behind:
    """`relay`: the namespace between; `client`: the one behind it, whose only link goes there."""

    where: Room
    relay: str
    client: str


@contextmanager
def behind_a_relay(where: Room) -> Iterator[Behind]:
    relay = where.client()
    client = f"{where.prefix}far"
    run("ip", "netns", "add", client)
    where.clients.append(client)
    for namespace, command in (
        (relay, "ip addr add 10.77.0.2/24 brd + dev eth0"),
        (relay, f"ip link add rooms type veth peer name eth0 address 52:54:00:00:00:51 netns {client}"),
        (relay, "ip addr add 10.78.0.1/24 brd + dev rooms"),
        (relay, "ip link set rooms up"),
        # What is sent past the relay (a renewal) is routed.
        (relay, "sysctl -qw net.ipv4.ip_forward=1"),
        (client, "ip link set lo up"),
        (client, "ip link set eth0 up"),
        (where.server, "ip route add 10.78.0.0/24 via 10.77.0.2"),
    ):
        where.inside(namespace, *command.split())
    yield Behind(where, relay, client)


@contextmanager
def relayed(tmp_path: Path, *options: str, **far: Any) -> Iterator[tuple[Behind, Served]]:
    needs("dhcrelay", "isc-dhcp-relay")
    with (
        room() as where,
        behind_a_relay(where) as behind,
        serving(where, tmp_path, NEAR, {**FAR, **far}) as server,
    ):
        command = ("dhcrelay", "-4", "-d", "--no-pid", *options, "-id", "rooms", "-iu", "eth0", "10.77.0.1")
        with running(where, behind.relay, *command) as relay:
            assert relay.stdout is not None
            while "Sending on   Socket" not in (line := relay.stdout.readline()):
                assert line, "dhcrelay did not start"
            yield behind, server


@pytest.mark.parametrize("options", [(), ("-a",)], ids=["plain", "option-82"])
def test_dora_and_renewal_past_the_relay(tmp_path: Path, options: tuple[str, ...]) -> None:
    program, out = client_script(tmp_path)
    with relayed(tmp_path, *options) as (behind, server):
        pid = tmp_path / "udhcpc.pid"
        behind.where.inside(
            behind.client, "busybox", "udhcpc", "-i", "eth0", "-b", "-R", "-s", program, "-p", str(pid),
            timeout=60,
        )  # fmt: skip
        try:
            assert facts(out)["ip"] == "10.78.0.10"
            assert facts(out)["router"] == "10.78.0.1"
            asked = server.wait_for("asked")["asked"]
            assert "giaddr 10.78.0.1" in asked
            assert ("relay-agent-information" in asked) == bool(options)
            server.wait_for("kind", "dhcp.acknowledged")
            # A lease of 8 s is renewed after 4, by unicast, without the relay's giaddr and option 82.
            asked = server.wait_for("asked")["asked"]
            assert "ciaddr 10.78.0.10" in asked
            assert "giaddr" not in asked
            assert "relay-agent-information" not in asked
            assert "renewed" in server.wait_for("kind", "dhcp.acknowledged")["sentence"]
        finally:
            behind.where.inside(behind.client, "kill", pid.read_text().strip())
        assert server.wait_for("kind", "dhcp.released")["data"]["address"] == "10.78.0.10"


def test_a_machine_carried_behind_the_relay_is_refused_its_old_address(tmp_path: Path) -> None:
    needs("dhclient", "isc-dhcp-client")
    program, out = client_script(tmp_path)
    (tmp_path / "dhclient.leases").write_text(
        'lease {\n  interface "eth0";\n  fixed-address 10.77.0.10;\n  option subnet-mask 255.255.255.0;\n'
        "  option dhcp-lease-time 86400;\n  option dhcp-server-identifier 10.77.0.1;\n"
        + "".join(f"  {when} 6 2099/01/02 00:00:00;\n" for when in ("renew", "rebind", "expire"))
        + "}\n"
    )
    files = (
        "-lf",
        str(tmp_path / "dhclient.leases"),
        "-pf",
        str(tmp_path / "dhclient.pid"),
        "-cf",
        "/dev/null",
    )
    with relayed(tmp_path, "-a", lease_seconds=600) as (behind, server):
        said = behind.where.inside(
            behind.client, "dhclient", "-4", "-1", "-v", "-sf", program, *files, "eth0", timeout=60
        ).stderr  # fmt: skip
        try:
            assert "DHCPNAK" in said
            assert "does not belong to 10.78.0.0/24" in server.wait_for("kind", "dhcp.refused")["sentence"]
            assert facts(out)["new_ip_address"] == "10.78.0.10"
        finally:
            behind.where.inside(
                behind.client, "dhclient", "-4", "-r", "-sf", program, *files, "eth0", timeout=60
            )


def test_a_rom_behind_the_relay_is_told_its_loader(tmp_path: Path) -> None:
    program, out = client_script(tmp_path)
    with relayed(tmp_path, "-a") as (behind, server):
        behind.where.inside(
            behind.client, "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-s", program,
            "-V", "PXEClient:Arch:00007:UNDI:003000", "-x", "0x5d:0007", "-O", "bootfile", timeout=60,
        )  # fmt: skip
        assert facts(out)["boot_file"] == "shimx64.efi"
        assert facts(out)["siaddr"] == "10.77.0.1"
        assert "boots shimx64.efi" in server.wait_for("kind", "dhcp.acknowledged")["sentence"]
