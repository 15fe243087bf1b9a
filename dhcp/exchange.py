"""Before a request is judged: in which of our subnets its client is, and as which server we answer.

RFC 3527 (82.5), RFC 3011 (118), RFC 5107 (82.11), RFC 2131 §4.3.1; several subnets may share one wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from socket import inet_aton, inet_ntoa
from typing import Final

from dhcp import options as opt
from dhcp.actions import PXE_PORT, Arrival, Noted
from dhcp.packet import ANY, BROADCAST, MessageType, Packet
from dhcp.pxe import PlainClient, PxeClient, hardware_address
from dhcp.subnets import ClientSettings, Reservation, SubnetConfig

_LINK_SELECTION: Final = 5  # of option 82
_SERVER_ID_OVERRIDE: Final = 11  # of option 82
_MOST_RELAYS: Final = 4096
NOTHING_SET: Final = ClientSettings()


@dataclass(slots=True)
class Exchange:
    """One request with all that was found out about it; nothing changes one after it was made.

    Attributes:
        mac: the identity a lease hangs on.
        server: our address as this client shall use it.
        shared: the other subnets on the same wire, in which it may be given an address as well.
        settings: what is set for this machine in particular.
    """

    packet: Packet
    client: PxeClient | PlainClient
    mac: str
    subnet: SubnetConfig
    server: str
    arrived_on: Arrival
    now: float
    settings: ClientSettings = NOTHING_SET
    shared: tuple[SubnetConfig, ...] = ()

    @property
    def reservation(self) -> Reservation | None:
        """The machine's reservation in this subnet."""
        if self.settings is NOTHING_SET:
            return self.subnet.reservations.get(self.mac)
        return reservation_in(self.subnet, self.mac, self.settings)

    def noted(self, kind: str, sentence: str, **data: object) -> Noted:
        """A note about this machine in this subnet."""
        data["subnet"] = self.subnet.name
        return Noted(kind, self.mac, sentence, data)


def ignored(packet: Packet, reason: str) -> Noted:
    """The note of a request that gets no answer."""
    kind = packet.message_type
    data: dict[str, object] = {"message_type": kind, "giaddr": packet.giaddr}
    return Noted(kind="dhcp.ignored", mac=hardware_address(packet) or "", sentence=reason, data=data)


def reservation_in(subnet: SubnetConfig, mac: str, settings: ClientSettings) -> Reservation | None:
    """A machine's own reservation where it lies in this subnet, else the one the subnet has for it."""
    if settings is NOTHING_SET:
        return subnet.reservations.get(mac)
    own = settings.reservation
    if own is not None and subnet.usable(own.address):
        return own
    return subnet.reservations.get(mac)


