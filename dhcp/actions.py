"""What an answer is made of: where a request arrived, what to send where, what to look up, what to tell."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from dhcp import options as opt
from dhcp.packet import ANY, BROADCAST, BROADCAST_FLAG, MINIMUM_LIMIT, MessageType, Packet

SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68
PXE_PORT: Final = 4011
_RELAY_PORT: Final = 19  # of option 82
_NAK: Final = bytes((MessageType.NAK,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How a datagram reached us.

    Attributes:
        interface: its name.
        address: our own address on it that fits the sender (the kernel's choice for broadcasts).
        destination: the address the datagram was sent to.
        source, source_port: of its sender.
        port: the port of ours it came to, 67 or 4011.
    """

    interface: str
    address: str
    destination: str = BROADCAST
    source: str = ANY
    source_port: int = CLIENT_PORT
    port: int = SERVER_PORT


@dataclass(slots=True)  # not frozen: made for every datagram, and that costs
class Send:
    """Send this packet.

    Attributes:
        packet: the reply, to be written with `data()`.
        to, port: where to.
        l2: the client's hardware address when it has no IP address yet and cannot answer ARP: the shell makes
            a neighbour entry first, and sends to 255.255.255.255 instead when it cannot.
        limit: the largest datagram the client takes (option 57), in bytes with IP and UDP headers.
        own: our address it must come from; None = the kernel's choice.
    """

    packet: Packet
    to: str
    port: int
    l2: str | None = None
    limit: int = MINIMUM_LIMIT
    own: str | None = None

    @property
    def broadcast(self) -> bool:
        """Whether every machine on the link gets it."""
        return self.to == BROADCAST

    def data(self) -> bytes:
        """The datagram's payload."""
        return self.packet.to_bytes(self.limit)


@dataclass(slots=True)  # not frozen: made for every datagram, and that costs
class Noted:
    """One decision, for the journal: `kind` (`dhcp.offered`), machine, sentence with the reason, facts."""

    kind: str
    mac: str
    sentence: str
    data: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Look whether somebody already uses this address, then tell `Responder.probed` (RFC 2131 §2.2, §4.3.1).

    Attributes:
        address: what we are about to offer for the first time.
        interface: where to look. The machine is on this link when `packet.giaddr` is 0.0.0.0 (ARP); else it
            is behind a relay, where only an ICMP echo gets.
        mac: who is to have it: an ARP answer from `mac` itself is no conflict.
        packet, arrived_on: the DISCOVER that waits.
        conflicts: how many addresses were found in use for this DISCOVER before.
    """

    address: str
    interface: str
    mac: str
    packet: Packet
    arrived_on: Arrival
    conflicts: int = 0


Action = Send | Noted | Probe


def deliver(request: Packet, reply: Packet, arrived_on: Arrival) -> Send:
    """Where a reply goes: RFC 2131 §4.1, in its order; and 4011's own rule.

    | the request | the reply goes to |
    |---|---|
    | came to 4011 (PXE 2.1; EDK2 also sends *from* 4011) | its source address and port |
    | came through a relay (giaddr) | giaddr:67, or the port it came from if 82.19 says so (RFC 8357); a NAK
    with the broadcast bit set, for the relay (§4.3.2) |
    | gets a NAK | 255.255.255.255:68: its address is what is wrong |
    | has ciaddr (not a DISCOVER: there it is rubbish) | ciaddr:68 |
    | has the broadcast bit, or no Ethernet address | 255.255.255.255:68 |
    | else | yiaddr:68 at the hardware address, by a neighbour entry |
    """
    limit = request.size_limit if opt.MAX_MESSAGE_SIZE in request.options else MINIMUM_LIMIT
    if arrived_on.port == PXE_PORT:
        source = arrived_on.source if arrived_on.source != ANY else BROADCAST
        # From where it was asked: a PXE ROM may look at the source, and we may have several addresses here.
        own = arrived_on.address
        return Send(packet=reply, to=source, port=arrived_on.source_port, limit=limit, own=own)
    nak = reply.options.get(opt.MESSAGE_TYPE) == _NAK
    if request.giaddr != ANY:
        if nak:
            reply = replace(reply, flags=reply.flags | BROADCAST_FLAG)
        information = request.options.get(opt.RELAY_AGENT_INFORMATION)
        own_port = information is not None and _RELAY_PORT in opt.suboptions(information)
        port = arrived_on.source_port if own_port else SERVER_PORT
        return Send(reply, request.giaddr, port, None, limit)
    if nak:
        return Send(packet=reply, to=BROADCAST, port=CLIENT_PORT, limit=limit)
    if request.ciaddr != ANY and request.message_type != MessageType.DISCOVER:
        return Send(packet=reply, to=request.ciaddr, port=CLIENT_PORT, limit=limit)
    if request.broadcast or request.htype != 1 or len(request.chaddr) != 6 or reply.yiaddr == ANY:
        return Send(packet=reply, to=BROADCAST, port=CLIENT_PORT, limit=limit)
    return Send(reply, reply.yiaddr, CLIENT_PORT, request.chaddr.hex(":"), limit)
