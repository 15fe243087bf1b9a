"""Whether the DHCP settings fit together: networks, pools, routers, reservations, options."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from dhcp.catalog import OPTION_NAMES, OptionError, parse_option
from pxeboot.settings.dhcp import DhcpSettings, ReservationSettings, Subnet, simple_subnet, subnets
from pxeboot.settings.mistake import Mistake, nearest

_ADDRESS = "write it like 10.20.0.10"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_DOMAIN = re.compile(r"(?=.{1,253}\.?\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
                     r"(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?", re.ASCII)  # fmt: skip
MOST_ADDRESSES = 1 << 20  # of one pool: more is a slip of the pen, and would be walked through one by one


def judge_dhcp(dhcp: DhcpSettings, interfaces: Sequence[tuple[str, str]]) -> Iterator[Mistake]:
    """Every mistake of [dhcp] and its tables; `interfaces` are ours, with wanted addresses."""
    yield from _values("dhcp", dhcp)
    if bool(dhcp.pool_start) != bool(dhcp.pool_end):
        key = "dhcp.pool_start" if dhcp.pool_start else "dhcp.pool_end"
        value = dhcp.pool_start or dhcp.pool_end
        yield Mistake(
            key, value, "needs dhcp.pool_start and dhcp.pool_end to go together", "set both or none"
        )
    if dhcp.subnets:
        yield from _without_effect(dhcp)
        tables = subnets(dhcp)
        for table, written in zip(tables, dhcp.subnets, strict=True):
            yield from _values(table.where, written)
            yield from _table(table, dict(interfaces))
        yield from _overlaps(tables)
    elif dhcp.subnet:
        network = _network(dhcp.subnet)
        if network is None:
            yield Mistake("dhcp.subnet", dhcp.subnet, "is not a network", "write it like 10.20.0.0/24")
        else:
            yield from judge_simple(dhcp, network)
    else:
        yield from _reservations("dhcp", dhcp.reservations, None)


def is_ipv4(text: str) -> bool:
    """Whether it is an IPv4 address in dotted notation."""
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def pool_range(text: str) -> tuple[IPv4Address, IPv4Address] | None:
    """First and last address of "10.20.0.100-10.20.0.199", or of one address; None when it is neither."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    try:
        low = IPv4Address(first)
        return low, IPv4Address(last) if dash else low
    except ValueError:
        return None


def _network(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text)
    except ValueError:
        return None


def _values(where: str, said: object) -> Iterator[Mistake]:
    """What is wrong with a value by itself, as it stands in `where`."""
    for name in ("router", "pool_start", "pool_end", "server"):
        value = getattr(said, name, None)
        if value and not is_ipv4(value):
            yield Mistake(f"{where}.{name}", value, "is not an IPv4 address", _ADDRESS)
    for name in ("routers", "dns", "ntp", "exclude"):
        for index, value in enumerate(getattr(said, name, None) or ()):
            if not is_ipv4(value):
                yield Mistake(f"{where}.{name}[{index}]", value, "is not an IPv4 address", _ADDRESS)
    router = getattr(said, "router", None)
    if router and getattr(said, "routers", None):
        yield Mistake(f"{where}.router", router, f"stands beside {where}.routers", "write one of the two")
    domain = getattr(said, "domain", None)
    if domain and not _DOMAIN.fullmatch(domain):
        yield Mistake(
            f"{where}.domain", domain, "is not a domain name", "write it in ASCII, like lab.example"
        )
    for index, name in enumerate(getattr(said, "domain_search", None) or ()):
        if not _DOMAIN.fullmatch(name):
            yield Mistake(
                f"{where}.domain_search[{index}]", name, "is not a domain name", "write it like lab.example"
            )
    yield from _options(where, getattr(said, "options", None) or {})


def _options(where: str, options: Mapping[str, object]) -> Iterator[Mistake]:
    numbers: dict[int, str] = {}
    for name, value in options.items():
        key = f"{where}.options.{name}"
        try:
            code, _ = parse_option(name, value)
        except OptionError as error:
            remedy = error.remedy
            if "no option we know by name" in remedy and "did you mean" not in remedy:
                remedy = f"use its number; {nearest(name, OPTION_NAMES, 'docs/booting.md lists the names')}"
                yield Mistake(key, value, "is no option we know by name", remedy)
                continue
            yield Mistake(key, value, "cannot be sent", remedy)
            continue
        if other := numbers.get(code):
            yield Mistake(key, value, f"is option {code}, as {other} is", "set it once")
        numbers[code] = name


def _without_effect(dhcp: DhcpSettings) -> Iterator[Mistake]:
    for name in ("subnet", "pool_start", "pool_end"):
        if value := getattr(dhcp, name):
            yield Mistake(
                f"dhcp.{name}",
                value,
                "has no effect beside [[dhcp.subnets]]",
                "move it to network or pools of its table",
                "warning",
            )


def judge_simple(dhcp: DhcpSettings, network: IPv4Network) -> Iterator[Mistake]:
    """What [dhcp] says for its one subnet, which is dhcp.subnet or else the interface's network."""
    where = f"dhcp.subnet {network}" if dhcp.subnet else f"{network}, the network of network.interface"
    inside = f"is outside {where}"
    for name in ("pool_start", "pool_end", "router"):
        value = getattr(dhcp, name)
        if value and is_ipv4(value) and IPv4Address(value) not in network:
            yield Mistake(f"dhcp.{name}", value, inside, "choose an address inside it")
    for index, value in enumerate(dhcp.routers):
        if is_ipv4(value) and IPv4Address(value) not in network:
            yield Mistake(f"dhcp.routers[{index}]", value, inside, "choose an address inside it")
    if is_ipv4(dhcp.pool_start) and is_ipv4(dhcp.pool_end):
        simple = simple_subnet(dhcp, str(network), "")
        if all(address in network for address in pool_range(simple.pools[0]) or ()):
            yield from _pools(simple, network, ["dhcp.pool_start"])
    yield from _reservations("dhcp", dhcp.reservations, network)


