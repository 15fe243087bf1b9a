"""What the settings promise to the network: interfaces, modes, ports, addresses. All checks start from it."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from pxeboot.settings import Settings, interfaces
from pxeboot.settings.dhcp import Subnet, subnets
from pxeboot.settings.judge_dhcp import pool_range

# What machines load first; the same table as `pxeboot.boot.chain`, which is above us.
FIRST_FILES: Final = {
    "BIOS": ("undionly.kpxe",),
    "UEFI x64": ("shimx64.efi", "grubx64.efi"),
}
WISHED_FILES: Final = {"UEFI ia32": ("bootia32.efi",), "UEFI arm64": ("shimaa64.efi",)}
BOOT_ENVIRONMENT: Final = ("vmlinuz", "initrd.img")
_SIOCGIFADDR: Final = 0x8915


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """One interface as the settings want it.

    `mode`: `full`, `proxy` or `off` (also when DHCP is switched off). `address`: the wanted one, "" = any.
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
    """What the checks need to know of the settings."""

    wires: tuple[Wire, ...]
    data_dir: Path
    boot_dir: Path
    store_dir: Path
    reserve_mb: int
    tftp_port: int  # 0: off
    http_host: str
    http_port: int
    dhcp_enabled: bool
    pools: tuple[Pool, ...]
    group_base: str
    group_count: int
    multicast_port: int

    @property
    def mode(self) -> str:
        """The most demanding mode of all interfaces."""
        modes = {wire.mode for wire in self.wires}
        return next((mode for mode in ("full", "proxy") if mode in modes), "off")


def site_of(settings: Settings) -> Site:
    """Read the settings."""
    dhcp = settings.dhcp
    tables = subnets(dhcp)
    wires = []
    for index, (name, address) in enumerate(interfaces(settings)):
        here = {table.mode for table in tables if _may_be_at(table, name, address)}
        alone = dhcp.mode if index == 0 and dhcp.enabled else "off"
        modes = here if tables else {alone}
        mode = next((one for one in ("full", "proxy") if one in modes), "off")
        wires.append(Wire(interface=name, address=address, mode=mode))
    pools = (
        [_pool(table.network, table.pools) for table in tables if table.mode == "full"]
        if tables
        else [_pool(dhcp.subnet, [f"{dhcp.pool_start}-{dhcp.pool_end}"] if dhcp.pool_start else [])]
    )
    return Site(
        wires=tuple(wires),
        data_dir=settings.server.data_dir,
        boot_dir=settings.boot_dir,
        store_dir=settings.store_dir,
        reserve_mb=settings.images.reserve_mb,
        tftp_port=settings.tftp.port if settings.tftp.enabled else 0,
        http_host=settings.http.host,
        http_port=settings.http.port,
        dhcp_enabled=dhcp.enabled,
        pools=tuple(pool for pool in pools if pool),
        group_base=settings.multicast.group_base,
        group_count=settings.multicast.group_count,
        multicast_port=settings.multicast.port,
    )


def default_pool(network: IPv4Network) -> Pool:
    """What the daemon gives when no range is set: the upper half of the network."""
    return Pool(network=network, size=max(network.num_addresses // 2 - 1, 0))


def _may_be_at(table: Subnet, name: str, address: str) -> bool:
    """Whether requests of this subnet may arrive on this interface. Relays come in anywhere."""
    if table.interface is not None:
        return table.interface in (name, "")
    try:
        return IPv4Address(address or _first_address(name)) in IPv4Network(table.network)
    except ValueError:
        return False


def _first_address(name: str) -> str:
    """The kernel's word (netdevice(7)), "" when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("16s16x", name.encode()[:15]))
        except (OSError, ValueError):
            return ""
    return socket.inet_ntoa(answer[20:24])


def _pool(text: str, ranges: Iterable[str]) -> Pool | None:
    """What can be known of a subnet's pools without asking the interface; None: nothing."""
    try:
        network = IPv4Network(text) if text else None
    except ValueError:
        return None
    if network is None:
        return None
    found = [pool_range(one) for one in ranges]
    if not found:
        return default_pool(network)
    return Pool(network=network, size=sum(int(last) - int(first) + 1 for first, last in filter(None, found)))
