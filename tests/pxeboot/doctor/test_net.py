"""The doctor on real networks: foreign servers, taken ports, firewalls, wrong interfaces, silence."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pxeboot.doctor.checks import CHECKS
from tests.pxeboot.doctor.room import HERE, ROOT, THERE, Wired, of, run, wired

pytestmark = pytest.mark.net

RANGE = "--dhcp-range=10.78.0.50,10.78.0.60,1h"


# --- who else answers


def test_nobody_else_answers(wire: Wired) -> None:
    found = wire.doctor("dhcp-servers")
    assert [one["level"] for one in found] == ["ok"]
    assert "No other DHCP server answered on eth0" in found[0]["sentence"]


def test_a_foreign_dhcp_server_is_named_and_is_an_error_in_full_mode(wire: Wired) -> None:
    wire.dnsmasq(wire.there, RANGE)
    [error] = wire.doctor("dhcp-servers")
    assert error["level"] == "error"
    assert error["subject"] == THERE
    assert error["data"]["gives_addresses"]
    mac = json.loads(wire.inside(wire.there, "ip", "-j", "link", "show", "eth0"))[0]["address"]
    assert error["data"]["macs"] == [mac]
    assert 'dhcp.mode = "proxy"' in error["remedy"]


def test_no_address_is_ever_taken(wire: Wired, tmp_path: Path) -> None:
    leases = tmp_path / "leases"
    wire.dnsmasq(wire.there, RANGE, f"--dhcp-leasefile={leases}")
    wire.probe(wire.here)
    wire.probe(wire.here)
    assert not leases.exists() or not leases.read_text().strip()


def test_a_foreign_boot_file_is_told_with_what_to_remove(wire: Wired) -> None:
    wire.dnsmasq(wire.there, RANGE, "--dhcp-boot=pxelinux.0")
    found = wire.doctor("dhcp-servers")
    [warning] = of(found, "dhcp-servers", "warning")
    assert "pxelinux.0" in warning["sentence"]
    assert "66 and 67" in warning["remedy"]


def test_a_second_pxe_server_is_found_by_asking_port_4011(wire: Wired) -> None:
    wire.dnsmasq(
        wire.there,
        "--dhcp-range=10.78.0.0,proxy",
        "--pxe-service=X86-64_EFI,foreign,foreign.efi",
        "--pxe-service=X86PC,foreign,foreign",
    )
    [server] = wire.probe(wire.here)["servers"]
    assert not any(reply["address"] for reply in server["replies"])
    second = [reply for reply in server["replies"] if reply["port_4011"]]
    assert ("uefi", "foreign.efi") in [(reply["kind"], reply["file"]) for reply in second]
    warning = of(wire.doctor("dhcp-servers"), "dhcp-servers", "warning")[0]
    assert "second PXE server" in warning["sentence"]
    assert THERE in warning["sentence"]


def test_a_boot_server_that_is_silent_on_4011_is_noticed(wire: Wired) -> None:
    wire.nft(wire.there, "udp dport 4011 drop")
    wire.dnsmasq(wire.there, "--dhcp-range=10.78.0.0,proxy", "--pxe-service=X86-64_EFI,foreign,foreign.efi")
    [server] = wire.probe(wire.here)["servers"]
    assert "uefi" in server["silent_4011"]


def test_where_dhcp_is_off_a_server_without_boot_data_is_an_error(wire: Wired) -> None:
    wire.dnsmasq(wire.there, RANGE)
    errors = of(wire.doctor("dhcp-servers", dhcp={"mode": "off"}), "dhcp-servers", "error")
    assert "names no boot file" in errors[0]["sentence"]
    assert "pxeboot dhcp snippet" in errors[0]["remedy"]


def test_where_dhcp_is_off_somebody_must_give_addresses(wire: Wired) -> None:
    [error] = of(wire.doctor("dhcp-servers", dhcp={"mode": "off"}), "dhcp-servers", "error")
    assert "Nobody gives addresses on eth0" in error["sentence"]


def test_the_probe_says_why_it_cannot_ask(wire: Wired) -> None:
    wire.inside(wire.here, "ip", "link", "set", "eth0", "down")
    assert "eth0 cannot be asked on" in wire.probe(wire.here)["error"]
    assert run(sys.executable, "-m", "dhcp.probe", "nowhere0", "--json", check=False).startswith('{"error"')


def test_an_interface_without_address_is_asked_on_all_the_same(tmp_path: Path) -> None:
    with wired(tmp_path, address=False) as bare:
        bare.dnsmasq(bare.there, RANGE)
        answer = bare.probe(bare.here)
        assert [server["server"] for server in answer["servers"]] == [THERE]
        assert "port 4011" in answer["problems"][0]
        [error] = of(bare.doctor("interface"), "interface", "error")
        assert "has no IPv4 address" in error["sentence"]


# --- ports


def test_who_holds_a_port_is_named(wire: Wired) -> None:
    thief = wire.dnsmasq(wire.here, RANGE)
    found = wire.doctor("ports")
    [error] = of(found, "ports", "error")
    assert error["subject"] == "UDP 67"
    assert f"dnsmasq (pid {thief.pid})" in error["sentence"]
    assert {one["subject"] for one in of(found, "ports", "ok")} == {"UDP 69", "TCP 80"}
    others = of(wire.doctor("dhcp-servers"), "dhcp-servers")
    assert "Another program of this machine answers DHCP" in others[0]["sentence"]


def test_a_server_on_another_interface_is_nobodys_business(wire: Wired) -> None:
    wire.inside(wire.here, "ip", "link", "add", "virbr0", "type", "bridge")
    wire.inside(wire.here, "ip", "address", "add", "10.79.0.1/24", "dev", "virbr0")
    wire.inside(wire.here, "ip", "link", "set", "virbr0", "up")
    wire.background(
        wire.here, "dnsmasq", "-k", "-C", "/dev/null", "--port=0", "--interface=virbr0", "--bind-interfaces",
        "--except-interface=lo", "--dhcp-range=10.79.0.50,10.79.0.60", "--pid-file=", "--user=root",
        "--dhcp-leasefile=/dev/null",
    )  # fmt: skip
    wire.wait_for_port(wire.here, 67)
    assert not of(wire.doctor("ports"), "ports", "error")


# --- the daemon's own answers


def test_beside_a_running_daemon_all_is_well(wire: Wired) -> None:
    wire.boot_files()
    wire.daemon()
    found = wire.doctor(seconds=4.5)
    bad = [one for one in found if one["level"] in ("error", "warning")]
    assert not bad, bad
    assert {one["check"] for one in found} == set(CHECKS)
    [ours] = of(found, "dhcp-servers", "ok")[:1]
    assert "shimx64.efi" in ours["sentence"]
    [tftp] = of(found, "tftp")
    assert tftp["data"]["size"] == tftp["data"]["expected"] > 500_000
    assert of(found, "http")[0]["level"] == "ok"


def test_in_proxy_mode_we_answer_beside_the_sites_server(wire: Wired) -> None:
    wire.boot_files()
    wire.dnsmasq(wire.there, RANGE)
    wire.daemon(dhcp={"mode": "proxy"})
    found = wire.doctor("dhcp-servers", "ports", "firewall", seconds=4.5)
    assert not of(found, "ports", "error"), found
    assert {one["subject"] for one in of(found, "ports", "ok")} == {"UDP 67", "UDP 4011", "UDP 69", "TCP 80"}
    assert not of(found, "dhcp-servers", "error"), found
    told = {one["subject"]: one["sentence"] for one in of(found, "dhcp-servers")}
    assert "as it should" in told[THERE]
    assert "shimx64.efi" in told["eth0"], "asked for on port 4011"
    assert "undionly.kpxe" in told["eth0"]


def test_the_daemon_looks_at_intervals_and_tells_what_changed(wire: Wired) -> None:
    foreign = wire.dnsmasq(wire.there, RANGE)
    wire.daemon(doctor={"every_seconds": 2})
    token = (wire.folder / "data" / "cli.token").read_text().strip()

    def kinds(wanted: str) -> list[dict[str, str]]:
        end = time.monotonic() + 90
        while time.monotonic() < end:
            told = wire.inside(
                wire.here, "curl", "-sS", "-m", "30", f"http://{HERE}/api/v1/events?plane=doctor",
                "-H", f"Authorization: Bearer {token}",
            )  # fmt: skip
            events: list[dict[str, str]] = json.loads(told)["items"]
            if events and events[0]["kind"] == wanted:
                return events
            time.sleep(0.5)
        raise AssertionError(f"no {wanted}")

    assert THERE in kinds("doctor.found")[0]["sentence"]
    foreign.terminate()
    events = kinds("doctor.gone")
    assert [one["kind"] for one in events] == ["doctor.gone", "doctor.found"], "once each"


def test_a_dropped_tftp_request_is_a_time_out_and_the_firewall_rule_is_named(wire: Wired) -> None:
    wire.boot_files()
    wire.daemon()
    wire.nft(wire.here, "udp dport 69 drop")
    found = wire.doctor("tftp", "firewall")
    [tftp] = of(found, "tftp")
    assert tftp["level"] == "error"
    assert "time-out" in tftp["sentence"]
    [error] = of(found, "firewall", "error")
    assert "inet mine input: udp dport 69 drop" in error["sentence"]


def test_data_that_is_dropped_on_its_new_port_is_told_apart(wire: Wired) -> None:
    wire.boot_files()
    wire.daemon()
    # What is sent to the answers' own port meets no rule (loopback is no exception here).
    wire.nft(wire.here, "udp dport { 67, 69 } accept", "udp sport 69 accept", policy="drop")
    [tftp] = wire.doctor("tftp")
    assert tftp["level"] == "error"
    assert "time-out" in tftp["sentence"] or "fell silent" in tftp["sentence"]


def test_the_daemon_looks_itself_and_tells(wire: Wired) -> None:
    wire.boot_files()
    wire.dnsmasq(wire.there, RANGE)
    wire.daemon()
    token = (wire.folder / "data" / "cli.token").read_text().strip()
    told = wire.inside(
        wire.here, "curl", "-sS", "-m", "50", "-X", "POST", f"http://{HERE}/api/v1/doctor:run",
        "-H", f"Authorization: Bearer {token}",
    )  # fmt: skip
    answer = json.loads(told)
    assert answer["worst"] == "error"
    assert any(one["subject"] == THERE for one in answer["findings"])
    events: list[dict[str, str]] = []
    end = time.monotonic() + 60
    while not events and time.monotonic() < end:  # the journal is written in batches
        told = wire.inside(
            wire.here, "curl", "-sS", "-m", "30", f"http://{HERE}/api/v1/events?plane=doctor",
            "-H", f"Authorization: Bearer {token}",
        )  # fmt: skip
        events = json.loads(told)["items"]
    assert {one["kind"] for one in events} == {"doctor.found"}


# --- the interface


def test_the_wrong_states_of_an_interface(wire: Wired) -> None:
    [absent] = wire.doctor("interface", network={"interface": "eth9"})
    assert "There is no interface eth9" in absent["sentence"]
    assert "eth0" in absent["sentence"]
    [wrong] = wire.doctor("interface", network={"interface": "eth0", "address": "10.78.0.9"})
    assert "10.78.0.9 is not an address of eth0" in wrong["sentence"]
    wire.inside(wire.there, "ip", "link", "set", "eth0", "down")
    [cable] = wire.doctor("interface", network={"address": ""})
    assert "no carrier" in cable["sentence"]
    wire.inside(wire.here, "ip", "link", "set", "eth0", "down")
    [down] = wire.doctor("interface")
    assert "switched off" in down["sentence"]
    assert all(one["level"] == "error" for one in (absent, wrong, cable, down))


def test_a_duplicate_address_is_found(wire: Wired) -> None:
    wire.inside(wire.there, "ip", "address", "add", f"{HERE}/24", "dev", "eth0")
    [error] = of(wire.doctor("interface"), "interface", "error")
    mac = json.loads(wire.inside(wire.there, "ip", "-j", "link", "show", "eth0"))[0]["address"]
    assert f"{mac} answers for it, too" in error["sentence"]


def test_what_hurts_less_is_a_warning(wire: Wired) -> None:
    wire.inside(wire.here, "ip", "link", "set", "eth0", "mtu", "1400")
    wire.inside(wire.here, "ip", "address", "flush", "dev", "eth0")
    leased = f"ip address add {HERE}/24 dev eth0 valid_lft 600 preferred_lft 600"
    wire.inside(wire.here, *leased.split())
    found = wire.doctor("interface", dhcp={"subnet": "10.99.0.0/24"})
    told = " ".join(one["sentence"] for one in of(found, "interface", "warning"))
    assert "MTU of eth0 is 1400" in told
    assert "leased from a DHCP server" in told
    assert "in none of the served subnets" in told


# --- multicast


def test_multicast_comes_back_unless_a_firewall_eats_it(wire: Wired) -> None:
    assert wire.doctor("multicast")[0]["level"] == "ok"
    wire.nft(wire.here, "ip daddr 224.0.0.0/4 drop")
    [error] = wire.doctor("multicast")
    assert error["level"] == "error"
    assert "does not come back" in error["sentence"]


def test_a_snooping_bridge_without_a_querier_is_told(wire: Wired) -> None:
    for command in (
        "ip link add br0 type bridge mcast_snooping 1 mcast_querier 0",
        "ip address add 10.80.0.1/24 dev br0",
        "ip link set eth0 master br0",
        "ip link set br0 up",
    ):
        wire.inside(wire.here, *command.split())
    [warning] = of(wire.doctor("multicast", network={"interface": "br0"}), "multicast", "warning")
    assert "br0 snoops IGMP" in warning["sentence"]
    wire.inside(wire.here, "ip", "link", "set", "br0", "type", "bridge", "mcast_querier", "1")
    assert wire.doctor("multicast")[0]["level"] == "ok"


def test_a_querier_is_heard(wire: Wired) -> None:
    """The bridge on the other side asks every second."""
    for command in (
        "ip link add br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_query_interval 100 "
        "mcast_startup_query_interval 50 mcast_query_use_ifaddr 1",
        "ip address flush dev eth0",
        f"ip address add {THERE}/24 dev br0",
        "ip link set eth0 master br0",
        "ip link set br0 up",
    ):
        wire.inside(wire.there, *command.split())
    code = "from pxeboot.doctor.multicast import hear_query; print(hear_query('eth0', 20))"
    assert wire.inside(wire.here, sys.executable, "-c", code).strip() == THERE


# --- the command


def test_people_get_a_table_with_remedies_and_scripts_an_exit_status(wire: Wired) -> None:
    config = wire.config(server={"data_dir": str(wire.folder / "data"), "language": "fr"})
    command = ["ip", "netns", "exec", wire.here, sys.executable, "-m", "pxeboot.cli", "doctor"]
    options = ["--config", str(config), "--only", "boot-files", "--only", "interface"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "eth0 est active avec 10.78.0.1/24" in done.stdout
    assert "→ " in done.stdout
    wrong = subprocess.run([*command, "--only", "weather"], capture_output=True, text=True, timeout=100)
    assert wrong.returncode == 2
    assert "dhcp-servers" in wrong.stderr


def test_without_rights_each_check_says_what_it_could_not_see(wire: Wired) -> None:
    config = wire.config()
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = subprocess.run(
        ["ip", "netns", "exec", wire.here, *bare, sys.executable, "-m", "pxeboot.cli", "doctor", "--json",
         "--config", str(config)],
        capture_output=True, text=True, timeout=100, cwd=ROOT,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)
    [unseen] = of(found, "dhcp-servers")
    assert unseen["level"] == "note"
    assert "needs root" in unseen["sentence"]


def test_every_check_of_a_whole_run_ends_within_its_limit(wire: Wired) -> None:
    """14 s; what takes longer is not waited for, and becomes a finding that says so."""
    wire.boot_files()
    found = wire.doctor(seconds=4.5)
    assert {one["check"] for one in found} == set(CHECKS)
    assert not [one for one in found if "took more than" in one["sentence"]], found
