"""The interface that faces the machines: its address and network, and who sits at which address."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, Protocol

from dhcp.subnets import SubnetConfig, SubnetError
from pxeboot.errors import ConfigError
from pxeboot.settings import Settings


@dataclass(frozen=True)
class InterfaceFacts:
    """One address of an interface of ours."""

    name: str
    index: int
    address: str
    network: IPv4Network


async def interface_facts(name: str, wanted: str = "") -> InterfaceFacts:
    """Look an interface up in the kernel. ConfigError when it, or the `wanted` address on it, is not
    there."""
    from pyroute2 import AsyncIPRoute  # 40 ms of import that a daemon without an interface need not pay

    async with AsyncIPRoute() as route:
        found = await route.link_lookup(ifname=name)
        if not found:
            raise ConfigError(f"network.interface = {name!r}: there is no such interface here.")
        index = int(found[0])
        messages: list[Any] = [item async for item in await route.get_addr(index=index, family=2)]
    addresses = [
        IPv4Interface(f"{item.get('local') or item.get('address')}/{item['prefixlen']}") for item in messages
    ]
    for one in addresses:
        if not wanted or str(one.ip) == wanted:
            return InterfaceFacts(name, index, str(one.ip), one.network)
    if wanted:
        have = ", ".join(str(one.ip) for one in addresses) or "none"
        raise ConfigError(f"network.address = {wanted!r} is not an address of {name} (it has: {have}).")
    raise ConfigError(f"network.interface = {name!r} has no IPv4 address; give it one first.")


def subnet_config(settings: Settings, facts: InterfaceFacts) -> SubnetConfig:
    """What the DHCP engine serves, from the settings. ConfigError names the key at fault."""
    dhcp = settings.dhcp
    network = IPv4Network(dhcp.subnet) if dhcp.subnet else facts.network
    first, last = dhcp.pool_start, dhcp.pool_end
    if not first and dhcp.mode == "full":
        first, last = default_pool(network)
    try:
        return SubnetConfig(
            network=network,
            mode=dhcp.mode,
            interface=facts.name,
            ranges=((first, last),) if first else (),
            exclusions=(*dhcp.exclude, facts.address),
            server=facts.address,
            routers=(dhcp.router,) if dhcp.router else (),
            dns=tuple(dhcp.dns),
            domain=dhcp.domain,
            lease_seconds=dhcp.lease_seconds,
            pxe_lease_seconds=dhcp.pxe_lease_seconds,
        )
    except SubnetError as error:
        raise ConfigError(f"dhcp: {error}.") from error


def default_pool(network: IPv4Network) -> tuple[str, str]:
    """The upper half of a subnet: people give fixed addresses from below. ConfigError when it is too
    small."""
    if network.num_addresses < 8:
        raise ConfigError(
            f"dhcp.subnet {network} is too small for a pool; set dhcp.pool_start and dhcp.pool_end."
        )
    middle = int(network.network_address) + network.num_addresses // 2
    return str(IPv4Address(middle)), str(IPv4Address(int(network.broadcast_address) - 1))


class Leases(Protocol):
    """What we ask of the lease table."""

    def owner_of(self, address: str) -> Any:
        """The lease last written for this address (`dhcp.leases.Lease`), or None."""


class LeaseView:
    """Who may speak for which MAC: by our lease table where we give the addresses, else by the neighbour
    table."""

    def __init__(
        self,
        leases: Leases | None,
        *,
        neighbour: Callable[[str], str | None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._leases = leases
        self._neighbour = neighbour or neighbour_mac
        self._clock = clock

    @property
    def gives_addresses(self) -> bool:
        """Whether we run DHCP with addresses."""
        return self._leases is not None

    def holds(self, address: str, mac: str) -> bool:
        """Whether `address` is provably `mac`'s: leased by us, or seen in the kernel's neighbour table."""
        if self._leases is not None:
            lease = self._leases.owner_of(address)
            if lease is not None and lease.held_by(mac, self._clock()):
                return True
        return self._neighbour(address) == mac

    def may_speak(self, address: str, mac: str) -> bool:
        """Whether a request from `address` may act for `mac`.

        With our own DHCP it must hold the lease (or be its neighbour: a fixed address). Beside another
        server only a
        contradiction refuses: through a router the neighbour table cannot know.
        """
        if self.holds(address, mac):
            return True
        if self._leases is not None:
            return False
        known = self._neighbour(address)
        return known is None or known == mac

    def mac_of(self, address: str) -> str:
        """The MAC at an address, for the journal; "" when unknown."""
        if self._leases is not None:
            lease = self._leases.owner_of(address)
            if lease is not None and lease.mac:
                return str(lease.mac)
        return self._neighbour(address) or ""


def neighbour_mac(address: str, table: Path = Path("/proc/net/arp")) -> str | None:
    """What the kernel's neighbour table says (arp(7)); complete entries only."""
    try:
        lines = table.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) >= 4 and fields[0] == address and int(fields[2], 16) & 0x02:
            return fields[3].lower()
    return None