def _table(table: Subnet, ours: Mapping[str, str]) -> Iterator[Mistake]:
    """One of [[dhcp.subnets]], completed by what it inherits."""
    if not table.network:
        yield Mistake(f"{table.where}.network", None, "is missing", "write it like 10.20.0.0/24")
    if table.interface and table.interface not in ours:
        have = ", ".join(ours) or "none"
        yield Mistake(
            f"{table.where}.interface",
            table.interface,
            f"is no interface of ours (we have: {have})",
            'add it to network.interfaces, or write "" if only relays reach this subnet',
        )
    network = _network(table.network)
    if network is None:
        if table.network:
            yield Mistake(
                f"{table.where}.network", table.network, "is not a network", "write it like 10.20.0.0/24"
            )
        yield from _reservations(table.where, table.reservations, None)
        return
    yield from _pools(table, network, [f"{table.where}.pools[{i}]" for i in range(len(table.pools))])
    if table.mode == "full" and not table.pools and network.num_addresses < 8:
        yield Mistake(
            f"{table.where}.network", table.network, "is too small for a pool of our choice", "set its pools"
        )
    for router in table.routers:
        if is_ipv4(router) and IPv4Address(router) not in network:
            name = (
                "router" if table.key("router") != "dhcp.router" or "routers" not in table.said else "routers"
            )
            yield Mistake(
                table.key(name),
                router,
                f"is outside {table.where}.network {network}",
                f"choose an address inside it, or write {table.where}.router for this subnet",
            )
    yield from _reservations(table.where, table.reservations, network)


def _pools(table: Subnet, network: IPv4Network, keys: Sequence[str]) -> Iterator[Mistake]:
    taken: list[tuple[IPv4Address, IPv4Address, str]] = []
    for text, key in zip(table.pools, keys, strict=True):
        found = pool_range(text)
        if found is None:
            yield Mistake(key, text, "is not a range of addresses", "write it like 10.20.0.100-10.20.0.199")
            continue
        first, last = found
        if first > last:
            yield Mistake(key, text, "ends before it begins", "write the lower address first")
            continue
        if first not in network or last not in network:
            yield Mistake(key, text, f"is outside the network {network}", "choose addresses inside it")
            continue
        if int(last) - int(first) >= MOST_ADDRESSES:
            yield Mistake(key, text, "is larger than any room", f"give at most {MOST_ADDRESSES} addresses")
        for other_first, other_last, other in taken:
            if first <= other_last and other_first <= last:
                yield Mistake(key, text, f"overlaps {other}", "give each address once")
        taken.append((first, last, key))
        if table.server and is_ipv4(table.server) and first <= IPv4Address(table.server) <= last:
            yield Mistake(
                key, text, f"holds our own address {table.server}", "leave it out of the pool", "warning"
            )


def _reservations(
    where: str, reservations: Sequence[ReservationSettings], network: IPv4Network | None
) -> Iterator[Mistake]:
    macs: dict[str, int] = {}
    addresses: dict[str, int] = {}
    for index, one in enumerate(reservations):
        key = f"{where}.reservations[{index}]"
        mac = plain_mac(one.mac)
        if not mac:
            yield Mistake(f"{key}.mac", one.mac, "is not a MAC address", "write it like 52:54:00:12:34:01")
        elif mac in macs:
            yield Mistake(
                f"{key}.mac", one.mac, f"has reservation {macs[mac]} already", "give it one address"
            )
        macs.setdefault(mac, index)
        if not is_ipv4(one.address):
            yield Mistake(f"{key}.address", one.address, "is not an IPv4 address", _ADDRESS)
            continue
        if one.address in addresses:
            other = f"is given to reservation {addresses[one.address]} already"
            yield Mistake(f"{key}.address", one.address, other, "give each address once")
        addresses.setdefault(one.address, index)
        if network is not None and IPv4Address(one.address) not in network:
            yield Mistake(
                f"{key}.address",
                one.address,
                f"is outside the network {network}",
                "choose an address inside it",
            )
        if one.name and not (len(one.name) < 64 and _DOMAIN.fullmatch(one.name)):
            yield Mistake(f"{key}.name", one.name, "is not a host name", "use letters, digits and hyphens")


def plain_mac(text: str) -> str:
    """Lower case with colons, whatever of : - . stood between; "" when it is none."""
    digits = re.sub(r"[:.\-]", "", text.strip()).lower()
    mac = ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))
    return mac if len(digits) == 12 and _MAC.fullmatch(mac) else ""


def _overlaps(tables: Sequence[Subnet]) -> Iterator[Mistake]:
    """Two subnets with one address; the later one is told."""
    known: list[tuple[IPv4Network, Subnet]] = []
    for table in tables:
        network = _network(table.network)
        if network is None:
            continue
        for other, earlier in known:
            if network.overlaps(other):
                yield Mistake(
                    f"{table.where}.network",
                    table.network,
                    f"overlaps {earlier.where}.network {other}",
                    "give each address to one subnet",
                )
        known.append((network, table))
