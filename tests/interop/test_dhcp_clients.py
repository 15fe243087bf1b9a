"""DHCP clients that we did not write, each in a namespace of its own: dhclient (ISC) and udhcpc (busybox)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dhcp.leases import SqliteLeases
from tests.dhcp.room import Room, room, served

pytestmark = pytest.mark.net

# Both programs call a script with what they learnt; ours writes it down and sets the address.
SCRIPT = """#!/bin/sh
env | grep -E '^(reason|new_|ip=|router=|dns=|domain=|lease=|siaddr=|boot_file=|serverid=)' | sort >> {out}
ip addr flush dev eth0
addr=${{new_ip_address:-$ip}}
[ -n "$addr" ] && ip addr add $addr/24 dev eth0
[ "$reason" = RELEASE ] && exit 0
exit 0
"""


@pytest.fixture
def script(tmp_path: Path) -> tuple[str, Path]:
    out, program = tmp_path / "learnt", tmp_path / "script"
    program.write_text(SCRIPT.format(out=out))
    program.chmod(0o755)
    return str(program), out


def facts(out: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in out.read_text().splitlines() if "=" in line)


def dhclient(where: Room, client: str, script: str, tmp_path: Path, *more: str) -> str:
    if not shutil.which("dhclient"):
        pytest.skip("dhclient (isc-dhcp-client) is not installed")
    files = [
        "-lf",
        str(tmp_path / "dhclient.leases"),
        "-pf",
        str(tmp_path / "dhclient.pid"),
        "-cf",
        "/dev/null",
    ]
    done = where.inside(
        client, "dhclient", "-4", "-1", "-v", *more, "-sf", script, *files, "eth0", timeout=60
    )
    return done.stderr


def stop_dhclient(where: Room, client: str, script: str, tmp_path: Path) -> None:
    """-r releases the lease and ends the running daemon."""
    dhclient(where, client, script, tmp_path, "-r")


def test_dhclient_binds_reboots_and_releases(tmp_path: Path, script: tuple[str, Path]) -> None:
    program, out = script
    with room() as where, served(where, tmp_path / "leases.sqlite") as server:
        client = where.client("52:54:00:00:00:31")
        dhclient(where, client, program, tmp_path)
        try:
            learnt = facts(out)
            assert learnt["new_ip_address"] == "10.77.0.10"
            assert learnt["new_subnet_mask"] == "255.255.255.0"
            assert learnt["new_routers"] == learnt["new_domain_name_servers"] == "10.77.0.1"
            assert learnt["new_domain_name"] == "lab.example"
            assert learnt["new_dhcp_lease_time"] == "3600"
            server.wait_for("kind", "dhcp.acknowledged")
            # -x ends the daemon without a RELEASE; its lease file makes the next start an INIT-REBOOT.
            dhclient(where, client, program, tmp_path, "-x")
            said = dhclient(where, client, program, tmp_path)
            assert "DHCPDISCOVER" not in said
            assert "DHCPACK of 10.77.0.10" in said
            assert "confirmed after a restart" in server.wait_for("kind", "dhcp.acknowledged")["sentence"]
        finally:
            stop_dhclient(where, client, program, tmp_path)
        assert server.wait_for("kind", "dhcp.released")["data"]["address"] == "10.77.0.10"


def test_dhclient_drops_an_address_of_another_network(tmp_path: Path, script: tuple[str, Path]) -> None:
    program, out = script
    (tmp_path / "dhclient.leases").write_text(
        'lease {\n  interface "eth0";\n  fixed-address 192.168.55.5;\n  option subnet-mask 255.255.255.0;\n'
        "  option dhcp-lease-time 86400;\n  option dhcp-server-identifier 192.168.55.1;\n"
        + "".join(f"  {when} 6 2099/01/02 00:00:00;\n" for when in ("renew", "rebind", "expire"))
        + "}\n"
    )
    with room() as where, served(where, tmp_path / "leases.sqlite") as server:
        client = where.client()
        said = dhclient(where, client, program, tmp_path)
        try:
            assert "DHCPNAK" in said
            assert "does not belong" in server.wait_for("kind", "dhcp.refused")["sentence"]
            assert facts(out)["new_ip_address"] == "10.77.0.10"
        finally:
            stop_dhclient(where, client, program, tmp_path)


def test_udhcpc_binds_and_renews_by_unicast(tmp_path: Path, script: tuple[str, Path]) -> None:
    program, out = script
    with room() as where, served(where, tmp_path / "leases.sqlite", "6") as server:
        client = where.client("52:54:00:00:00:32")
        pid_file = tmp_path / "udhcpc.pid"
        # -R: release when told to end. A lease of 6 s is renewed after 3.
        where.inside(
            client, "busybox", "udhcpc", "-i", "eth0", "-b", "-R", "-s", program, "-p", str(pid_file),
        )  # fmt: skip
        try:
            assert facts(out)["ip"] == "10.77.0.10"
            assert facts(out)["router"] == facts(out)["dns"] == "10.77.0.1"
            assert "bound" in server.wait_for("kind", "dhcp.acknowledged")["sentence"]
            assert "renewed" in server.wait_for("kind", "dhcp.acknowledged")["sentence"]
        finally:
            where.inside(client, "kill", pid_file.read_text().strip())
        server.wait_for("kind", "dhcp.released")


def test_udhcpc_as_a_pxe_rom_is_told_its_loader(tmp_path: Path, script: tuple[str, Path]) -> None:
    program, out = script
    with room() as where, served(where, tmp_path / "leases.sqlite"):
        client = where.client()
        where.inside(
            client, "busybox", "udhcpc", "-i", "eth0", "-q", "-n", "-s", program,
            "-V", "PXEClient:Arch:00007:UNDI:003000", "-x", "0x5d:0007",
            "-O", "bootfile", "-O", "tftp", timeout=60,
        )  # fmt: skip
        learnt = facts(out)
        assert learnt["boot_file"] == "shimx64.efi"
        assert learnt["siaddr"] == "10.77.0.1"
        assert learnt["lease"] == "120"


def test_twenty_machines_at_once_get_twenty_addresses(tmp_path: Path) -> None:
    path = tmp_path / "leases.sqlite"
    with room() as where, served(where, path):
        client = where.client()
        script = tmp_path / "all"
        # One namespace, one link, twenty client hardware addresses by macvlan.
        lines = ["set -e"]
        for number in range(20):
            mac = f"52:54:00:00:01:{number:02x}"
            lines.append(f"ip link add m{number} link eth0 address {mac} type macvlan mode bridge")
            lines.append(f"ip link set m{number} up")
        lines += [
            f"busybox udhcpc -i m{number} -q -n -t 8 -s /bin/true & p{number}=$!" for number in range(20)
        ]
        lines += [f"wait $p{number}" for number in range(20)]
        script.write_text("\n".join(lines))
        where.inside(client, "sh", str(script), timeout=60)
    kept = SqliteLeases(path)
    try:
        leases = kept.all()
    finally:
        kept.close()
    assert len({lease.address for lease in leases}) == len({lease.mac for lease in leases}) == 20
