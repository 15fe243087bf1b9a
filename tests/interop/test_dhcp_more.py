"""dhcpcd, which probes what it is given, and perfdhcp, a client that is in a hurry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.dhcp.room import Room, room
from tests.interop.dhcp_room import client_script, facts, needs, serving

pytestmark = pytest.mark.net

HERE = {
    "network": "10.77.0.0/24",
    "interface": "br0",
    "ranges": [["10.77.0.10", "10.77.0.199"]],
    "routers": ["10.77.0.1"],
    "domain": "lab.example",
}


def dhcpcd(where: Room, client: str, script: str, folder: Path, *more: str) -> str:
    """Run it once; its lease file and control socket stay in a file system of its own."""
    needs("dhcpcd", "dhcpcd-base")
    program = (
        "mount -t tmpfs none /run && mkdir -p /var/lib/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd && "
        f"exec dhcpcd -4 -1 -d -B -t 20 -f /dev/null -o domain_name -c {script} {' '.join(more)} eth0"
    )
    # A mount namespace of its own: what is mounted is gone with it.
    done = where.inside(
        client, "unshare", "-m", "--propagation", "private", "sh", "-c", program, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_dhcpcd_binds_what_nobody_else_has(tmp_path: Path) -> None:
    program, out = client_script(tmp_path)
    with room() as where, serving(where, tmp_path, HERE) as server:
        client = where.client("52:54:00:00:00:61")
        said = dhcpcd(where, client, program, tmp_path)
        assert "leased 10.77.0.10 for" in said
        learnt = facts(out)
        assert learnt["new_ip_address"] == "10.77.0.10"
        assert learnt["new_domain_name"] == "lab.example"
        assert "10.77.0.10 bound" in server.wait_for("kind", "dhcp.acknowledged")["sentence"]


def test_dhcpcd_declines_what_somebody_has_taken(tmp_path: Path) -> None:
    program, _ = client_script(tmp_path)
    with room() as where, serving(where, tmp_path, HERE) as server:
        squatter = where.client()
        where.inside(squatter, "ip", "addr", "add", "10.77.0.10/24", "dev", "eth0")
        dhcpcd(where, where.client("52:54:00:00:00:62"), program, tmp_path)
        assert server.wait_for("kind", "dhcp.declined")["data"]["address"] == "10.77.0.10"
        assert server.wait_for("kind", "dhcp.acknowledged")["data"]["address"] == "10.77.0.11"


def test_with_probing_nobody_has_to_decline(tmp_path: Path) -> None:
    program, _ = client_script(tmp_path)
    with room() as where, serving(where, tmp_path, {**HERE, "conflict_probe": True}) as server:
        squatter = where.client()
        where.inside(squatter, "ip", "addr", "add", "10.77.0.10/24", "dev", "eth0")
        dhcpcd(where, where.client("52:54:00:00:00:63"), program, tmp_path)
        assert server.wait_for("kind", "dhcp.conflict")["data"]["address"] == "10.77.0.10"
        assert server.wait_for("kind", "dhcp.acknowledged")["data"]["address"] == "10.77.0.11"
        assert not [note for note in server.notes if note.get("kind") == "dhcp.declined"]


def exchanges(said: str, what: str) -> tuple[int, int]:
    """(sent, received) of perfdhcp's statistics for `DISCOVER-OFFER` or `REQUEST-ACK`."""
    part = said.split(f"***Statistics for: {what}***")[1]
    found = {key: int(value) for key, value in re.findall(r"(sent|received) packets: (\d+)", part)[:2]}
    return found["sent"], found["received"]


def test_perfdhcp_gets_an_answer_to_everything(tmp_path: Path) -> None:
    needs("perfdhcp", "kea-admin")
    with room() as where, serving(where, tmp_path, HERE, quiet=True):
        client = where.client()
        where.inside(client, "ip", "addr", "add", "10.77.0.2/24", "brd", "+", "dev", "eth0")
        done = where.inside(
            client, "perfdhcp", "-4", "-l", "eth0", "-r", "100", "-n", "150", "-R", "150",
            "-d", "10", "-W", "3000000", "10.77.0.1", timeout=60, check=False,
        )  # fmt: skip
        assert exchanges(done.stdout, "DISCOVER-OFFER") == (150, 150), done.stdout + done.stderr
        assert exchanges(done.stdout, "REQUEST-ACK") == (150, 150), done.stdout


def test_perfdhcp_as_boot_roms_beside_another_server(tmp_path: Path) -> None:
    """With -i it does not wait for the answers to its last questions: the server tells of those."""
    needs("perfdhcp", "kea-admin")
    rom = ("-o", "60," + b"PXEClient:Arch:00000:UNDI:002001".hex(), "-o", "93,0000")
    with room() as where, serving(where, tmp_path, {**HERE, "mode": "proxy"}, quiet=True) as server:
        client = where.client()
        where.inside(client, "ip", "addr", "add", "10.77.0.2/24", "brd", "+", "dev", "eth0")
        common = ("-i", "-l", "eth0", "-r", "100", "-n", "100", "-R", "100", "10.77.0.1")
        done = where.inside(client, "perfdhcp", "-4", *rom, *common, timeout=60, check=False)
        sent, received = exchanges(done.stdout, "DISCOVER-OFFER")
        assert sent == 100, done.stdout + done.stderr
        assert received > 50, done.stdout + done.stderr
        done = where.inside(client, "perfdhcp", "-4", *common, timeout=60, check=False)
        assert exchanges(done.stdout, "DISCOVER-OFFER") == (100, 0), done.stdout + done.stderr
        assert server.process.stdin is not None
        server.process.stdin.close()
        counters = server.wait_for("counters")["counters"]
        assert (counters["received"], counters["sent"]) == (200, 100)