class SubnetTable:
    """The subnets by where requests come from."""

    def __init__(self, subnets: Sequence[SubnetConfig]) -> None:
        self.subnets = tuple(subnets)
        self._crowds = frozenset(str(subnet.network.broadcast_address) for subnet in subnets)
        self._relays: dict[tuple[str, bytes | None, bytes | None], tuple[SubnetConfig, ...]] = {}
        self._here: dict[str, tuple[SubnetConfig, ...]] = {}
        for subnet in subnets:
            if subnet.interface is not None:
                self._here[subnet.interface] = (*self._here.get(subnet.interface, ()), subnet)

    def candidates(self, packet: Packet, arrived_on: Arrival) -> tuple[SubnetConfig, ...]:
        """The subnets the client may be in, likeliest first: several only where they share its wire."""
        if packet.giaddr != ANY:
            return self._relayed(packet)
        if arrived_on.port == PXE_PORT:
            # It has an address by now, perhaps one we never gave, and may come through a router.
            found = self._containing(arrived_on.source) or self._containing(packet.ciaddr)
            return found or self._on(arrived_on)
        unicast = arrived_on.destination not in (BROADCAST, ANY)
        if not unicast or packet.message_type == MessageType.DISCOVER:
            return self._on(arrived_on)
        # A client behind a relay renews by unicast, past the relay and without option 82 (RFC 2131 §4.4.5):
        # its own address says where it is, nothing of the relay's needs to be remembered.
        return self._containing(packet.ciaddr) or self._on(arrived_on)

    def _relayed(self, packet: Packet) -> tuple[SubnetConfig, ...]:
        options = packet.options
        said = (
            packet.giaddr,
            options.get(opt.RELAY_AGENT_INFORMATION),
            options.get(opt.SUBNET_SELECTION),
        )
        known = self._relays.get(said)
        if known is None:
            known = () if packet.giaddr in self._crowds else self._containing(_relayed_link(packet))
            if len(self._relays) >= _MOST_RELAYS:  # 82 names the port: as many as the switches have
                self._relays.clear()
            self._relays[said] = known
        return known

    def _containing(self, address: str) -> tuple[SubnetConfig, ...]:
        if address == ANY:
            return ()
        for subnet in self.subnets:
            if subnet.contains(address):
                return (subnet,)
        return ()

    def _on(self, arrived_on: Arrival) -> tuple[SubnetConfig, ...]:
        here = self._here.get(arrived_on.interface, ())
        if len(here) < 2:
            return here
        # One wire, several subnets: the mode that gives addresses rules, the interface's own subnet leads.
        here = tuple(subnet for subnet in here if subnet.mode == "full") or here
        return tuple(sorted(here, key=lambda subnet: not subnet.contains(arrived_on.address)))


def settle(
    here: tuple[SubnetConfig, ...], packet: Packet, mac: str, settings: ClientSettings, held: Sequence[str]
) -> tuple[SubnetConfig, ...]:
    """Several subnets on one wire: put first the one this machine belongs to.

    Its reservation decides, else the address it says it has, else the address it holds (`held`), else the
    address it would like. None of these: the order stays.
    """
    wish = packet.requested_address
    claimed, liked = (None, wish) if packet.message_type == MessageType.DISCOVER else (wish, None)
    if packet.ciaddr != ANY and packet.message_type != MessageType.DISCOVER:
        claimed = packet.ciaddr

    def fits(subnet: SubnetConfig) -> tuple[bool, ...]:
        reserved = reservation_in(subnet, mac, settings) is not None
        return (
            not reserved,
            not (claimed and subnet.contains(claimed)),
            not any(subnet.contains(address) for address in held),
            not (liked and subnet.contains(liked)),
        )

    return tuple(sorted(here, key=fits))


def server_identifier(packet: Packet, subnet: SubnetConfig, arrived_on: Arrival) -> str:
    """Our address as the client shall use it (54). A relay may insist on its own (RFC 5107)."""
    if packet.giaddr != ANY and (relay := packet.options.get(opt.RELAY_AGENT_INFORMATION)):
        override = opt.suboptions(relay).get(_SERVER_ID_OVERRIDE, b"")
        if len(override) == 4 and any(override):
            return inet_ntoa(override)
    return own_address(subnet, arrived_on)


def own_address(subnet: SubnetConfig, arrived_on: Arrival) -> str:
    """Our own address, whatever a relay says: where files are, and port 4011."""
    return subnet.server or arrived_on.address


def _relayed_link(packet: Packet) -> str:
    """An address of the link that a relayed request came from; 0.0.0.0 when it cannot be one.

    82.5 outranks 118, which outranks giaddr (RFC 3527 §3). Without a relay neither is honoured: anybody
    could else help himself to addresses of any subnet.
    """
    if not 0 < (first := inet_aton(packet.giaddr)[0]) < 224 or first == 127:
        return ANY  # the answer would go there: never to a group, to everybody, or to a service of ours
    link = opt.suboptions(packet.options.get(opt.RELAY_AGENT_INFORMATION, b"")).get(_LINK_SELECTION)
    link = link or packet.options.get(opt.SUBNET_SELECTION)
    return inet_ntoa(link) if link is not None and len(link) == 4 else packet.giaddr
