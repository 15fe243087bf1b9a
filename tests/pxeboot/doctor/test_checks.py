"""Cores without a network: ports, interfaces, servers, this machine, the words, and the run of it all."""

from __future__ import annotations

import ast
import sqlite3
import threading
import time
from datetime import UTC, datetime
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhcp.leases import Lease, SqliteLeases
from dhcp.probe import Probed, Reply, Server
from pxeboot import i18n
from pxeboot.doctor import checks, host, interface, multicast, ports, servers, transfer
from pxeboot.doctor.finding import Finding, worst
from pxeboot.doctor.site import Pool, Wire, site_of
from pxeboot.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
SITE = site_of(Settings.model_validate({"network": {"interface": "eth1"}}))
FULL, PROXY, OFF = (Wire(interface="eth1", mode=mode) for mode in ("full", "proxy", "off"))


# --- words


def texts() -> list[str]:
    """Every text that the doctor marks for translation."""
    found = []
    for path in [*(ROOT / "pxeboot" / "doctor").glob("*.py"), ROOT / "pxeboot" / "cli" / "doctor.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "N_":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}"
                found.append(str(node.args[0].value))
    return found


def test_every_finding_is_said_in_french() -> None:
    from babel.messages.pofile import read_po

    with (i18n.LOCALES / "fr" / "LC_MESSAGES" / "pxeboot.po").open("rb") as stream:
        catalogue = {message.id: message.string for message in read_po(stream)}
    assert len(texts()) > 100
    assert [text for text in texts() if not catalogue.get(text)] == []


def test_every_check_is_described() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    assert [name for name in checks.CHECKS if f"| `{name}` |" not in page] == []


def test_a_finding_survives_json_and_is_the_same_with_other_figures() -> None:
    made = Finding("disk", "ok", "/x", "%(a)s of %(b)s", "do %(b)s", {"a": 1, "b": ["x", "y"]})
    assert Finding.from_dict(made.to_dict()) == made
    assert (made.sentence, made.remedy) == ("1 of x, y", "do x, y")
    assert Finding("disk", "ok", "/x", "%(a)s of %(b)s", "do %(b)s", {"a": 2, "b": "z"}).key == made.key
    for broken in ({}, {**made.to_dict(), "level": "bad"}, {**made.to_dict(), "data": {}}):
        with pytest.raises(ValueError):
            Finding.from_dict(broken)


# --- the settings


def test_each_interface_has_the_mode_of_its_subnets() -> None:
    settings = Settings.model_validate(
        {
            "network": {"interface": "eth1", "interfaces": ["eth2=10.30.0.1", "eth3"]},
            "dhcp": {
                "subnets": [
                    {"network": "10.20.0.0/24", "interface": "eth1", "pools": ["10.20.0.10-10.20.0.19"]},
                    {"network": "10.30.0.0/24", "mode": "proxy"},
                    {"network": "10.40.0.0/24", "interface": "", "mode": "proxy"},
                ]
            },
        }
    )
    site = site_of(settings, [("eth2", IPv4Interface("10.30.0.1/24"))])
    assert site.wires == (
        Wire(interface="eth1", mode="full"),
        Wire(interface="eth2", address="10.30.0.1", mode="proxy"),
        Wire(interface="eth3", mode="off"),
    )
    assert site.pools == (Pool(network=IPv4Network("10.20.0.0/24"), size=10),)
    assert len(site.subnets) == 3
    assert site_of(Settings.model_validate({})).wires == ()
    simple = Settings.model_validate({"network": {"interface": "eth1"}, "dhcp": {"enabled": False}})
    assert [wire.mode for wire in site_of(simple).wires] == ["off"]


# --- who answers


def server(address: str, *replies: Reply, silent: tuple[str, ...] = ()) -> Server:
    return Server(
        server=address, sources=(address,), macs=("52:54:00:00:00:01",), replies=replies, silent_4011=silent
    )


def reply(source: str, /, kind: str = "plain", **more: str) -> Reply:
    return Reply(kind=kind, source=source, source_mac="", source_port=67, server=source, **more)  # type: ignore[arg-type]


def said(wire: Wire, *heard: Server, running: bool = False) -> list[tuple[str, str]]:
    probed = Probed(interface="eth1", mac="", own="10.0.0.1", seconds=4.5, servers=heard)
    found = servers.judge(wire, probed, local={"10.0.0.1"}, running=running)
    return [(one.level, one.sentence) for one in found]


def test_beside_the_sites_server_proxy_mode_is_content() -> None:
    ours = server("10.0.0.1", reply("10.0.0.1", "uefi", vendor_class="PXEClient", file="shimx64.efi"))
    [(level, sentence), *rest] = said(
        PROXY, server("10.0.0.2", reply("10.0.0.2", address="10.0.0.9")), ours, running=True
    )
    assert level == "ok"
    assert "52:54:00:00:00:01 QEMU/KVM" in sentence
    assert [level for level, _ in rest] == ["note"]  # nothing for BIOS and HTTP Boot


def test_two_that_give_addresses_may_be_a_pair() -> None:
    found = said(
        PROXY, *(server(a, reply(a, address="10.0.0.9")) for a in ("10.0.0.2", "10.0.0.3")), running=False
    )
    assert ("note", "Several DHCP servers give addresses on eth1: 10.0.0.2, 10.0.0.3.") in found


def test_nobody_gives_addresses() -> None:
    assert [level for level, _ in said(PROXY)] == ["error"]
    assert [level for level, _ in said(OFF)] == ["error"]
    assert [level for level, _ in said(FULL)] == ["ok"]
    assert ("warning", "Our own DHCP on eth1 did not answer our question.") in said(FULL, running=True)


def test_our_own_silence_on_4011_is_an_error() -> None:
    ours = server("10.0.0.1", reply("10.0.0.1", "uefi", vendor_class="PXEClient"), silent=("uefi",))
    site = server("10.0.0.2", reply("10.0.0.2", address="10.0.0.9"))
    assert any(
        level == "error" and "port 4011" in text for level, text in said(PROXY, ours, site, running=True)
    )


# --- ports


UDP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
  42: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11 2 0 0
  43: 0100007F:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0 0
  44: 0200000A:0FAB 0300000A:0FAB 01 00000000:00000000 00:00000000 00000000     0        0 13 2 0 0
  45: nonsense
"""


def test_the_kernels_tables_are_read() -> None:
    found = ports.sockets_in("udp", UDP)
    assert [(one.address, one.port, one.inode) for one in found] == [
        ("0.0.0.0", 67, 11),
        ("127.0.0.1", 69, 12),
    ]
    ss = "UNCONN 0 0 0.0.0.0%virbr0:67 0.0.0.0:* uid:0 ino:11 <->\nUNCONN 0 0 127.0.0.1:69 0.0.0.0:* ino:12\n"
    assert ports.interfaces_in(ss) == {11: "virbr0"}


@given(st.text(max_size=300))
def test_any_table_is_read_or_left_out(text: str) -> None:
    ports.sockets_in("udp6", "head\n" + text)
    ports.interfaces_in(text)
    ports.unit_of(text)


def test_only_what_takes_our_place_is_in_the_way() -> None:
    [dhcp, tftp, http] = ports.needs(SITE, ["10.0.0.1"])
    assert dhcp.clashes(ports.Held("udp", "0.0.0.0", 67, 1))
    assert not dhcp.clashes(ports.Held("udp", "0.0.0.0", 67, 1, "virbr0"))
    assert not tftp.clashes(ports.Held("udp", "127.0.0.1", 69, 1))
    assert tftp.clashes(ports.Held("udp", "::", 69, 1))
    assert not http.clashes(ports.Held("tcp", "10.9.9.9", 80, 1))


def test_the_holder_is_named_with_its_unit() -> None:
    held = [ports.Held("udp", "0.0.0.0", 67, 1), ports.Held("udp", "10.0.0.1", 69, 2)]
    holders = {
        1: [ports.Holder(7, "dnsmasq", "dnsmasq.service")],
        2: [ports.Holder(9, "python", "", ours=True)],
    }
    found = {one.subject: one for one in ports.judge(ports.needs(SITE, ["10.0.0.1"]), held, holders, True)}
    assert found["UDP 67"].sentence == "dnsmasq (pid 7, dnsmasq.service) holds UDP 67 (DHCP), which we need."
    assert found["UDP 67"].remedy == "Stop it (`systemctl disable --now dnsmasq.service`)."
    assert found["UDP 69"].level == "ok"
    assert found["TCP 80"].level == "error", "the daemon runs and does not listen"
    unseen = ports.judge(ports.needs(SITE, ["10.0.0.1"])[:1], held, {}, False)
    assert "cannot be seen" in unseen[1].sentence


@pytest.mark.parametrize(
    ("command", "ours"),
    [
        ("/opt/v/bin/python /opt/v/bin/pxeboot serve", True),
        ("/usr/bin/python3 -m pxeboot.cli serve --config /x.toml", True),
        ("/usr/bin/python3 -m pxeboot --config /x serve", True),
        ("python -m pxeboot.cli doctor", False),
        ("python -m pxeboot.cli lab serve", False),
        ("dnsmasq -C /etc/pxeboot/dnsmasq.conf", False),
        ("vi /srv/pxeboot serve.txt", False),
    ],
)
def test_the_daemon_is_known_by_its_command(command: str, ours: bool) -> None:
    assert ports.is_daemon(command.split()) is ours


def test_the_unit_is_the_last_service_of_the_control_group() -> None:
    assert ports.unit_of("0::/system.slice/dnsmasq.service\n") == "dnsmasq.service"
    assert ports.unit_of("0::/user.slice/user-0.slice/session-2.scope") == "session-2.scope"
    assert ports.unit_of("0::/\n") == ""


# --- interface, transfers, multicast: what no room can show


def test_strict_filtering_matters_only_with_several_networks() -> None:
    own = (interface.Address(interface=IPv4Interface("10.0.0.1/24")),)
    link = interface.Link(name="eth1", up=True, carrier=True, mtu=1500, addresses=own, rp_filter=1)
    assert [one.level for one in interface.judge(FULL, link, SITE)] == ["ok"]
    two = interface.Link(
        name="eth1",
        up=True,
        carrier=True,
        mtu=9000,
        addresses=own,
        rp_filter=1,
        other_links=("eth0",),
        forwarding=True,
    )
    assert [one.level for one in interface.judge(FULL, two, SITE)] == ["note", "warning", "note"]


@given(st.binary(max_size=80))
def test_any_frame_is_an_arp_reply_or_an_igmp_query_or_neither(data: bytes) -> None:
    interface.read_arp(data)
    multicast.read_query(data)
    multicast.read_query(b"\x45" + data)


def test_the_answer_of_a_duplicate_is_read() -> None:
    probe = bytearray(interface.arp_probe(bytes(6), "10.0.0.1"))
    assert interface.read_arp(bytes(probe)) is None, "a question"
    probe[7] = 2
    probe[8:14] = bytes.fromhex("020000000009")
    probe[14:18] = bytes((10, 0, 0, 1))
    assert interface.read_arp(bytes(probe)) == ("10.0.0.1", "02:00:00:00:00:09")


@pytest.mark.parametrize(
    ("end", "tells"),
    [
        ("refused", "connection refused"),
        ("timeout", "time-out"),
        ("stalled", "fell silent"),
        ("stranger", "came from 10.0.0.7 instead of 10.0.0.1"),
        ("error", "refused shimx64.efi: 1 no such file"),
        ("unreachable", "cannot be reached"),
    ],
)
def test_each_end_of_a_transfer_has_its_own_sentence(end: transfer.End, tells: str) -> None:
    got = transfer.Fetched(end=end, source="10.0.0.7", detail="1 no such file")
    found = transfer.judge_tftp("10.0.0.1", 69, "shimx64.efi", got, 10, "")
    assert found.level == "error"
    assert tells in found.sentence
    assert found.remedy


def test_a_closed_tftp_port_is_refused_at_once() -> None:
    assert transfer.fetch("127.0.0.1", 9, "x", own="127.0.0.1").end == "refused", "and not a time-out"


@pytest.mark.parametrize(
    ("answer", "tells"),
    [
        (transfer.Answered(problem="refused"), "connection refused"),
        (transfer.Answered(problem="timeout"), "time-out"),
        (transfer.Answered(problem="broken", detail="x"), "is not HTTP"),
        (transfer.Answered(status=301, version=11, headers={}), "is redirected"),
        (transfer.Answered(status=404, version=11, headers={}), "status 404"),
        (transfer.Answered(status=200, version=11, headers={"Content-Length": "9"}), "Content-Length 9"),
        (
            transfer.Answered(status=200, version=10, headers={"Content-Length": "10", "ETag": '"a"'}),
            "HTTP/1.0",
        ),
        (
            transfer.Answered(status=200, version=11, headers={"content-length": "10", "ETag": '"a"'}),
            "spelled",
        ),
        (
            transfer.Answered(status=200, version=11, headers={"Content-Length": "10", "ETag": 'W/"a"'}),
            "strong ETag",
        ),
        (
            transfer.Answered(status=200, version=11, headers={"Content-Length": "10", "ETag": '"a"'}),
            "as firmware wants",
        ),
    ],
)
def test_http_is_judged_as_firmware_would(answer: transfer.Answered, tells: str) -> None:
    [found] = transfer.judge_http("10.0.0.1", 80, "/f", answer, 10)[:1]
    assert tells in found.sentence


# --- this machine


def test_a_full_pool_and_strangers_in_it(tmp_path: Path) -> None:
    pool = Pool(network=IPv4Network("10.0.0.0/24"), size=10)
    assert host.judge_pool(pool, {"bound": 10}).level == "error"
    assert host.judge_pool(pool, {"bound": 9}).level == "warning"
    assert "found in use by somebody else" in host.judge_pool(pool, {"bound": 1, "declined": 1}).sentence
    assert host.judge_pool(pool, {"bound": 3}).sentence == "7 of 10 addresses of 10.0.0.0/24 are free."
    leases = SqliteLeases(tmp_path / "leases.sqlite")
    now = time.time()
    for number, expires in ((1, now + 100), (2, now - 1)):
        lease = Lease(
            address=f"10.0.0.{number}",
            subnet="s",
            mac=f"02:00:00:00:00:0{number}",
            state="bound",
            starts=0,
            expires=expires,
        )
        leases.bind(lease, now)
    leases.commit()
    assert host.read_leases(tmp_path / "leases.sqlite", now) == [("10.0.0.1", "bound")]
    leases.close()
    (tmp_path / "leases.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.Error):
        host.read_leases(tmp_path / "leases.sqlite", now)
    settings = Settings.model_validate({"server": {"data_dir": tmp_path}, "network": {"interface": "e"}})
    assert host.check_pool(site_of(settings, [("e", IPv4Interface("10.0.0.1/24"))]))[0].level == "note"


def test_disk_clock_and_rights() -> None:
    gigabyte = 1_000_000_000
    assert host.judge_disk("data_dir", Path("/x"), 5 * gigabyte, 10 * gigabyte, gigabyte).level == "ok"
    assert host.judge_disk("data_dir", Path("/x"), gigabyte // 2, 10 * gigabyte, gigabyte).level == "warning"
    assert host.judge_disk("data_dir", Path("/x"), 1000, 10 * gigabyte, gigabyte).level == "error"
    assert host.judge_clock(datetime(1970, 1, 1, tzinfo=UTC), None).level == "error"
    assert host.judge_clock(datetime(2026, 1, 1, tzinfo=UTC), True).level == "ok"
    assert host.judge_clock(datetime(2026, 1, 1, tzinfo=UTC), False).level == "note"
    assert host.check_clock()
    poor = host.judge_rights("x", host.Rights(1024, 1 << 10, "profile (enforce)"))
    assert [one.level for one in poor] == ["warning", "warning", "note"]
    assert "CAP_NET_ADMIN, CAP_NET_RAW" in poor[1].sentence
    assert host.judge_rights("x", host.Rights(65536, ~0))[0].level == "ok"


# --- the run


def test_a_check_that_fails_or_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()

    def broken(machine: checks.Machine) -> list[Finding]:
        raise RuntimeError("out of cheese")

    def slow(machine: checks.Machine) -> list[Finding]:
        hang.wait(100)
        return []

    monkeypatch.setattr(checks, "CHECKS", {"interface": broken, "http": slow, "disk": lambda machine: []})
    monkeypatch.setattr(checks, "LIMIT_SECONDS", 3.0)
    took: list[str] = []
    found = checks.run(SITE, options=checks.Options(seconds=-5), progress=lambda name, _: took.append(name))
    hang.set()
    assert [(one.check, one.level) for one in found] == [("interface", "note"), ("http", "note")]
    assert "out of cheese" in found[0].sentence
    assert "took more than" in found[1].sentence
    assert sorted(took) == ["disk", "interface"]


def test_without_an_interface_the_rest_is_looked_at() -> None:
    site = site_of(Settings.model_validate({}))
    found = checks.run(site, ["interface", "dhcp-servers", "clock"])
    assert [one.check for one in found] == ["interface", "clock"]
    assert found[0].level == worst(found) == "error"
