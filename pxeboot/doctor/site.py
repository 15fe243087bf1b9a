"""What the settings promise to the network: interfaces, modes, ports, addresses. All checks start from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Final

from pxeboot.settings import Settings, interfaces
from pxeboot.settings.dhcp import Subnet, simple_subnet, subnets
from pxeboot.settings.judge_dhcp import pool_range

# What machines load first; the same table as `pxeboot.boot.chain`, which is above us. All of these names:
FIRST_FILES: Final = {
    "BIOS": ("undionly.kpxe",),
    "UEFI x64": ("shimx64.efi", "grubx64.efi"),
}
# ... and of these one each, which we do not bring.
WISHED_FILES: Final = {
    "UEFI ia32": ("shimia32.efi", "bootia32.efi", "grubia32.efi"),
    "UEFI arm64": ("shimaa64.efi", "bootaa64.efi", "grubaa64.efi"),
    "UEFI arm32": ("bootarm.efi", "grubarm.efi"),
}
BOOT_ENVIRONMENT: Final = ("vmlinuz", "initrd.img")

_DEMANDING: Final = ("full", "proxy", "off")

Own = Sequence[tuple[str, IPv4Interface]]
"""(interface, address) of this machine: decides where a subnet belongs that names no interface."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One interface as the settings want it.

    `mode`: `full`, `proxy` or `off` (also when DHCP is switched off), the most demanding of its subnets.
    `address`: the wanted one, "" = any.
    """

    interface: str
    address: str = ""
    mode: str = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Addresses we give: how many there are in `network`."""

    network: IPv4Network
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the checks need to know of the settings. `subnets`: all that we serve, `pools` those with one."""

    wires: tuple[Wire, ...]
    data_dir: Path
    boot_dir: Path
    store_dir: Path
    reserve_mb: int
    tftp_port: int  # 0: off
    http_host: str
    http_port: int
    subnets: tuple[IPv4Network, ...]
    pools: tuple[Pool, ...]
    group_base: str
    group_count: int
    multicast_port: int
    querier: bool = False  # we ask for memberships ourselves

    @property
    def mode(self) -> str:
        """The most demanding mode of all interfaces, or of a subnet behind relays."""
        if self.pools:
            return "full"
        return _most({wire.mode for wire in self.wires})


def site_of(settings: Settings, own: Own = ()) -> Site:
    """Read the settings."""
    wanted = interfaces(settings)
    tables = _subnets(settings, wanted, own)
    wires = [
        Wire(
            interface=name,
            address=address,
            mode=_most({table.mode for table in tables if _interface(table, own) == name}),
        )
        for name, address in wanted
    ]
    networks = [(table, network) for table in tables if (network := _network(table.network))]
    return Site(
        wires=tuple(wires),
        data_dir=settings.server.data_dir,
        boot_dir=settings.boot_dir,
        store_dir=settings.store_dir,
        reserve_mb=settings.images.reserve_mb,
        tftp_port=settings.tftp.port if settings.tftp.enabled else 0,
        http_host=settings.http.host,
        http_port=settings.http.port,
        subnets=tuple(network for table, network in networks if table.mode != "off"),
        pools=tuple(_pool(table, network) for table, network in networks if table.mode == "full"),
        group_base=settings.multicast.group_base,
        group_count=settings.multicast.group_count,
        multicast_port=settings.multicast.port,
        querier=settings.multicast.querier,
    )


def _most(modes: set[str]) -> str:
    return next((mode for mode in _DEMANDING if mode in modes), "off")


def _subnets(settings: Settings, wanted: Sequence[tuple[str, str]], own: Own) -> list[Subnet]:
    if settings.dhcp.subnets or not wanted:
        return subnets(settings.dhcp)
    name, address = wanted[0]
    here = [one for where, one in own if where == name]
    chosen = [one for one in here if str(one.ip) == address] or here
    return [simple_subnet(settings.dhcp, str(chosen[0].network) if chosen else "", name)]


def _interface(table: Subnet, own: Own) -> str:
    """Where its machines are; "" = behind relays, or not known."""
    if table.interface is not None:
        return table.interface
    network = _network(table.network)
    return next((name for name, one in own if network and one.ip in network), "")


def _network(text: str) -> IPv4Network | None:
    try:
        return IPv4Network(text)
    except ValueError:
        return None


def _pool(table: Subnet, network: IPv4Network) -> Pool:
    ranges = [found for text in table.pools if (found := pool_range(text))]
    size = sum(int(last) - int(first) + 1 for first, last in ranges)
    if not table.pools:  # the upper half, as `pxeboot.adapters.plan` chooses
        size = max(network.num_addresses // 2 - 1, 0)
    return Pool(network=network, size=size)
