"""Whether this machine's own firewall lets through what booting needs, and the words that let it through."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from pxeboot.doctor import iptables, nftables
from pxeboot.doctor import ruleset as rs
from pxeboot.doctor.finding import N_, Finding
from pxeboot.doctor.ruleset import Ruleset, Traffic
from pxeboot.doctor.site import Site, Wire

CHECK: Final = "firewall"
_BROADCAST: Final = IPv4Network("255.255.255.255/32")


def traffic_of(site: Site, wire: Wire, address: str, network: IPv4Network | None) -> list[Traffic]:
    """Everything that must pass on one interface; `address` is ours there, "" = none."""
    name = wire.interface
    us = IPv4Network(address) if address else None
    found = []

    def both(what: str, port: int, **more: Any) -> None:
        found.append(Traffic(name=what, hook="input", protocol="udp", interface=name, dport=port, **more))

    if wire.mode != "off":
        both("DHCP", 67, sport=68, source=IPv4Network("0.0.0.0/32"), target=_BROADCAST, group=True)
        found.append(
            Traffic(
                name="DHCP answers",
                hook="output",
                protocol="udp",
                interface=name,
                sport=67,
                dport=68,
                source=us,
                target=_BROADCAST,
                group=True,
            )
        )
    if wire.mode == "proxy":
        both("PXE", 4011, source=network, target=us)
    if site.tftp_port:
        both("TFTP", site.tftp_port, source=network, target=us)
        # Answers leave from a new port (RFC 1350 §4). Connection tracking sees our first one leave, so what
        # the machine sends to that port is `established`, whatever helper modules there are.
        more: dict[str, Any] = {"protocol": "udp", "interface": name}
        found.append(
            Traffic(name="TFTP data", hook="output", source=us, target=network, sport=rs.EPHEMERAL, **more)
        )
        found.append(
            Traffic(
                name="TFTP acknowledgements",
                hook="input",
                source=network,
                target=us,
                dport=rs.EPHEMERAL,
                state="established",
                **more,
            )
        )
    found.append(
        Traffic(
            name="HTTP",
            hook="input",
            protocol="tcp",
            interface=name,
            dport=site.http_port,
            source=network,
            target=us,
        )
    )
    groups = rs.network_of(f"{site.group_base}/24")
    found.append(
        Traffic(
            name="multicast",
            hook="output",
            protocol="udp",
            interface=name,
            dport=site.multicast_port,
            source=us,
            target=groups,
            group=True,
        )
    )
    found.append(
        Traffic(
            name="multicast reports",
            hook="input",
            protocol="udp",
            interface=name,
            dport=site.multicast_port + 1,
            source=network,
            target=us,
        )
    )
    return found


def judge(wire: Wire, traffic: Iterable[Traffic], rules: Ruleset, manager: str) -> list[Finding]:
    """One finding for each kind of traffic that does not surely pass; one `ok` when all of it does.

    `manager`: who writes the rules (`firewalld`, `ufw`, "" = nobody we know): it decides the remedy's words.
    """
    found = []
    checked = list(traffic)
    for one in checked:
        answer, rule = rules.judge(one)
        if answer == "passes":
            continue
        port = next((port for port in (one.dport, one.sport) if isinstance(port, int)), 0)
        facts: dict[str, Any] = {
            "interface": wire.interface,
            "what": one.name,
            "port": f"{one.protocol}/{port}" if port else f"{one.protocol}/*",
            "protocol": one.protocol,
            "number": port or "1024-65535",
            "hook": one.hook,
            "rule": rule,
            "answer": answer,
        }
        template = (
            N_("The firewall drops %(what)s (%(port)s) on %(interface)s: %(rule)s.")
            if answer == "drops"
            else N_("The firewall may drop %(what)s (%(port)s) on %(interface)s: %(rule)s.")
        )
        level: Any = "error" if answer == "drops" and not one.name.startswith("multicast") else "warning"
        found.append(
            Finding(CHECK, level, f"{wire.interface} {one.name}", template, _remedy(one, manager), facts)
        )
    if not found:
        names = list(dict.fromkeys(one.name for one in checked))
        template = N_("No firewall rule drops %(names)s on %(interface)s.")
        if not rules.chains:
            template = N_("There is no firewall on this machine; nothing drops %(names)s on %(interface)s.")
        facts = {"interface": wire.interface, "names": names}
        found.append(Finding(CHECK, "ok", wire.interface, template, "", facts))
    return found


def _remedy(traffic: Traffic, manager: str) -> str:
    if traffic.state == "established":
        return N_(
            "Accept answers of known connections first: `nft insert rule inet filter input ct state "
            "established,related accept` (with your table's name), or UDP from port 1024 up."
        )
    if traffic.hook == "output":
        return N_("Accept in the output chain: `oifname %(interface)s udp accept`.")
    if manager == "firewalld":
        return N_(
            "`firewall-cmd --permanent --zone=$(firewall-cmd --get-zone-of-interface=%(interface)s) "
            "--add-port=%(number)s/%(protocol)s && firewall-cmd --reload`."
        )
    if manager == "ufw":
        return N_("`ufw allow in on %(interface)s to any port %(number)s proto %(protocol)s`.")
    return N_(
        "Accept it before that rule, e.g. `nft insert rule inet filter input iifname %(interface)s "
        "%(protocol)s dport %(number)s accept` (with your table's name)."
    )


def judge_bridge(wire: Wire, bridge: str, rules: Ruleset, calls_iptables: bool) -> list[Finding]:
    """What crosses our bridge between its ports may meet the forward chains of routed packets."""
    if not bridge or not calls_iptables:
        return []
    crossing = Traffic(name="bridged", hook="forward", protocol="udp", interface=bridge, dport=67, sport=68)
    answer, rule = rules.judge(crossing)
    facts = {"interface": wire.interface, "bridge": bridge, "rule": rule}
    if answer == "passes":
        return []
    return [
        Finding(
            CHECK,
            "warning",
            f"{wire.interface} bridge",
            N_(
                "What crosses the bridge %(bridge)s between its ports meets the forward rules, and one "
                "of them drops it: %(rule)s."
            ),
            N_("`sysctl net.bridge.bridge-nf-call-iptables=0` (containers often set it to 1)."),
            facts,
        )
    ]


def manager_of(rules: Ruleset) -> str:
    """Who writes the rules, by the names it gives its tables and chains."""
    names = " ".join(rules.chains)
    if " firewalld " in names:
        return "firewalld"
    return "ufw" if " ufw-" in names or "ufw-user-input" in names else ""


def read_rules() -> tuple[Ruleset, list[str]]:
    """Every ruleset of this network namespace, and what could not be read.

    Tables that `iptables-nft` made are read by its own words where it is installed: nft shows parts of them
    as opaque.
    """
    problems: list[str] = []
    whole = Ruleset()
    listed = _run("nft", "-j", "list", "ruleset")
    if listed is None:
        if _tables("/proc/modules", "nf_tables"):
            problems.append("nft is not installed (package nftables), so its rules are unseen")
    elif isinstance(listed, int):
        problems.append("nft may not list its rules; that needs root")
    else:
        try:
            whole = nftables.parse(listed)
        except nftables.RulesetError as error:
            problems.append(str(error))
    parts = [whole]
    for command in ("iptables-nft-save", "iptables-legacy-save"):
        if command.startswith("iptables-legacy") and not _tables("/proc/net/ip_tables_names", ""):
            continue  # merely asking would load the old modules
        text = _run(command)
        if not isinstance(text, str):
            continue
        read = iptables.parse(text, command.removesuffix("-save"))
        if command == "iptables-nft-save":
            told = {f"ip {key.split(' ')[1]}" for key in read.chains}
            parts[0] = rs.without(parts[0], told)
        parts.append(read)
    return rs.joined(parts), problems


def read_calls_iptables() -> bool:
    """Whether bridged packets go through the rules of routed ones."""
    return _tables("/proc/sys/net/bridge/bridge-nf-call-iptables", "1")


def _tables(path: str, wanted: str) -> bool:
    try:
        text = Path(path).read_text()
    except OSError:
        return False
    return wanted in text if wanted else bool(text.strip())


def _run(*command: str) -> str | int | None:
    """Its output; its exit status when that is not 0; None when it is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=8)
    except FileNotFoundError:
        return None
    except (OSError, subprocess.SubprocessError):
        return 1
    return done.stdout if done.returncode == 0 else done.returncode
