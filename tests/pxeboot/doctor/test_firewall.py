"""Rulesets as administrators write them, loaded into a namespace, and what the evaluator says of each."""

from __future__ import annotations

import contextlib
import json
import shutil
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.doctor import firewall, iptables, nftables
from pxeboot.doctor.finding import Finding
from pxeboot.doctor.ruleset import Ruleset
from pxeboot.doctor.site import Site, Wire, site_of
from pxeboot.settings import Settings
from tests.pxeboot.doctor.room import Wired

LAN = IPv4Network("10.20.0.0/24")
PROXY = Wire(interface="eth1", mode="proxy")
SITE: Site = site_of(Settings.model_validate({"network": {"interface": "eth1"}}))


def judged(rules: Ruleset) -> dict[str, Finding]:
    """Findings by the traffic's name; {} when nothing is dropped."""
    traffic = firewall.traffic_of(SITE, PROXY, "10.20.0.1", LAN)
    found = firewall.judge(PROXY, traffic, rules, firewall.manager_of(rules))
    return {str(one.data.get("what")): one for one in found if one.level != "ok"}


def answers(rules: Ruleset) -> dict[str, str]:
    return {name: str(one.data["answer"]) for name, one in judged(rules).items()}


@pytest.fixture
def loaded(wire: Wired):  # type: ignore[no-untyped-def]
    """`loaded(text)`: the ruleset as the real nft tells it after it took `text`."""

    def load(text: str) -> Ruleset:
        wire.inside(wire.here, "nft", "flush", "ruleset")
        wire.inside(wire.here, "nft", "-f", "-", text=text)
        return nftables.parse(wire.inside(wire.here, "nft", "-j", "list", "ruleset"))

    return load


def test_no_rules_drop_nothing() -> None:
    assert judged(Ruleset()) == {}


@pytest.mark.net
def test_what_a_stateful_server_firewall_lets_in(loaded) -> None:  # type: ignore[no-untyped-def]
    rules = loaded("""
        table inet filter {
          set ports { type inet_service; flags interval; elements = { 67, 69, 4011, 9000-9100 } }
          chain input {
            type filter hook input priority filter; policy drop;
            ct state vmap { invalid : drop, established : accept, related : accept }
            iifname "lo" accept
            iifname "eth1" udp dport @ports counter accept
            iifname { "eth1", "eth2" } tcp dport { 22, 80 } accept
            ip protocol icmp accept
          }
        }
    """)
    assert answers(rules) == {}


@pytest.mark.net
def test_without_established_tftps_own_ports_are_shut(loaded) -> None:  # type: ignore[no-untyped-def]
    rules = loaded("""
        table inet filter {
          chain input {
            type filter hook input priority filter; policy drop;
            udp dport { 67, 69, 4011, 9001 } accept
            tcp dport 80 accept
          }
        }
    """)
    assert answers(rules) == {"TFTP acknowledgements": "drops"}
    finding = judged(rules)["TFTP acknowledgements"]
    assert finding.level == "error"
    assert "policy drop of chain inet filter input" in finding.sentence
    assert "established" in finding.remedy


@pytest.mark.net
def test_what_depends_on_the_unknown_may_drop(loaded) -> None:  # type: ignore[no-untyped-def]
    rules = loaded("""
        table inet filter {
          chain input {
            type filter hook input priority filter; policy drop;
            ct state established accept
            udp dport { 67, 9001 } accept
            ip saddr 10.20.0.128/25 udp dport 69 accept
            udp dport 4011 limit rate 5/second accept
            ip saddr 10.0.0.0/8 tcp dport 80 accept
          }
        }
    """)
    assert answers(rules) == {"TFTP": "may drop", "PXE": "may drop"}


@pytest.mark.net
def test_jumps_other_interfaces_and_other_hooks(loaded) -> None:  # type: ignore[no-untyped-def]
    rules = loaded("""
        table inet filter {
          chain open {
            accept
          }
          chain lan {
            udp dport { 67, 69 } goto open
            udp dport 4011 reject
          }
          chain input {
            type filter hook input priority filter; policy accept;
            iifname "eth0" udp dport 69 drop
            iifname != "eth0" jump lan
          }
          chain output {
            type filter hook output priority filter;
            oifname "eth1" udp sport 67 drop
          }
        }
        table ip raw {
          chain pre {
            type filter hook prerouting priority raw;
            tcp dport 80 drop
          }
        }
    """)
    assert answers(rules) == {"PXE": "drops", "HTTP": "drops", "DHCP answers": "drops"}
    assert "inet filter lan: udp dport 4011 reject" in judged(rules)["PXE"].sentence


