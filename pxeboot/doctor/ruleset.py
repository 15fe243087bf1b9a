"""A firewall as a value, and the question whether it lets one kind of traffic through.

Three-valued: a rule may match, not match, or depend on what we do not know (rate limits, addresses of
clients, matches we cannot read). So the answer is `passes`, `drops` or `may drop`, with the rule's own text.
The parsers are `nftables` and `iptables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Literal

Truth = bool | None
"""None: it depends on what we do not know."""
Answer = Literal["passes", "may drop", "drops"]

MOST_STEPS: Final = 20_000
HIGH: Final = (1024, 65535)
"""Where firmware chooses its own ports."""
EPHEMERAL: Final = (32768, 60999)
"""Where the kernel chooses ours (ip_local_port_range's default)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One kind of packet that must come through.

    Attributes:
        name: what it is for, in a word people know.
        hook: `input`, `output` or `forward`.
        protocol: `udp`, `tcp` or `igmp`.
        interface: where it comes in (`input`, `forward`) or goes out (`output`).
        sport, dport: a port, or the range it is chosen from.
        source, target: an address, or the network it lies in; None = unknown.
        state: what connection tracking says of it.
        group: it goes to a multicast group or to everybody.
    """

    name: str
    hook: str
    protocol: str
    interface: str
    sport: int | tuple[int, int] = HIGH
    dport: int | tuple[int, int] = HIGH
    source: IPv4Network | None = None
    target: IPv4Network | None = None
    state: str = "new"
    group: bool = False


Condition = Callable[[Traffic, "Ruleset"], Truth]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule does with a packet that matches. `kind`: accept drop return jump goto none unknown."""

    kind: str
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """All `conditions` must hold; then `verdict`. A `table` verdict decides by itself (verdict maps)."""

    text: str
    conditions: tuple[Condition, ...]
    verdict: Verdict
    table: Callable[[Traffic, Ruleset], list[tuple[Truth, Verdict]]] | None = None


@dataclass(slots=True)
class Chain:
    """A list of rules; a base chain has a hook and a policy, and looks only at `devices` if it names any."""

    key: str  # family table name
    rules: list[Rule] = field(default_factory=list)
    hook: str = ""
    policy: str = "accept"
    priority: int = 0
    devices: tuple[str, ...] = ()


@dataclass(slots=True)
class Ruleset:
    """Chains and named sets, by `family table name`."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, list[object]] = field(default_factory=dict)

    @property
    def tables(self) -> set[str]:
        return {key.rpartition(" ")[0] for key in self.chains}

    def judge(self, traffic: Traffic) -> tuple[Answer, str]:
        """The answer, and the text of the rule (or policy) that gives it; "" when it passes."""
        doubt = ""
        bases = [chain for chain in self.chains.values() if chain.hook in _HOOKS[traffic.hook]]
        for chain in sorted(bases, key=lambda chain: chain.priority):
            if chain.devices and traffic.interface not in chain.devices:
                continue
            end = _Walk(self, traffic).chain(chain)
            kind = end.kind or chain.policy
            text = end.text or f"policy {chain.policy} of chain {chain.key}"
            if kind == "drop" and not end.may_accept:
                return "drops", text
            doubt = doubt or (text if kind == "drop" else end.may_drop)
        return ("may drop", doubt) if doubt else ("passes", "")


# Hooks a packet passes: those before routing decide as well.
_HOOKS: Final = {
    "input": {"ingress", "prerouting", "input"},
    "output": {"output", "postrouting"},
    "forward": {"ingress", "prerouting", "forward", "postrouting"},
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a chain ended: `kind` accept, drop, return, or "" (its end was reached), by the rule `text`.

    Before that, `may_accept`: some rule may have let it through already; `may_drop`: this one may have
    dropped it.
    """

    kind: str
    text: str = ""
    may_accept: bool = False
    may_drop: str = ""


class _Walk:
    """One packet on its way through one base chain."""

    def __init__(self, rules: Ruleset, traffic: Traffic) -> None:
        self._rules, self._traffic = rules, traffic
        self._steps = 0

    def chain(self, chain: Chain, depth: int = 0) -> _Outcome:
        """Follow the rules until one decides for sure."""
        may_accept, may_drop = False, ""
        for rule in chain.rules:
            self._steps += 1
            if self._steps > MOST_STEPS or depth > 32:
                return _Outcome("", "", True, may_drop or f"{chain.key}: too many rules to follow")
            for hit, verdict in self._branches(rule):
                if hit is False or verdict.kind == "none":
                    continue
                end = self._verdict(rule, verdict, depth)
                may_accept |= end.may_accept
                may_drop = may_drop or end.may_drop
                if hit is True:
                    if end.kind in ("accept", "drop"):
                        return _Outcome(end.kind, end.text, may_accept, may_drop)
                    if end.kind == "return" or verdict.kind == "goto":
                        return _Outcome("", "", may_accept, may_drop)
                elif end.kind == "drop":
                    may_drop = may_drop or end.text
                elif end.kind in ("accept", "return"):  # it may not see the rules below
                    may_accept = True
        return _Outcome("", "", may_accept, may_drop)

    def _branches(self, rule: Rule) -> list[tuple[Truth, Verdict]]:
        matched: Truth = True
        for condition in rule.conditions:
            matched = _both(matched, condition(self._traffic, self._rules))
            if matched is False:
                return []
        if rule.table is None:
            return [(matched, rule.verdict)]
        return [(_both(matched, hit), verdict) for hit, verdict in rule.table(self._traffic, self._rules)]

    def _verdict(self, rule: Rule, verdict: Verdict, depth: int) -> _Outcome:
        if verdict.kind == "unknown":
            return _Outcome("", "", True, rule.text)
        if verdict.kind not in ("jump", "goto"):
            return _Outcome(verdict.kind, rule.text)
        chain = self._rules.chains.get(verdict.chain)
        return self.chain(chain, depth + 1) if chain else _Outcome("")


def _both(one: Truth, other: Truth) -> Truth:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def negate(truth: Truth) -> Truth:
    """Not, where unknown stays unknown."""
    return None if truth is None else not truth


# --- the conditions both parsers speak


def of_protocol(names: Iterable[str]) -> Condition:
    """Layer 4 protocol is one of these (names or numbers)."""
    numbers = {"6": "tcp", "17": "udp", "2": "igmp", "1": "icmp"}
    wanted = {numbers.get(str(name).lower(), str(name).lower()) for name in names}
    return lambda traffic, _: traffic.protocol in wanted


def on_interface(names: Iterable[str], direction: Literal["in", "out"]) -> Condition:
    """Arrives on, or leaves by, one of these; `eth*` and `eth+` are beginnings."""
    wanted = [str(name) for name in names]

    def hit(traffic: Traffic, _: Ruleset) -> Truth:
        if (direction == "out") != (traffic.hook == "output"):
            return None if traffic.hook == "forward" else False
        return any(
            traffic.interface.startswith(name[:-1])
            if name.endswith(("*", "+"))
            else traffic.interface == name
            for name in wanted
        )

    return hit


def port_among(
    ranges: Sequence[tuple[int, int]], which: Literal["sport", "dport"], *protocols: str
) -> Condition:
    """Its port lies in one of these ranges, and it is of one of `protocols` (none: any with ports)."""

    def hit(traffic: Traffic, _: Ruleset) -> Truth:
        if traffic.protocol == "igmp" or (protocols and traffic.protocol not in protocols):
            return False
        port = traffic.sport if which == "sport" else traffic.dport
        low, high = port if isinstance(port, tuple) else (port, port)
        if any(first <= low and high <= last for first, last in ranges):
            return True
        return None if any(first <= high and low <= last for first, last in ranges) else False

    return hit


def address_among(networks: Sequence[IPv4Network], which: Literal["source", "target"]) -> Condition:
    """Its address lies in one of these networks."""

    def hit(traffic: Traffic, _: Ruleset) -> Truth:
        known = traffic.source if which == "source" else traffic.target
        if known is None:
            return True if any(network.prefixlen == 0 for network in networks) else None
        if any(known.subnet_of(network) for network in networks):
            return True
        return None if any(known.overlaps(network) for network in networks) else False

    return hit


def state_among(states: Iterable[str]) -> Condition:
    """Connection tracking calls it one of these."""
    wanted = {str(state).lower() for state in states}
    return lambda traffic, _: traffic.state in wanted


def unknown(_: Traffic, __: Ruleset) -> Truth:
    """Something we cannot read or cannot know."""
    return None


def inverted(condition: Condition) -> Condition:
    """The opposite of a condition."""
    return lambda traffic, rules: negate(condition(traffic, rules))


def network_of(text: str) -> IPv4Network | None:
    """An address, a prefix or a range's start; None: not IPv4."""
    try:
        return IPv4Network(str(text), strict=False)
    except ValueError:
        return None


def range_networks(first: str, last: str) -> list[IPv4Network]:
    """An address range as prefixes; [] when it is none."""
    import ipaddress

    try:
        return list(ipaddress.summarize_address_range(IPv4Address(first), IPv4Address(last)))
    except (ValueError, TypeError):
        return []


def without(rules: Ruleset, tables: Iterable[str]) -> Ruleset:
    """The ruleset without these tables (`family table`)."""
    gone = set(tables)
    kept = {key: chain for key, chain in rules.chains.items() if key.rpartition(" ")[0] not in gone}
    return replace(rules, chains=kept)


def joined(rulesets: Iterable[Ruleset]) -> Ruleset:
    """Several rulesets that all apply."""
    whole = Ruleset()
    for one in rulesets:
        whole.chains |= one.chains
        whole.sets |= one.sets
    return whole
