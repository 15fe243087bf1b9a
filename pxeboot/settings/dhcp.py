"""The DHCP settings: what holds everywhere, and a table for each subnet, which inherits what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field

from pxeboot.settings.section import Section

Mode = Literal["full", "proxy", "off"]
ProxyStyle = Literal["binl", "direct"]
Bootp = Literal["ignore", "answer"]
_INHERITS = "as in [dhcp]"
_YEAR = 366 * 86_400  # seconds; DHCP has 32 bits for them, of which all ones mean "for ever"


class ReservationSettings(Section):
    """A fixed address for one machine."""

    mac: str = Field(description="The machine's hardware address, e.g. 52:54:00:12:34:01.")
    address: str = Field(description="The address it always gets; it may lie outside the pools.")
    name: str = Field(default="", description="Host name told to it (option 12); empty: none.")


class SubnetSettings(Section):
    """One subnet. A key that is left out is as in [dhcp]."""

    network: str = Field(default="", description="The subnet, e.g. 10.20.0.0/24; it must be given.")
    interface: str | None = Field(
        default=None,
        description='Interface of ours on which its machines are; "": only relays bring them; left out: the '
        "one that has an address in it, else relays.",
    )
    mode: Mode | None = Field(default=None, description=_INHERITS)
    pools: list[str] | None = Field(
        default=None,
        description='What may be given, e.g. ["10.20.0.100-10.20.0.199"]; left out: the upper half.',
    )
    exclude: list[str] | None = Field(default=None, description=_INHERITS)
    router: str | None = Field(default=None, description=_INHERITS)
    routers: list[str] | None = Field(default=None, description=_INHERITS)
    dns: list[str] | None = Field(default=None, description=_INHERITS)
    domain: str | None = Field(default=None, description=_INHERITS)
    domain_search: list[str] | None = Field(default=None, description=_INHERITS)
    ntp: list[str] | None = Field(default=None, description=_INHERITS)
    options: dict[str, Any] | None = Field(default=None, description="Over those of [dhcp], name by name.")
    lease_seconds: int | None = Field(default=None, ge=60, le=_YEAR, description=_INHERITS)
    pxe_lease_seconds: int | None = Field(default=None, ge=30, le=_YEAR, description=_INHERITS)
    server: str = Field(
        default="",
        description="Our address as its machines reach it; empty: our address of its interface, else of the "
        "interface that a relay's request arrives on.",
    )
    authoritative: bool | None = Field(default=None, description=_INHERITS)
    bootp: Bootp | None = Field(default=None, description=_INHERITS)
    proxy_style: ProxyStyle | None = Field(default=None, description=_INHERITS)
    conflict_probe: bool | None = Field(default=None, description=_INHERITS)
    reservations: list[ReservationSettings] = Field(
        default_factory=list,
        description="Fixed addresses, a table each. A host's own, set in the pages, wins.",
    )


class DhcpSettings(Section):
    """The DHCP server; without [[dhcp.subnets]] it serves the network of network.interface."""

    enabled: bool = Field(default=True, description="Answer DHCP at all.")
    mode: Mode = Field(
        default="full",
        description="full: addresses and boot files; proxy: boot files only, beside the DHCP server that "
        "gives the addresses; off: nothing (that server names our boot files: `pxeboot dhcp snippet`).",
    )
    proxy_style: ProxyStyle = Field(
        default="binl",
        description="Mode proxy. binl: UEFI machines ask again at port 4011; direct: all is in the offer.",
    )
    authoritative: bool = Field(
        default=True,
        description="Refuse (NAK) or adopt addresses we have no record of; false: leave them to others.",
    )
    bootp: Bootp = Field(default="ignore", description="What very old clients get: nothing, or an address.")
    conflict_probe: bool = Field(
        default=True,
        description="Look whether somebody uses an address already, before a machine is offered it.",
    )
    subnet: str = Field(
        default="",
        description="The subnet we serve, e.g. 10.20.0.0/24; empty: the interface's.",
    )
    pool_start: str = Field(
        default="",
        description="First address we may give; empty: chosen from the subnet.",
    )
    pool_end: str = Field(default="", description="Last address we may give.")
    exclude: list[str] = Field(
        default_factory=list,
        description="Addresses in the pool that are never given.",
    )
    router: str = Field(default="", description="Default gateway told to clients; empty: none.")
    routers: list[str] = Field(default_factory=list, description="Several gateways, the preferred one first.")
    dns: list[str] = Field(default_factory=list, description="Name servers told to clients.")
    domain: str = Field(default="", description="Domain name told to clients.")
    domain_search: list[str] = Field(
        default_factory=list, description="Domains in which clients look names up."
    )
    ntp: list[str] = Field(default_factory=list, description="Time servers told to clients.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description='Further options by name or number, e.g. {"tftp-server-name" = "10.20.0.1"}; values as '
        'text, numbers, lists, or "hex:01:02" (docs/booting.md).',
    )
    lease_seconds: int = Field(
        default=3600, ge=60, le=_YEAR, description="Lease time of an operating system."
    )
    pxe_lease_seconds: int = Field(
        default=300, ge=30, le=_YEAR, description="Lease time of firmware and loaders."
    )
    reservations: list[ReservationSettings] = Field(
        default_factory=list,
        description="Fixed addresses, a table each. A host's own, set in the pages, wins.",
    )
    subnets: list[SubnetSettings] = Field(
        default_factory=list, description="The subnets, a table each; left out: one, made from the above."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """One subnet as its table and [dhcp] together say it.

    `where` is its table (`dhcp.subnets[1]`; `dhcp` for the one that has no table), `said` the keys which that
    table has itself. Networks and addresses are still text, as written.
    """

    where: str
    said: frozenset[str]
    network: str
    interface: str | None
    mode: Mode
    pools: tuple[str, ...]
    exclude: tuple[str, ...]
    routers: tuple[str, ...]
    dns: tuple[str, ...]
    domain: str
    domain_search: tuple[str, ...]
    ntp: tuple[str, ...]
    options: Mapping[str, Any]
    lease_seconds: int
    pxe_lease_seconds: int
    server: str
    authoritative: bool
    bootp: Bootp
    proxy_style: ProxyStyle
    conflict_probe: bool
    reservations: tuple[ReservationSettings, ...]

    def key(self, name: str) -> str:
        """Where a value was written: `dhcp.subnets[1].router`, or `dhcp.router` when it is inherited."""
        return f"{self.where}.{name}" if name in self.said else f"dhcp.{name}"


def subnets(settings: DhcpSettings) -> list[Subnet]:
    """The subnets of [[dhcp.subnets]], completed; empty when there are none."""
    return [_completed(settings, index, table) for index, table in enumerate(settings.subnets)]


def simple_subnet(settings: DhcpSettings, network: str, interface: str) -> Subnet:
    """The one subnet of a file without [[dhcp.subnets]]: `network` unless dhcp.subnet names it."""
    pools = [f"{settings.pool_start}-{settings.pool_end}"] if settings.pool_start else None
    table = SubnetSettings(network=settings.subnet or network, interface=interface, pools=pools)
    made = _completed(settings, 0, table)
    return replace(made, where="dhcp", said=frozenset(), reservations=tuple(settings.reservations))


def _completed(dhcp: DhcpSettings, index: int, table: SubnetSettings) -> Subnet:
    said = table.model_fields_set

    def either(name: str) -> Any:
        own = getattr(table, name)
        return getattr(dhcp, name) if own is None else own

    # A table that names routers in either way means all of them.
    from_table = table.router is not None or table.routers is not None
    router, routers = (table.router, table.routers) if from_table else (dhcp.router, dhcp.routers)
    return Subnet(
        where=f"dhcp.subnets[{index}]",
        said=frozenset(said),
        network=table.network,
        interface=table.interface,
        mode=either("mode") if dhcp.enabled else "off",
        pools=tuple(table.pools or ()),
        exclude=tuple(either("exclude")),
        routers=(*([router] if router else []), *(routers or ())),
        dns=tuple(either("dns")),
        domain=either("domain"),
        domain_search=tuple(either("domain_search")),
        ntp=tuple(either("ntp")),
        options={**dhcp.options, **(table.options or {})},
        lease_seconds=either("lease_seconds"),
        pxe_lease_seconds=either("pxe_lease_seconds"),
        server=table.server,
        authoritative=either("authoritative"),
        bootp=either("bootp"),
        proxy_style=either("proxy_style"),
        conflict_probe=either("conflict_probe"),
        reservations=tuple(table.reservations),
    )
