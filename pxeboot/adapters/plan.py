"""What is served where: from the settings and the interfaces as they are, with everything that does not fit.

The settings' own judges need no machine; here the interfaces are known, and the engine's and the policy's
own checks are asked. `pxeboot check`, the daemon's start and its reload all use this one function.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from dhcp.catalog import OptionError, parse_option
from dhcp.subnets import Reservation, SubnetConfig, SubnetError
from pxeboot.adapters.interfaces import InterfaceFacts, key_of
from pxeboot.boot.rules import BootRules, RuleError, check_arguments
from pxeboot.settings import Mistake, Settings
from pxeboot.settings.dhcp import Subnet, simple_subnet, subnets
from pxeboot.settings.judge_dhcp import judge_simple, plain_mac, pool_range

_SMALLEST: Final = 8  # addresses of a network for which we choose a pool ourselves


@dataclass(frozen=True)
class Plan:
    """What the daemon serves. `interfaces`: the usual one first; `subnets`: all, also those of mode off."""

    interfaces: tuple[InterfaceFacts, ...]
    subnets: tuple[SubnetConfig, ...]
    mistakes: tuple[Mistake, ...]

    @property
    def served(self) -> tuple[SubnetConfig, ...]:
        """The subnets in which we answer DHCP."""
        return tuple(subnet for subnet in self.subnets if subnet.mode != "off")

    @property
    def gives_addresses(self) -> bool:
        """Whether any subnet is of mode full."""
        return any(subnet.mode == "full" for subnet in self.subnets)

    @property
    def beside(self) -> tuple[IPv4Network, ...]:
        """Where other servers give the addresses: subnets of mode proxy and off, and interfaces without a
        subnet of ours."""
        known = [subnet.network for subnet in self.subnets]
        others = [one.network for one in self.interfaces if not any(one.network.overlaps(n) for n in known)]
        return (*(subnet.network for subnet in self.subnets if subnet.mode != "full"), *others)

    def modes_at(self, interface: str) -> set[str]:
        """The modes of the subnets whose requests may arrive here; relays may come in anywhere."""
        return {subnet.mode for subnet in self.served if subnet.interface in (interface, None)}


def make_plan(settings: Settings, interfaces: Sequence[InterfaceFacts]) -> Plan:
    """Work it out. Mistakes are told, not raised; with errors among them the plan is not to be used."""
    mistakes: list[Mistake] = []
    made: list[SubnetConfig] = []
    first = interfaces[0] if interfaces else None
    if settings.dhcp.subnets:
        wanted = [_placed(table, interfaces) for table in subnets(settings.dhcp)]
    elif first is not None:
        wanted = [simple_subnet(settings.dhcp, str(first.network), first.name)]
        if not settings.dhcp.subnet:
            mistakes += judge_simple(settings.dhcp, first.network)
    else:
        wanted = []
    for table in wanted:
        mistakes += _beside_the_interface(table, interfaces)
        config = _config(table, interfaces, mistakes)
        if config is not None:
            made.append(config)
    mistakes += _unserved(settings, interfaces, made)
    mistakes += _boot_rules(settings)
    return Plan(tuple(interfaces), tuple(made), tuple(mistakes))


def together(told: Iterable[Mistake], plan: Plan, file: Path | None) -> list[Mistake]:
    """What reading told and what the plan adds, each once; nothing more about values wrong anyway."""
    found = list(told)
    wrong = [one.key for one in found if one.level == "error"]
    known = {(one.key, one.what) for one in found}
    for one in plan.mistakes:
        follows = any(_within(one.key, key) or _within(key, one.key) for key in wrong)
        if not follows and (one.key, one.what) not in known:
            known.add((one.key, one.what))
            found.append(one)
    return with_source(found, file)


def _within(key: str, outer: str) -> bool:
    return key == outer or key.startswith((f"{outer}.", f"{outer}["))


def with_source(mistakes: Iterable[Mistake], file: Path | None) -> list[Mistake]:
    """Mistakes that only the machine shows, with the file that they are corrected in."""
    return [replace(one, source=one.source or str(file or "settings")) for one in mistakes]


def _placed(table: Subnet, interfaces: Sequence[InterfaceFacts]) -> Subnet:
    """A table that names no interface belongs to the one with an address in it."""
    if table.interface is not None:
        return table
    network = _network(table)
    inside = next((one.name for one in interfaces if network and IPv4Address(one.address) in network), "")
    return replace(table, interface=inside)


def _network(table: Subnet) -> IPv4Network | None:
    try:
        return IPv4Network(table.network)
    except ValueError:
        return None


def _config(
    table: Subnet, interfaces: Sequence[InterfaceFacts], mistakes: list[Mistake]
) -> SubnetConfig | None:
    network = _network(table)
    if network is None:
        return None  # told by the settings' judge
    here = next((one for one in interfaces if one.name == table.interface), None)
    ranges = [(str(found[0]), str(found[1])) for text in table.pools if (found := pool_range(text))]
    if not table.pools and table.mode == "full":
        if network.num_addresses < _SMALLEST:
            mistakes.append(_too_small(table))
            return None
        ranges = [default_pool(network)]
    options: dict[int, bytes] = {}
    try:
        if table.domain_search:
            options.update([parse_option("domain-search", list(table.domain_search))])
        options.update(parse_option(name, value) for name, value in table.options.items())
    except OptionError:
        return None  # told by the settings' judge
    # All of them, for a probe never finds ourselves.
    all_ours = {address for one in interfaces for address in (one.address, *one.others)}
    ours = sorted(address for address in all_ours if IPv4Address(address) in network)
    try:
        return SubnetConfig(
            network=network,
            mode=table.mode,
            interface=table.interface or None,
            ranges=tuple(ranges),
            exclusions=(*table.exclude, *ours),
            reservations={
                plain_mac(one.mac): Reservation(one.address, one.name) for one in table.reservations
            },
            server=table.server or (here.address if here else None),
            routers=table.routers,
            dns=table.dns,
            domain=table.domain,
            ntp=table.ntp,
            options=options,
            authoritative=table.authoritative,
            lease_seconds=table.lease_seconds,
            pxe_lease_seconds=table.pxe_lease_seconds,
            conflict_probe=table.conflict_probe,
            bootp=table.bootp,
            proxy_style=table.proxy_style,
        )
    except SubnetError as error:
        key = _KEYS.get(error.key, error.key)
        mistakes.append(Mistake(table.key(key), str(error.value), "cannot be served", error.remedy))
        return None


_KEYS: Final = {"ranges": "pools", "exclusions": "exclude"}


def default_pool(network: IPv4Network) -> tuple[str, str]:
    """The upper half of a network: people give fixed addresses from below."""
    middle = int(network.network_address) + network.num_addresses // 2
    return str(IPv4Address(middle)), str(IPv4Address(int(network.broadcast_address) - 1))


def _too_small(table: Subnet) -> Mistake:
    if table.where == "dhcp":
        remedy = "set dhcp.pool_start and dhcp.pool_end"
        return Mistake("dhcp.subnet", table.network, "is too small for a pool of our choice", remedy)
    return Mistake(
        f"{table.where}.network", table.network, "is too small for a pool of our choice", "set its pools"
    )


def _beside_the_interface(table: Subnet, interfaces: Sequence[InterfaceFacts]) -> Iterator[Mistake]:
    """What does not fit our own addresses."""
    network = _network(table)
    if network is None or table.mode == "off":
        return
    key = "dhcp.subnet" if table.where == "dhcp" else f"{table.where}.network"
    here = next((one for one in interfaces if one.name == table.interface), None)
    if here is not None and IPv4Address(here.address) not in network:
        yield Mistake(
            key,
            table.network,
            f"does not hold our address on {here.name}, {here.address}",
            "its machines reach us through a router only; check network.interface and network.address",
            "warning",
        )
    ours = {one.address for one in interfaces}
    if table.server and table.server not in ours:
        have = ", ".join(sorted(ours)) or "none"
        what = f"is no address of ours (we have: {have})"
        yield Mistake(
            f"{table.where}.server", table.server, what, "machines ask there for boot files", "warning"
        )
    for index, text in enumerate(table.pools):
        found = pool_range(text)
        for address in sorted(ours - {table.server}):
            if found and found[0] <= IPv4Address(address) <= found[1]:
                name = "dhcp.pool_start" if table.where == "dhcp" else f"{table.where}.pools[{index}]"
                yield Mistake(
                    name,
                    text,
                    f"holds our own address {address}, which is never given",
                    "leave it out of the pool",
                    "warning",
                )


def _unserved(
    settings: Settings, interfaces: Sequence[InterfaceFacts], made: Sequence[SubnetConfig]
) -> Iterator[Mistake]:
    """Interfaces where machines will wait for DHCP in vain."""
    if not settings.dhcp.enabled:
        return
    if settings.dhcp.subnets and not settings.network.interface:
        what = "are served nowhere, for there is no interface"
        yield Mistake("dhcp.subnets", None, what, "set network.interface", "warning")
    if settings.dhcp.mode == "off" and not settings.dhcp.subnets:
        return
    named = {table.interface for table in settings.dhcp.subnets}
    for one in interfaces:
        if one.name in named or any(subnet.interface == one.name for subnet in made):
            continue
        key, value = key_of(settings, one.name)
        yield Mistake(
            key,
            value,
            f"has TFTP and HTTP but no DHCP: no [[dhcp.subnets]] table is for {one.network}",
            'add one (mode = "off" if another server there names our boot files)',
            "warning",
        )


def _boot_rules(settings: Settings) -> Iterator[Mistake]:
    boot = settings.boot
    for key in ("local_boot", "default", "menu"):
        try:
            BootRules.parse({key: getattr(boot, key)})
        except RuleError as error:
            yield Mistake(f"boot.{key}", getattr(boot, key), "cannot be meant", error.remedy.rstrip("."))
    try:
        check_arguments("kernel_arguments", " ".join(boot.kernel_arguments.split()))
    except RuleError as error:
        remedy = error.remedy.rstrip(".")
        yield Mistake("boot.kernel_arguments", boot.kernel_arguments, "cannot be meant", remedy)
