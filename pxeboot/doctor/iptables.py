"""Reads the output of `iptables-save` into a `Ruleset`; what it cannot read counts as unknown."""

from __future__ import annotations

import shlex
from typing import Final, Literal

from pxeboot.doctor import ruleset as rs
from pxeboot.doctor.ruleset import Chain, Condition, Rule, Ruleset, Verdict

_HOOKS: Final = {
    "INPUT": "input",
    "OUTPUT": "output",
    "FORWARD": "forward",
    "PREROUTING": "prerouting",
    "POSTROUTING": "postrouting",
}
_PRIORITIES: Final = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
_VERDICTS: Final = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "REJECT": "drop",
    "RETURN": "return",
    "QUEUE": "unknown",
    "NFQUEUE": "unknown",
}
# Targets that let the packet go on.
_QUIET: Final = {
    "LOG",
    "NFLOG",
    "ULOG",
    "MARK",
    "CONNMARK",
    "CT",
    "TRACE",
    "CHECKSUM",
    "TCPMSS",
    "DSCP",
    "TOS",
}
_NO_ARGUMENT: Final = {"--fragment", "-f", "--ashort"}


def parse(text: str, family: str = "iptables") -> Ruleset:
    """The ruleset; lines that are no rules are left out. Never raises."""
    rules = Ruleset()
    table = "filter"
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, _, rest = line[1:].partition(" ")
            policy = rest.split(" ")[0].lower()
            rules.chains[f"{family} {table} {name}"] = Chain(
                key=f"{family} {table} {name}",
                hook=_HOOKS.get(name, ""),
                policy="drop" if policy == "drop" else "accept",
                priority=_PRIORITIES.get(table, 0),
            )
        elif line.startswith("-A "):
            try:
                words = shlex.split(line)
            except ValueError:
                words = line.split()
            chain = rules.chains.get(f"{family} {table} {words[1]}") if len(words) > 1 else None
            if chain is not None:
                chain.rules.append(_rule(f"{family} {table}", line, words[2:]))
    return rules


def _rule(table: str, line: str, words: list[str]) -> Rule:
    conditions: list[Condition] = []
    verdict = Verdict("none")
    protocol, negated, at = "", False, 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "!":
            negated = True
            continue
        value = ""
        if word not in _NO_ARGUMENT and at < len(words) and not words[at].startswith("-"):
            value = words[at]
            at += 1
        if word in ("-j", "-g"):
            verdict = _target(table, word, value)
            break  # what follows belongs to the target
        if word == "-p":
            protocol = value
        condition = _condition(word, value, protocol)
        if condition is not None:
            conditions.append(rs.inverted(condition) if negated else condition)
        negated = False
    return Rule(f"{table}: {line}"[:300], tuple(conditions), verdict)


def _target(table: str, word: str, name: str) -> Verdict:
    if name in _VERDICTS:
        return Verdict(_VERDICTS[name])
    if name in _QUIET:
        return Verdict("none")
    if name in ("DNAT", "SNAT", "MASQUERADE", "REDIRECT"):
        return Verdict("accept")
    return Verdict("goto" if word == "-g" else "jump", f"{table} {name}")


def _condition(word: str, value: str, protocol: str) -> Condition | None:
    """None: it adds nothing (`-m udp`, a comment)."""
    match word:
        case "-p" | "--protocol":
            return None if value == "all" else rs.of_protocol([value])
        case "-i" | "--in-interface":
            return rs.on_interface([value], "in")
        case "-o" | "--out-interface":
            return rs.on_interface([value], "out")
        case "--dport" | "--dports" | "--destination-port":
            return _ports(value, "dport", protocol)
        case "--sport" | "--sports" | "--source-port":
            return _ports(value, "sport", protocol)
        case "--ctstate" | "--state":
            return rs.state_among(value.split(","))
        case "-s" | "-d":
            networks = [network for part in value.split(",") if (network := rs.network_of(part))]
            return rs.address_among(networks, "source" if word == "-s" else "target")
        case "-m":
            return None if value in _READABLE else rs.unknown
        case "--pkt-type" | "--dst-type":
            group = value.lower() in ("broadcast", "multicast")
            return (lambda traffic, _: traffic.group) if group else (lambda traffic, _: not traffic.group)
        case "--comment" | "--icmp-type":
            return None
    return rs.unknown


# Modules whose words are all read above; of the others something is unknown in any case.
_READABLE: Final = {"udp", "tcp", "comment", "conntrack", "state", "multiport", "pkttype", "addrtype", "icmp"}


def _ports(value: str, which: Literal["sport", "dport"], protocol: str) -> Condition:
    ranges = []
    for part in value.split(","):
        first, _, last = part.partition(":")
        try:
            ranges.append((int(first or 0), int(last) if last else (65535 if ":" in part else int(first))))
        except ValueError:
            return rs.unknown
    return rs.port_among(ranges, which, *([protocol] if protocol in ("udp", "tcp") else []))
