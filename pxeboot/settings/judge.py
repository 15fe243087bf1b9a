"""Whether settings of the right types fit together: all that can be said without looking at a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from imaging.sshkeys import KeyInvalid, checked_key
from pxeboot.settings.judge_dhcp import is_ipv4, judge_dhcp
from pxeboot.settings.limits import EXAMPLE, parse_cap, parse_limit
from pxeboot.settings.mistake import Mistake
from pxeboot.settings.sections import Settings

_ADDRESS = "write it like 10.20.0.10"


def judge(settings: Settings) -> Iterator[Mistake]:
    """Every mistake, in the order of the file."""
    yield from _server(settings)
    yield from _network(settings)
    yield from judge_dhcp(settings.dhcp, interfaces(settings))
    host = settings.http.host
    if host and not is_ipv4(host):
        yield Mistake("http.host", host, "is not an IPv4 address", _ADDRESS)
    socket = settings.http.unix_socket
    if "\0" in socket:
        yield Mistake("http.unix_socket", socket, "has a zero byte", "write a path")
    elif len(socket.encode(errors="replace")) > 107:  # sun_path, unix(7)
        yield Mistake("http.unix_socket", socket, "is too long for a socket", "use at most 107 characters")
    base = settings.multicast.group_base
    if not is_ipv4(base):
        yield Mistake(
            "multicast.group_base", base, "is not an IPv4 address", "239.192.0.0 is the usual choice"
        )
    elif not IPv4Address(base).is_multicast:
        yield Mistake(
            "multicast.group_base", base, "is not a multicast address", "239.192.0.0 is the usual choice"
        )
    elif int(IPv4Address(base)) + settings.multicast.group_count - 1 > int(IPv4Address("239.255.255.255")):
        yield Mistake(
            "multicast.group_count",
            settings.multicast.group_count,
            f"goes beyond 239.255.255.255 from {base}",
            "use a lower group_base or fewer groups",
        )
    for index, key in enumerate(settings.shell.authorized_keys):
        try:
            checked_key(key)
        except KeyInvalid as error:
            yield Mistake(f"shell.authorized_keys[{index}]", key[:60], "is no public SSH key", str(error))
    yield from _bandwidth(settings)
    template = settings.registration.name_template
    if "#" not in template:
        yield Mistake(
            "registration.name_template", template, "has no # for the counter", 'write it like "PC-###"'
        )


def interfaces(settings: Settings) -> list[tuple[str, str]]:
    """(interface, wanted address or "") of every interface that faces machines, the usual one first.

    What is not written rightly is left out; `judge` tells.
    """
    found = {}
    network = settings.network
    if network.interface:
        found[network.interface] = network.address
    for text in network.interfaces:
        name, _, address = text.partition("=")
        if name.strip() and name.strip() not in found:
            found[name.strip()] = address.strip()
    return list(found.items())


def _server(settings: Settings) -> Iterator[Mistake]:
    for key, path in (
        ("server.data_dir", settings.server.data_dir),
        ("images.store_dir", settings.images.store_dir),
        ("images.exchange_dir", settings.images.exchange_dir),
    ):
        if path is not None and "\0" in str(path):
            yield Mistake(key, str(path), "has a zero byte", "write a path like /var/lib/pxeboot")
    yield from _zone("server.zone", settings.server.zone)


def _zone(key: str, zone: str) -> Iterator[Mistake]:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield Mistake(key, zone, "is not a time zone", "write it like Europe/Paris")


def _bandwidth(settings: Settings) -> Iterator[Mistake]:
    rules, known = settings.bandwidth, {name for name, _ in interfaces(settings)}
    if rules.zone:
        yield from _zone("bandwidth.zone", rules.zone)
    named: dict[str, tuple[list[str], Callable[[str], str], str]] = {
        "caps": (rules.caps, lambda text: parse_cap(text)[0], 'write it like "eth2 = 500 Mbit/s"'),
        "limits": (rules.limits, lambda text: parse_limit(text).interface, EXAMPLE),
    }
    for key, (texts, parse, example) in named.items():
        for index, text in enumerate(texts):
            place = f"bandwidth.{key}[{index}]"
            try:
                interface = parse(text)
            except ValueError as error:
                yield Mistake(place, text, str(error), example)
                continue
            if interface and interface not in known:
                yield Mistake(
                    place,
                    text,
                    f"names {interface}, which is no interface of [network]",
                    f"use one of: {', '.join(sorted(known)) or 'none is set'}",
                )


def _network(settings: Settings) -> Iterator[Mistake]:
    network = settings.network
    if network.address and not is_ipv4(network.address):
        yield Mistake("network.address", network.address, "is not an IPv4 address", _ADDRESS)
    elif network.address and not network.interface:
        yield Mistake(
            "network.address", network.address, "has no interface", "set network.interface, too", "warning"
        )
    yield from _interface_name("network.interface", network.interface, network.interface)
    seen = {network.interface} - {""}
    for index, text in enumerate(network.interfaces):
        key = f"network.interfaces[{index}]"
        name, equals, address = (part.strip() for part in text.partition("="))
        if not name:
            yield Mistake(key, text, "names no interface", 'write it like "eth2" or "eth2=10.30.0.1"')
            continue
        if not network.interface:
            yield Mistake(
                key, text, "is a further interface, but there is no first one", "set network.interface"
            )
        yield from _interface_name(key, text, name)
        if equals and not is_ipv4(address):
            yield Mistake(key, text, "has no IPv4 address after the =", 'write it like "eth2=10.30.0.1"')
        if name in seen:
            yield Mistake(key, text, f"names {name} a second time", "name each interface once")
        seen.add(name)


def _interface_name(key: str, value: str, name: str) -> Iterator[Mistake]:
    # net/core/dev.c, dev_valid_name()
    if (
        len(name.encode(errors="replace")) > 15
        or "/" in name
        or "\0" in name
        or any(c.isspace() for c in name)
    ):
        yield Mistake(key, value, "cannot be an interface's name", "look names up with `ip link`")


def network_of(text: str) -> IPv4Network | None:
    """A network in CIDR notation, None when it is none."""
    try:
        return IPv4Network(text)
    except ValueError:
        return None
