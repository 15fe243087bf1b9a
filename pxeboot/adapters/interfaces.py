"""The interfaces that face machines, as the kernel has them: address, network, state; and their changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from pxeboot.settings import Mistake, Settings
from pxeboot.settings import interfaces as wanted_interfaces

log = logging.getLogger("pxeboot")

LOOK_SECONDS = 1.0  # between two looks for an address that is late
AGAIN_SECONDS = 5.0  # before changes are followed anew
IFF_UP, IFF_RUNNING = 0x1, 0x40  # linux/if.h
_LINKS, _ADDRESSES = 0x1, 0x10  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR (rtnetlink(7))


@dataclass(frozen=True)
class InterfaceFacts:
    """One address of an interface of ours. `up`: switched on; `running`: with a carrier, too; `others`: its
    further addresses."""

    name: str
    index: int
    address: str
    network: IPv4Network
    up: bool = True
    running: bool = True
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotThere:
    """Why an interface, or the wanted address on it, cannot be used. `late`: it may still come."""

    what: str
    remedy: str
    late: bool


async def look_up(name: str, wanted: str = "") -> InterfaceFacts | NotThere:
    """Ask the kernel for an interface and its first, or the `wanted`, address."""
    from pyroute2 import AsyncIPRoute  # 40 ms of import that a daemon without an interface need not pay

    async with AsyncIPRoute() as route:
        found = await route.link_lookup(ifname=name)
        if not found:
            return NotThere("is no interface of this machine", "look names up with `ip link`", late=False)
        index = int(found[0])
        links: list[Any] = [item async for item in await route.get_links(index)]
        messages: list[Any] = [item async for item in await route.get_addr(index=index, family=2)]
    flags = int(links[0]["flags"]) if links else 0
    addresses = [
        IPv4Interface(f"{item.get('local') or item.get('address')}/{item['prefixlen']}") for item in messages
    ]
    for one in addresses:
        if not wanted or str(one.ip) == wanted:
            up, running = bool(flags & IFF_UP), bool(flags & IFF_RUNNING)
            others = tuple(str(each.ip) for each in addresses if each != one)
            return InterfaceFacts(name, index, str(one.ip), one.network, up, running, others)
    if wanted:
        have = ", ".join(str(one.ip) for one in addresses) or "none"
        return NotThere(
            f"is not an address of {name} (it has: {have})",
            "write one of those, or give it this one",
            late=True,
        )
    return NotThere(
        "has no IPv4 address", f"give it one, e.g. `ip addr add 10.20.0.1/24 dev {name}`", late=True
    )


async def look(
    settings: Settings, wait_seconds: float = 0
) -> tuple[tuple[InterfaceFacts, ...], list[Mistake]]:
    """Every interface of the settings, and what is wrong with those that cannot be used.

    Waits up to `wait_seconds` for addresses that are late (DHCP, a slow link). Never for an interface that
    does not exist.
    """
    deadline = asyncio.get_running_loop().time() + wait_seconds
    facts: list[InterfaceFacts] = []
    mistakes: list[Mistake] = []
    for name, address in wanted_interfaces(settings):
        found = await look_up(name, address)
        told = False
        while isinstance(found, NotThere) and found.late and asyncio.get_running_loop().time() < deadline:
            if not told:
                log.warning("waiting for an address: %s %s", address or name, found.what)
                told = True
            await asyncio.sleep(LOOK_SECONDS)
            found = await look_up(name, address)
        if isinstance(found, InterfaceFacts):
            facts.append(found)
        else:
            mistakes.append(_mistake(settings, name, address, found))
    return tuple(facts), mistakes


def key_of(settings: Settings, name: str) -> tuple[str, str]:
    """The key that names this interface, and its value."""
    if name == settings.network.interface:
        return "network.interface", name
    for index, text in enumerate(settings.network.interfaces):
        if text.partition("=")[0].strip() == name:
            return f"network.interfaces[{index}]", text
    return "network.interfaces", name


def _mistake(settings: Settings, name: str, address: str, why: NotThere) -> Mistake:
    key, value = key_of(settings, name)
    if key == "network.interface" and address and "not an address" in why.what:
        key, value = "network.address", address
    return Mistake(key, value, why.what, why.remedy)


async def follow(names: set[str], note: Callable[[str, str, dict[str, object]], None]) -> None:
    """Tell `note(kind, sentence, data)` what happens to our interfaces, for ever.

    Nothing else is done about it: sockets stay bound and work again when an address comes back.
    """
    while True:
        try:
            async for kind, sentence, data in _changes(names):
                note(kind, sentence, data)
        except (
            Exception
        ) as error:  # the kernel's queue ran over, say: begin anew; no reason to end the daemon
            log.warning("changes of interfaces may have been missed: %s", error)
        await asyncio.sleep(AGAIN_SECONDS)


async def _changes(names: set[str]) -> AsyncIterator[tuple[str, str, dict[str, object]]]:
    from pyroute2 import AsyncIPRoute

    async with AsyncIPRoute() as route:
        await route.bind(groups=_LINKS | _ADDRESSES)
        known: dict[int, str] = {}
        running: dict[str, bool] = {}
        async for link in await route.get_links():
            name = link.get("ifname")
            if name in names:
                known[int(link["index"])] = name
                running[name] = bool(int(link["flags"]) & IFF_RUNNING)
        while True:
            async for message in route.get():
                event, index = message.get("event"), int(message.get("index") or 0)
                if event in ("RTM_NEWLINK", "RTM_DELLINK") and message.get("ifname") in names:
                    name = message.get("ifname")
                    known[index] = name
                    now = event == "RTM_NEWLINK" and bool(int(message["flags"]) & IFF_RUNNING)
                    if running.get(name) == now:
                        continue
                    running[name] = now
                    what = "is connected" if now else "has no link" if event == "RTM_NEWLINK" else "is gone"
                    yield f"link.{'up' if now else 'down'}", f"{name} {what}.", {"interface": name}
                elif event in ("RTM_NEWADDR", "RTM_DELADDR") and index in known:
                    address = message.get("local") or message.get("address")
                    added = event == "RTM_NEWADDR"
                    sentence = f"{known[index]} has {'got' if added else 'lost'} the address {address}."
                    data: dict[str, object] = {"interface": known[index], "address": str(address)}
                    yield f"link.address_{'added' if added else 'removed'}", sentence, data