@pytest.mark.net
def test_concatenations_and_maps_of_verdicts(loaded) -> None:  # type: ignore[no-untyped-def]
    rules = loaded("""
        table inet filter {
          chain input {
            type filter hook input priority filter; policy drop;
            ct state established,related accept
            iifname . udp dport { "eth1" . 67, "eth1" . 69, "eth0" . 4011 } accept
            udp dport vmap { 9001 : accept, 5353 : drop }
            tcp dport 80 ct state new accept
          }
        }
    """)
    assert answers(rules) == {"PXE": "drops"}


@pytest.mark.net
def test_multicast_that_is_dropped_is_only_a_warning(loaded) -> None:  # type: ignore[no-untyped-def]
    rules = loaded("""
        table ip f {
          chain o {
            type filter hook output priority filter;
            ip daddr 224.0.0.0/4 drop
          }
        }
    """)
    assert answers(rules) == {"multicast": "drops"}
    assert judged(rules)["multicast"].level == "warning"


@pytest.mark.net
@pytest.mark.parametrize("flavour", ["nft", "legacy"])
def test_iptables_of_both_kinds(wire: Wired, flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which(f"iptables-{flavour}"):
        pytest.skip("iptables is not installed")
    for rule in (
        "-A INPUT -i lo -j ACCEPT",
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A INPUT -i eth1 -p udp -m multiport --dports 67,69 -j ACCEPT",
        "-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT",
        "-P INPUT DROP",
    ):
        try:
            wire.inside(wire.here, f"iptables-{flavour}", *rule.split())
        except RuntimeError as error:
            pytest.skip(f"this kernel cannot do it: {error}")
    saved = wire.inside(wire.here, f"iptables-{flavour}-save")
    assert answers(iptables.parse(saved)) == {"PXE": "drops", "multicast reports": "drops"}
    # The whole reader, in the namespace: nft's own view of the same rules is not counted twice.
    found = wire.doctor("firewall", network={"interface": "eth0"})
    told = {one["data"]["what"]: one["data"]["answer"] for one in found if "what" in one["data"]}
    assert told["TFTP"] == "drops"


UFW = """
*filter
:INPUT DROP [0:0]
:OUTPUT ACCEPT [0:0]
:ufw-before-input - [0:0]
:ufw-user-input - [0:0]
:ufw-not-local - [0:0]
-A INPUT -j ufw-before-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -j ufw-user-input
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN
-A ufw-not-local -m limit --limit 3/min -j LOG
-A ufw-not-local -j DROP
-A ufw-user-input -p tcp -m tcp --dport 80 -j ACCEPT
-A ufw-user-input -p udp -m udp --dport 67:69 -j ACCEPT
COMMIT
"""


def test_ufw_is_followed_through_its_chains_and_named() -> None:
    rules = iptables.parse(UFW)
    assert firewall.manager_of(rules) == "ufw"
    found = judged(rules)
    assert {name: one.data["answer"] for name, one in found.items()} == {
        "PXE": "drops",
        "multicast reports": "drops",
    }
    assert found["PXE"].remedy == "`ufw allow in on eth1 to any port 4011 proto udp`."


def test_a_container_engines_forward_policy_hits_bridged_frames() -> None:
    rules = iptables.parse("*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n")
    [warning] = firewall.judge_bridge(Wire(interface="br0"), "br0", rules, True)
    assert "meets the forward rules" in warning.sentence
    assert firewall.judge_bridge(Wire(interface="br0"), "br0", rules, False) == []


@given(st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
       | st.dictionaries(st.sampled_from(["rule", "chain", "expr", "match", "family", "table", "name", "left",
       "right", "op", "vmap", "set", "payload", "meta", "key", "data"]), inner, max_size=4)))  # fmt: skip
def test_any_json_is_a_ruleset_or_our_error(value: object) -> None:
    with contextlib.suppress(nftables.RulesetError):
        answers(nftables.parse(json.dumps({"nftables": value})))


@given(st.text(alphabet="-AINPUTjpmsdudport 0123456789.:!*\n,\"'", max_size=200))
def test_any_text_is_an_iptables_ruleset(text: str) -> None:
    answers(iptables.parse("*filter\n:INPUT DROP [0:0]\n-A INPUT " + text))


def test_the_bridge_setting_is_read_where_it_exists(tmp_path: Path) -> None:
    (tmp_path / "flag").write_text("1\n")
    assert firewall._tables(str(tmp_path / "flag"), "1")
    assert not firewall._tables(str(tmp_path / "absent"), "1")
