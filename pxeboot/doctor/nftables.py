"""Reads `nft -j list ruleset` (libnftables-json(5)) into a `Ruleset`; what it cannot read is unknown."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pxeboot.doctor import ruleset as rs
from pxeboot.doctor.ruleset import Chain, Condition, Rule, Ruleset, Traffic, Truth, Verdict

# Families whose chains an IPv4 packet of ours meets; `bridge` sees it, too, but before it is ours.
_FAMILIES: Final = ("ip", "inet", "netdev")
_QUIET: Final = {
    "counter",
    "log",
    "mangle",
    "ct count",
    "notrack",
    "ct helper",
    "ct timeout",
    "meter",
    "set",
    "map",
}


class RulesetError(Exception):
    """The text is no ruleset."""


def parse(text: str) -> Ruleset:
    """The ruleset in the output of `nft -j list ruleset`. Raises RulesetError."""
    try:
        items = json.loads(text)["nftables"]
        return _read(items)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RulesetError(f"nft's ruleset cannot be read: {error!r}") from error


def _read(items: list[dict[str, Any]]) -> Ruleset:
    rules = Ruleset()
    for item in items:
        (kind, about), *_ = item.items()
        if kind == "metainfo" or about.get("family") not in _FAMILIES:
            continue
        table = f"{about['family']} {about.get('table', about.get('name'))}"
        if kind == "chain":
            devices = about.get("dev", [])
            rules.chains[f"{table} {about['name']}"] = Chain(
                key=f"{table} {about['name']}",
                hook=about.get("hook", ""),
                policy=about.get("policy", "accept"),
                priority=int(about.get("prio", 0)),
                devices=(devices,) if isinstance(devices, str) else tuple(devices),
            )
        elif kind in ("set", "map"):
            rules.sets[f"{table} {about['name']}"] = list(about.get("elem", []))
    for item in items:
        about = item.get("rule")
        if about and about.get("family") in _FAMILIES:
            table = f"{about['family']} {about['table']}"
            chain = rules.chains.get(f"{table} {about['chain']}")
            if chain is not None:
                chain.rules.append(_rule(table, chain.key, about.get("expr", [])))
    return rules


def _rule(table: str, chain: str, expressions: list[Any]) -> Rule:
    conditions: list[Condition] = []
    verdict, branches = Verdict("none"), None
    for expression in expressions:
        if not isinstance(expression, dict) or len(expression) != 1:
            conditions.append(rs.unknown)
            continue
        ((name, value),) = expression.items()
        if name == "match":
            conditions.append(_match(table, value))
        elif name in ("accept", "return", "continue"):
            verdict = Verdict("none" if name == "continue" else name)
        elif name in ("drop", "reject"):
            verdict = Verdict("drop")
        elif name in ("jump", "goto"):
            verdict = Verdict(name, f"{table} {value['target']}")
        elif name == "queue":
            verdict = Verdict("unknown")
        elif name == "vmap":
            branches = _vmap(table, value)
        elif name == "xt":  # an iptables rule that has no words of nft's own
            if isinstance(value, dict) and value.get("type") == "target":
                verdict = Verdict("unknown")
            else:
                conditions.append(rs.unknown)
        elif name in ("dnat", "snat", "masquerade", "redirect", "tproxy"):
            verdict = Verdict("accept")
        elif name not in _QUIET:
            conditions.append(rs.unknown)  # limit, quota, fib …
    return Rule(_text(chain, expressions), tuple(conditions), verdict, branches)


def _match(table: str, value: Mapping[str, Any]) -> Condition:
    operator, left, right = value["op"], value["left"], value["right"]

    def hit(traffic: Traffic, rules: Ruleset) -> Truth:
        truth = _compare(left, _values(right, table, rules), traffic, rules)
        return rs.negate(truth) if operator == "!=" else truth

    return hit if operator in ("==", "!=", "in") else rs.unknown


def _vmap(table: str, value: Mapping[str, Any]) -> Callable[[Traffic, Ruleset], list[tuple[Truth, Verdict]]]:
    def branches(traffic: Traffic, rules: Ruleset) -> list[tuple[Truth, Verdict]]:
        found: list[tuple[Truth, Verdict]] = []
        for element in _values(value["data"], table, rules):
            if not isinstance(element, list | tuple) or len(element) != 2:
                continue
            key, action = element
            hit = _compare(value["key"], [_plain(key)], traffic, rules)
            ((name, about),) = action.items() if isinstance(action, dict) else (("none", None),)
            chain = f"{table} {about['target']}" if isinstance(about, dict) and "target" in about else ""
            kind = {"reject": "drop", "queue": "unknown", "continue": "none"}.get(name, name)
            found.append((hit, Verdict(kind, chain)))
            if hit is True:
                return [*((None, v) for h, v in found[:-1] if h is None), found[-1]]
        return found

    return branches


def _values(right: Any, table: str, rules: Ruleset) -> list[Any]:
    """What a right side lists: of a named set, an anonymous one, or the one value."""
    if isinstance(right, str) and right.startswith("@"):
        return [_plain(one) for one in rules.sets.get(f"{table} {right[1:]}", [])]
    if isinstance(right, dict) and "set" in right:
        content = right["set"]
        return [_plain(one) for one in (content if isinstance(content, list) else [content])]
    return [_plain(one) for one in right] if isinstance(right, list) else [_plain(right)]


def _plain(element: Any) -> Any:
    """A set's element without its counter, time-out and comment."""
    if isinstance(element, dict) and "elem" in element:
        return element["elem"].get("val")
    return element


