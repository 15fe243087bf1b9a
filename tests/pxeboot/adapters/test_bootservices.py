"""The daemon on two interfaces and behind a relay, in each DHCP mode; and new settings while it runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dhcp import options as opt
from dhcp.packet import MessageType, Packet
from tests.dhcp.conversation import boot_request, plain, pxe, request, uefi
from tests.pxeboot.site import Site, site

pytestmark = pytest.mark.net

TWO_NETWORKS = """
[network]
interface = "eth1"
interfaces = ["eth2"]
[dhcp]
dns = ["10.20.0.1"]
[[dhcp.subnets]]
network = "10.20.0.0/24"
pools = ["10.20.0.100-10.20.0.109"]
reservations = [{mac = "52:54:00:aa:bb:07", address = "10.20.0.7", name = "pc7"}]
[[dhcp.subnets]]
network = "10.30.0.0/24"
interface = "eth2"
mode = "%s"
options = {"ntp-servers" = ["10.30.0.1"]}
[[dhcp.subnets]]
network = "10.40.0.0/24"
interface = ""
pools = ["10.40.0.50-10.40.0.59"]
router = "10.40.0.1"
dns = []
"""


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site")) as made:
        boot = made.data_dir / "boot"
        boot.mkdir(parents=True)
        for name in ("undionly.kpxe", "shimx64.efi", "grubx64.efi"):
            (boot / name).write_bytes(b"MZ" + bytes(600))
        yield made


def broadcast(packet: Packet) -> Packet:
    return replace(packet, flags=0x8000)


def kind_of(packet: Packet | None) -> MessageType:
    assert packet is not None
    return MessageType(packet.message_type)


def test_two_interfaces_two_subnets_and_a_relay(lan: Site) -> None:
    with lan.daemon(TWO_NETWORKS % "full") as daemon:
        # each network its own pool, options and server
        first = lan.ask(lan.one, broadcast(plain("52:54:00:aa:bb:01", xid=1)))
        second = lan.ask(lan.two, broadcast(plain("52:54:00:aa:bb:02", xid=2)))
        assert first is not None
        assert second is not None
        assert (first.yiaddr, first.server_identifier) == ("10.20.0.100", "10.20.0.1")
        assert (second.yiaddr, second.server_identifier) == ("10.30.0.128", "10.30.0.1")
        assert second.options[opt.NTP_SERVERS] == opt.addresses(["10.30.0.1"])
        assert opt.NTP_SERVERS not in first.options
        # a reservation of the file
        fixed = lan.ask(lan.one, broadcast(plain("52:54:00:aa:bb:07", xid=3)))
        assert fixed is not None
        assert (fixed.yiaddr, fixed.options[opt.HOST_NAME]) == ("10.20.0.7", b"pc7")
        # what a relay brings from a network none of our interfaces is in
        far = plain("52:54:00:aa:bb:04", xid=4, giaddr="10.40.0.1")
        offer = lan.ask(lan.one, far, to="10.20.0.1", me="10.40.0.1")
        assert offer is not None
        assert (offer.yiaddr, offer.server_identifier) == ("10.40.0.50", "10.20.0.1")
        assert offer.options[opt.ROUTER] == opt.addresses(["10.40.0.1"])
        assert opt.DOMAIN_NAME_SERVER not in offer.options
        # the answer to a boot ROM names us as its network knows us
        rom = lan.ask(lan.two, pxe("52:54:00:aa:bb:05", xid=5))
        assert rom is not None
        assert rom.siaddr == "10.30.0.1"
        assert rom.file.rstrip(b"\0") == b"undionly.kpxe"
        ack = lan.ask(lan.one, replace(request(plain("52:54:00:aa:bb:01", xid=6), first), flags=0x8000))
        assert kind_of(ack) == MessageType.ACK
        # HTTP and TFTP on both addresses, each naming itself
        for address in ("10.20.0.1", "10.30.0.1"):
            stub = daemon.client(address, token=False).get("/grub/grub.cfg")
            assert f"(http,{address})" in stub.text
            fetched = subprocess.run(
                ["ip", "netns", "exec", lan.server, "curl", "-sf", f"tftp://{address}/grub/grub.cfg"],
                capture_output=True, timeout=60, check=True,
            )  # fmt: skip
            assert address.encode() in fetched.stdout
        # the lease list tells all of it
        leases = daemon.client().get("/api/v1/leases?state=bound").json()["items"]
        assert [(one["address"], one["mac"]) for one in leases] == [("10.20.0.100", "52:54:00:aa:bb:01")]
        counted = daemon.client().get("/api/v1/server").json()
        assert counted["dhcp"]["counters"]["dhcp.acknowledged"] == 1
        assert [(one["interface"], one["port"], one["open"]) for one in counted["dhcp"]["listeners"]] == [
            ("eth1", 67, True), ("eth1", 4011, True), ("eth2", 67, True), ("eth2", 4011, True)
        ]  # fmt: skip
        assert counted["tftp"]["counters"]["completed"] == 2
        told = daemon.command("dhcp", "leases", "--csv")
        assert "10.20.0.100,52:54:00:aa:bb:01" in told.stdout, told.stderr


def test_proxy_answers_boot_roms_and_leaves_addresses_to_others(lan: Site) -> None:
    with lan.daemon('[network]\ninterface = "eth1"\n[dhcp]\nmode = "proxy"\n') as daemon:
        assert lan.ask(lan.one, broadcast(plain(xid=11)), seconds=1) is None
        bios = lan.ask(lan.one, pxe(xid=12))
        assert bios is not None
        assert (bios.yiaddr, bios.siaddr) == ("0.0.0.0", "10.20.0.1")
        assert bios.file.rstrip(b"\0") == b"undionly.kpxe"
        efi = uefi(xid=13)
        offer = lan.ask(lan.one, efi)
        assert offer is not None
        assert offer.file.rstrip(b"\0") == b""  # BINL: asked again at 4011
        again = boot_request(efi, "10.20.0.2")
        ack = lan.ask(lan.one, again, port=4011, to="10.20.0.1", me="10.20.0.2")
        assert kind_of(ack) == MessageType.ACK
        assert ack is not None
        assert ack.file.rstrip(b"\0") == b"shimx64.efi"
        assert daemon.client().get("/api/v1/leases").json()["items"] == []


def test_proxy_beside_a_server_on_this_machine_goes_on_with_port_4011(lan: Site) -> None:
    holder = (
        "import socket,sys; s=socket.socket(2,2); s.bind(('',67)); print('held',flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        ["ip", "netns", "exec", lan.server, sys.executable, "-c", holder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert other.stdout is not None
        other.stdout.readline()
        with lan.daemon('[network]\ninterface = "eth1"\n[dhcp]\nmode = "proxy"\n') as daemon:
            assert "Another program listens on eth1 port 67" in daemon.said()
            ack = lan.ask(
                lan.one, boot_request(uefi(xid=21), "10.20.0.2"), port=4011, to="10.20.0.1", me="10.20.0.2"
            )
            assert kind_of(ack) == MessageType.ACK
        lan.write('[network]\ninterface = "eth1"\n')
        refused = daemon.command("serve")
        assert refused.returncode == 1
        assert "DHCP cannot listen on eth1 port 67: another program listens there." in refused.stderr
        assert f"(pid {other.pid})" in refused.stderr
    finally:
        assert other.stdin is not None
        other.stdin.close()
        other.wait(60)


def test_off_serves_files_only(lan: Site) -> None:
    with lan.daemon('[network]\ninterface = "eth1"\n[dhcp]\nmode = "off"\n') as daemon:
        assert lan.ask(lan.one, pxe(xid=31), seconds=1) is None
        assert "undionly.kpxe" in daemon.command("dhcp", "snippet", "dnsmasq").stdout
        assert daemon.client(token=False).get("/boot/files/shimx64.efi").status == 200
        checked = daemon.command("check")  # our own daemon having the ports is no mistake
        assert checked.returncode == 0, checked.stdout
        assert "no machine can run a task" in checked.stdout


def test_new_settings_while_it_runs(lan: Site) -> None:
    before = TWO_NETWORKS % "full"
    with lan.daemon(before) as daemon:
        # a mistake: nothing changes, everything is told
        bad = before.replace("10.20.0.100-10.20.0.109", "10.99.0.1")
        lan.write(bad + "[tasks]\nmax_attempts = 'many'\n[boot]\ndefault = 'beos'\n")
        daemon.hang_up()
        daemon.wait_for("the settings were not taken over")
        for mistake in ("dhcp.subnets[0].pools[0] = '10.99.0.1' is outside", "tasks.max_attempts = 'many'"):
            assert mistake in daemon.said()
        (refused,) = daemon.events("settings.refused")
        assert {one["field"] for one in refused["data"]["mistakes"]} == {
            "dhcp.subnets[0].pools[0]",
            "tasks.max_attempts",
            "boot.default",
        }
        problem = daemon.client().post("/api/v1/settings:reload")
        assert (problem.status, problem.json()["code"]) == (422, "settings-refused")
        assert len(problem.json()["errors"]) == 3
        told = daemon.command("reload")
        assert told.returncode == 2
        assert "tasks.max_attempts" in told.stderr
        offer = lan.ask(lan.one, broadcast(plain("52:54:00:aa:bb:41", xid=41)))
        assert offer is not None
        assert offer.yiaddr.startswith("10.20.0.10")
        # another pool, one network now somebody else's; the port cannot change
        new = (TWO_NETWORKS % "proxy").replace("10.20.0.100-10.20.0.109", "10.20.0.60-10.20.0.69")
        lan.write(new + "[http]\nport = 8080\n[tasks]\nmax_attempts = 7\n")
        answer = daemon.client().post("/api/v1/settings:reload")
        assert answer.status == 200, answer.text
        assert answer.json()["changed"] == ["dhcp.subnets", "tasks.max_attempts"]
        assert answer.json()["kept"] == ["http.port"]
        daemon.wait_for("Only a restart changes http.port")
        moved = lan.ask(lan.one, broadcast(plain("52:54:00:aa:bb:42", xid=42)))
        assert moved is not None
        assert moved.yiaddr.startswith("10.20.0.6")
        assert lan.ask(lan.two, broadcast(plain("52:54:00:aa:bb:43", xid=43)), seconds=1) is None
        # off altogether: the socket is given back
        lan.write('[network]\ninterface = "eth1"\ninterfaces = ["eth2"]\n[dhcp]\nmode = "off"\n')
        daemon.hang_up()
        daemon.wait_for("changed: dhcp.mode")
        assert lan.ask(lan.one, pxe(xid=44), seconds=1) is None
        assert ":67 " not in lan.inside(lan.server, "ss -Hlun")
        assert daemon.client(token=False).post("/api/v1/settings:reload").status == 401


def test_an_address_that_goes_and_comes_back(lan: Site) -> None:
    with lan.daemon(TWO_NETWORKS % "full") as daemon:
        lan.inside(lan.server, "ip addr del 10.30.0.1/24 dev eth2")
        assert [one["sentence"] for one in daemon.events("link.address_removed")] == [
            "eth2 has lost the address 10.30.0.1."
        ]
        lan.inside(lan.server, "ip link set eth2 down")
        lan.inside(lan.server, "ip link set eth2 up")
        lan.inside(lan.server, "ip addr add 10.30.0.1/24 brd + dev eth2")
        assert daemon.events("link.address_added")
        assert daemon.events("link.down")
        offer = lan.ask(lan.two, broadcast(plain("52:54:00:aa:bb:51", xid=51)))
        assert offer is not None
        assert offer.yiaddr.startswith("10.30.0.")
        assert daemon.client("10.30.0.1", token=False).get("/healthz").status == 200


def test_an_address_that_is_late(lan: Site, tmp_path: Path) -> None:
    lan.inside(lan.server, "ip addr del 10.30.0.1/24 dev eth2")
    lan.write('[network]\ninterface = "eth2"\n')
    process = subprocess.Popen(
        ["ip", "netns", "exec", lan.server, sys.executable, "-m", "pxeboot", "serve", "--config", lan.config],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        while "waiting for an address: eth2 has no IPv4 address" not in (line := process.stderr.readline()):
            assert line, process.poll()
        lan.inside(lan.server, "ip addr add 10.30.0.1/24 brd + dev eth2")
        while "serves http://10.30.0.1" not in (line := process.stderr.readline()):
            assert line, process.poll()
    finally:
        process.terminate()
        process.communicate(timeout=60)
