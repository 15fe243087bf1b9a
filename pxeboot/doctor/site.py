"""What the settings promise to the network: interfaces, modes, ports, addresses. All checks start from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from pxeboot.settings import Settings

# What machines load first; the same table as `pxeboot.boot.chain`, which is above us.
FIRST_FILES: Final = {
    "BIOS": ("undionly.kpxe",),
    "UEFI x64": ("shimx64.efi", "grubx64.efi"),
}
WISHED_FILES: Final = {"UEFI ia32": ("bootia32.efi",), "UEFI arm64": ("shimaa64.efi",)}
BOOT_ENVIRONMENT: Final = ("vmlinuz", "initrd.img")


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
    default = dhcp.mode if dhcp.enabled else "off"
    names = [settings.network.interface, *getattr(settings.network, "interfaces", ())]
    tables = [_mapping(table) for table in getattr(dhcp, "subnets", ())]
    modes = {str(table.get("interface")): str(table["mode"]) for table in tables if table.get("mode")}
    wires = []
    for index, name in enumerate(dict.fromkeys(name for name in names if name)):
        mode = modes.get(name, default) if dhcp.enabled else "off"
        wires.append(Wire(interface=name, address=settings.network.address if index == 0 else "", mode=mode))
    pools = [
        _pool(dhcp.subnet, dhcp.pool_start, dhcp.pool_end),
        *(_pool(table.get("subnet"), table.get("pool_start"), table.get("pool_end")) for table in tables),
    ]
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


def _mapping(table: Any) -> Mapping[str, Any]:
    return table.model_dump() if hasattr(table, "model_dump") else dict(table)


def _pool(network: Any, first: Any, last: Any) -> Pool | None:
    """What can be known of a pool without asking the interface; None: nothing."""
    try:
        if not network:
            return None
        net = IPv4Network(str(network))
        if first and last:
            return Pool(network=net, size=int(IPv4Address(str(last))) - int(IPv4Address(str(first))) + 1)
        return default_pool(net)
    except ValueError:
        return None