def _compare(left: Any, right: list[Any], traffic: Traffic, rules: Ruleset) -> Truth:
    """Whether what `left` names of the packet is among `right`."""
    if not isinstance(left, dict) or len(left) != 1:
        return None
    ((kind, about),) = left.items()
    if kind == "concat":
        return _concat(about, right, traffic, rules)
    condition = _condition(kind, about, right)
    return condition(traffic, rules) if condition else None


def _condition(kind: str, about: Any, right: list[Any]) -> Condition | None:
    key = about.get("key") if isinstance(about, dict) else about
    if kind == "meta" and key in ("iifname", "iif"):
        return rs.on_interface(right, "in")
    if kind == "meta" and key in ("oifname", "oif"):
        return rs.on_interface(right, "out")
    if kind == "meta" and key == "l4proto":
        return rs.of_protocol(right)
    if kind == "meta" and key in ("nfproto", "protocol"):
        return lambda *_: bool({"ipv4", "ip"} & {str(one).lower() for one in right})
    if kind == "meta" and key == "pkttype":
        return lambda traffic, _: traffic.group == bool({"broadcast", "multicast"} & set(map(str, right)))
    if kind == "ct" and key == "state":
        return rs.state_among(right)
    if kind == "payload" and isinstance(about, dict):
        return _payload(str(about.get("protocol")), str(about.get("field")), right)
    return None


def _payload(protocol: str, field: str, right: list[Any]) -> Condition | None:
    if protocol in ("udp", "tcp", "th") and field in ("sport", "dport"):
        ranges = _ranges(right)
        protocols = () if protocol == "th" else (protocol,)
        which: Any = field
        return rs.port_among(ranges, which, *protocols) if ranges is not None else None
    if protocol == "ip" and field == "protocol":
        return rs.of_protocol(right)
    if protocol == "ip" and field in ("saddr", "daddr"):
        networks = _networks(right)
        return rs.address_among(networks, "source" if field == "saddr" else "target")
    if protocol in ("ip6", "icmp", "icmpv6", "arp", "vlan"):
        return lambda *_: False
    if protocol in ("udp", "tcp", "sctp", "dccp", "igmp"):
        return lambda traffic, _: None if traffic.protocol == protocol else False
    return None


# The services nft prints as names; numbers otherwise (`nft -j` prints numbers unless `-S` is given).
_SERVICES: Final = {"bootps": 67, "bootpc": 68, "tftp": 69, "http": 80, "https": 443, "ssh": 22, "domain": 53}


def _ranges(right: list[Any]) -> list[tuple[int, int]] | None:
    found = []
    for one in right:
        if isinstance(one, dict) and "range" in one:
            first, last = one["range"]
            found.append((int(first), int(last)))
        elif isinstance(one, int):
            found.append((one, one))
        elif isinstance(one, str) and one in _SERVICES:
            found.append((_SERVICES[one], _SERVICES[one]))
        elif one == "*":
            found.append((0, 65535))
        else:
            return None
    return found


def _networks(right: list[Any]) -> list[Any]:
    found = []
    for one in right:
        if isinstance(one, dict) and "prefix" in one:
            found.append(rs.network_of(f"{one['prefix']['addr']}/{one['prefix']['len']}"))
        elif isinstance(one, dict) and "range" in one:
            found += rs.range_networks(*one["range"])
        elif one == "*":
            found.append(rs.network_of("0.0.0.0/0"))
        else:
            found.append(rs.network_of(one))
    return [network for network in found if network is not None]


def _concat(parts: list[Any], right: list[Any], traffic: Traffic, rules: Ruleset) -> Truth:
    """`iifname . udp dport { eth1 . 69, … }`: some element must hold in all its parts."""
    result: Truth = False
    for element in right:
        values = element.get("concat") if isinstance(element, dict) else None
        if not isinstance(values, list) or len(values) != len(parts):
            return None
        truths = [_compare(part, [value], traffic, rules) for part, value in zip(parts, values, strict=True)]
        if all(truth is True for truth in truths):
            return True
        if False not in truths:
            result = None
    return result


def _text(chain: str, expressions: list[Any]) -> str:
    """The rule in words, near enough to nft's own to be found there."""
    return f"{chain}: {' '.join(filter(None, map(_words, expressions)))}"[:300]


def _words(expression: Any) -> str:
    if not isinstance(expression, dict) or len(expression) != 1:
        return str(expression)
    ((name, value),) = expression.items()
    if name == "match":
        operator = "!= " if value.get("op") == "!=" else ""
        return f"{_side(value.get('left'))} {operator}{_side(value.get('right'))}"
    if name in ("jump", "goto"):
        return f"{name} {value.get('target')}"
    if name == "counter":
        return ""
    if name == "vmap":
        return f"{_side(value.get('key'))} vmap …"
    if name == "xt":
        return f"xt {value.get('name')}" if isinstance(value, dict) else "xt"
    return str(name)


def _side(value: Any) -> str:
    if isinstance(value, dict) and len(value) == 1:
        ((name, about),) = value.items()
        if name == "payload":
            return f"{about.get('protocol', '')} {about.get('field', '')}"
        if name in ("meta", "ct"):
            return f"{name} {about.get('key')}" if name == "ct" else str(about.get("key"))
        if name == "set":
            return "{ " + ", ".join(map(_side, about if isinstance(about, list) else [about])) + " }"
        if name == "range":
            return "-".join(map(str, about))
        if name == "prefix":
            return f"{about['addr']}/{about['len']}"
        if name == "elem":
            return _side(about.get("val"))
        if name == "concat":
            return " . ".join(map(_side, about))
        return str(name)
    return ", ".join(map(_side, value)) if isinstance(value, list) else str(value)
