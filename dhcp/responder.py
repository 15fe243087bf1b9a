"""The server's side of RFC 2131: one request in, what to send and what to note out.

Pure but for the lease table, whose changes the shell commits before it sends anything. The state of a
client is the table's; each request is judged by the row of `_HANDLERS` for its message type and, for a
REQUEST, by the fields that tell the four client states of RFC 2131 §4.3.2 apart (`_request`). Where another
server gives the addresses, and on port 4011, `dhcp.proxy` answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from dhcp import options as opt
from dhcp.actions import PXE_PORT, Action, Arrival, Noted, Probe, Send
from dhcp.allocation import Allocation
from dhcp.bootfile import BootChoice, BootFile
from dhcp.bootp import bootp_reply
from dhcp.exchange import NOTHING_SET, Exchange, SubnetTable, ignored, server_identifier, settle
from dhcp.foreign import ForeignServers
from dhcp.leases import Lease, LeaseStore, LeaseTaken
from dhcp.packet import ANY, MessageType, Packet
from dhcp.proxy import BOOT_ITEM, boot_server_ack, proxy_offer
from dhcp.pxe import Ignored, PxeClient, identify
from dhcp.replies import answer, lease_seconds, nak
from dhcp.subnets import ClientSettings, HostSettings, SubnetConfig

__all__ = ["Action", "Arrival", "BootChoice", "BootFile", "Noted", "Probe", "Responder", "Send"]

# A probe takes 0.3 s; one not back after this many seconds is lost: the next DISCOVER starts another.
_PROBE_LOST = 2.0
# Addresses that one DISCOVER may find in use: a router that answers every ARP request must not empty the pool
# at a stroke.
_MOST_CONFLICTS = 32


class Responder:
    """Answers the DHCP requests of a set of subnets."""

    def __init__(
        self,
        subnets: Sequence[SubnetConfig],
        leases: LeaseStore,
        choice: BootChoice,
        hosts: HostSettings | None = None,
    ) -> None:
        self.subnets = tuple(subnets)
        self._table = SubnetTable(subnets)
        self._leases = leases
        self._choice = choice
        self._hosts = hosts
        self._addresses = Allocation(leases, hosts)
        self._foreign = ForeignServers()
        self._probing: dict[str, tuple[Probe, float]] = {}  # by address: at most as many as the pools hold
        self._own: set[str] = set()  # every address of ours that clients were told

    @property
    def foreign(self) -> Mapping[str, Mapping[str, float]]:
        """Other DHCP servers that clients chose: subnet's name -> server's address -> when last."""
        return self._foreign.seen

    def handle(self, packet: Packet, arrived_on: Arrival, now: float) -> list[Action]:
        """Judge one request.

        Args:
            packet: as parsed.
            arrived_on: where and how it reached us.
            now: seconds since the epoch.

        Returns: sends, notes and probes; at least one note or probe. Sends may leave only after
        `LeaseStore.finish()`.
        """
        ask = self._judge(packet, arrived_on, now)
        if isinstance(ask, list):
            return ask
        if arrived_on.port == PXE_PORT:
            return boot_server_ack(ask, self._choice)
        if ask.subnet.mode == "proxy":
            return self._beside_another(ask)
        if opt.MESSAGE_TYPE not in packet.options:
            return self._bootp(ask)
        handler = self._HANDLERS.get(packet.message_type)
        if handler is None:
            return [ignored(packet, f"message type {packet.message_type} is not a client's")]
        return handler(self, ask)

    def probed(self, probe: Probe, in_use: bool, now: float) -> list[Action]:
        """Go on with a DISCOVER whose address was looked up: the offer, or quarantine and another address.

        The newest DISCOVER of that machine is answered, which may not be the one that asked for the probe.
        """
        latest, _ = self._probing.pop(probe.address, (probe, now))
        if latest.mac != probe.mac:
            latest = probe
        ask = self._judge(latest.packet, latest.arrived_on, now)
        if isinstance(ask, list):  # the configuration changed meanwhile
            return ask
        held = self._leases.owner_of(probe.address)
        here = [subnet for subnet in (ask.subnet, *ask.shared) if subnet.contains(probe.address)]
        if held is None or held.mac != ask.mac or held.state != "offered" or not here:
            return self._discover(ask)  # overtaken by another message of the same machine
        ask = replace(ask, subnet=here[0])  # the first one may have been full
        if not in_use:
            return self._offer(ask, probe.address)
        self._leases.decline(ask.mac, probe.address, now, ask.subnet.decline_seconds)
        why = f"{probe.address} answers although nobody has it from us: out of use for "
        note = ask.noted("dhcp.conflict", f"{why}{ask.subnet.decline_seconds} s", address=probe.address)
        conflicts = probe.conflicts + 1
        return [note, *(self._discover(ask, conflicts) if conflicts < _MOST_CONFLICTS else ())]

    def _judge(self, packet: Packet, arrived_on: Arrival, now: float) -> Exchange | list[Action]:
        """All that is found out before the message type matters, or the note that says why it ends here."""
        client = identify(packet)
        if isinstance(client, Ignored):
            return [ignored(packet, client.reason)]
        here = self._table.candidates(packet, arrived_on)
        if not here:
            where = f"relay {packet.giaddr}" if packet.giaddr != ANY else f"interface {arrived_on.interface}"
            return [ignored(packet, f"no subnet is configured for {where}")]
        settings: ClientSettings | None = None
        if self._hosts is not None:
            uuid = client.uuid if isinstance(client, PxeClient) else None
            settings = self._hosts.settings_of(client.mac, uuid)
        settings = settings or NOTHING_SET
        if len(here) > 1:
            held = [self._leases.lease_of(client.mac, subnet.name) for subnet in here]
            active = [lease.address for lease in held if lease is not None and lease.held_by(client.mac, now)]
            here = settle(here, packet, client.mac, settings, active)
        subnet = here[0]
        if subnet.mode == "off":
            return [ignored(packet, f"we answer nothing in {subnet.name} (mode off)")]
        server = server_identifier(packet, subnet, arrived_on)
        if server == ANY:
            return [ignored(packet, f"interface {arrived_on.interface} has no address to answer from")]
        if server == arrived_on.address or server == subnet.server:
            self._own.add(server)
        return Exchange(packet, client, client.mac, subnet, server, arrived_on, now, settings, here[1:])

    def _beside_another(self, ask: Exchange) -> list[Action]:
        """Mode proxy, port 67: DISCOVERs of PXE clients are answered, all else is the other server's."""
        packet = ask.packet
        if packet.message_type == MessageType.DISCOVER:
            return proxy_offer(ask, self._choice)
        chosen = packet.server_identifier
        if packet.message_type == MessageType.REQUEST and chosen is not None and not self._ours(ask, chosen):
            told = self._seen(ask, chosen)
            return told or [ignored(packet, f"{ask.mac} takes the address of {chosen}")]
        return [ignored(packet, f"we give no addresses in {ask.subnet.name} (mode proxy)")]

    def _ours(self, ask: Exchange, chosen: str) -> bool:
        # A relay may know us by two addresses and pass everything on to both.
        return chosen == ask.server or chosen in self._own

    def _seen(self, ask: Exchange, chosen: str) -> list[Action]:
        """A client chose another server: remember it, and tell the journal now and then."""
        if not self._foreign.note(ask.subnet.name, chosen, ask.now):
            return []
        return [
            ask.noted(
                "dhcp.foreign_seen",
                f"{chosen} gives addresses in {ask.subnet.name}: {ask.mac} took one",
                server=chosen,
            )
        ]

    # --- one method per message type

    def _discover(self, ask: Exchange, conflicts: int = 0) -> list[Action]:
        """RFC 2131 §4.3.1. ciaddr is rubbish in some ROMs' DISCOVER and is not looked at."""
        packet, subnet = ask.packet, ask.subnet
        held = self._leases.lease_of(ask.mac, subnet.name)
        pending = self._probing.get(held.address) if held else None
        if pending and pending[0].mac == ask.mac and ask.now < pending[1]:
            probe = replace(pending[0], packet=packet, arrived_on=ask.arrived_on)
            self._probing[probe.address] = (probe, pending[1])
            return [ask.noted("dhcp.ignored", f"asked again while {probe.address} is still looked up")]
        address = self._addresses.pick(ask, held)
        if address is None:
            if ask.shared:  # the wire has another subnet
                return self._discover(replace(ask, subnet=ask.shared[0], shared=ask.shared[1:]), conflicts)
            return [ask.noted("dhcp.exhausted", f"no free address in {subnet.name} for {ask.mac}")]
        # What it was only promised may be somebody's; the shell remembers what it found free just now.
        new = held is None or held.address != address or held.state == "offered"
        if not (subnet.conflict_probe and new):
            return self._offer(ask, address)
        interface = ask.arrived_on.interface
        probe = Probe(
            address=address,
            interface=interface,
            mac=ask.mac,
            packet=packet,
            arrived_on=ask.arrived_on,
            conflicts=conflicts,
        )
        self._probing[address] = (probe, ask.now + _PROBE_LOST)
        return [probe]

    def _offer(self, ask: Exchange, address: str) -> list[Action]:
        return answer(ask, self._choice, MessageType.OFFER, address)

    def _request(self, ask: Exchange) -> list[Action]:
        """RFC 2131 §4.3.2: which of its states the client is in shows in 54, 50 and ciaddr (table 4)."""
        packet = ask.packet
        chosen, wanted = packet.server_identifier, packet.requested_address
        vendor = packet.options.get(opt.VENDOR_SPECIFIC)
        if vendor is not None and BOOT_ITEM in opt.suboptions(vendor):
            # PXE 2.1 §2.4: it looks for a boot server by broadcast, as another server's menu told it to.
            return [ignored(packet, "a search for a boot server (43.71), no request for an address")]
        # RENEWING and REBINDING name no server; who does, and means another, is not talking to us.
        if chosen is not None and (packet.ciaddr == ANY or not self._ours(ask, chosen)):
            return self._selecting(ask, chosen, wanted)
        if packet.ciaddr != ANY:  # RENEWING by unicast, REBINDING by broadcast: judged alike
            return self._confirm(ask, packet.ciaddr, "renewed")
        if wanted is None:
            return [ignored(packet, "REQUEST with neither server (54), address (50) nor ciaddr")]
        return self._confirm(ask, wanted, "confirmed after a restart")

    def _selecting(self, ask: Exchange, chosen: str, wanted: str | None) -> list[Action]:
        if not self._ours(ask, chosen):
            lease = self._leases.lease_of(ask.mac, ask.subnet.name)
            if lease is not None and lease.state == "offered":
                self._leases.release(ask.mac, lease.address, ask.now)
            passed = ask.noted("dhcp.passed", f"{ask.mac} chose the offer of {chosen}", server=chosen)
            return [passed, *self._seen(ask, chosen)]
        if chosen != ask.server:
            ask = replace(ask, server=chosen)  # it knows us by this address
        if wanted is None:
            return [ignored(ask.packet, "REQUEST that selects us without an address (option 50)")]
        if reason := self._addresses.refusal(ask, wanted):
            return nak(ask, wanted, reason)
        return self._acknowledge(ask, wanted, "bound")

    def _confirm(self, ask: Exchange, address: str, how: str) -> list[Action]:
        """INIT-REBOOT, RENEWING and REBINDING: the client believes it has a lease."""
        known = self._leases.lease_of(ask.mac, ask.subnet.name)
        ours = known is not None and known.address == address and known.state in ("bound", "released")
        if known is None and not ask.subnet.authoritative:
            # "If the DHCP server has no record of this client, then it MUST remain silent" (§4.3.2).
            return [ignored(ask.packet, f"no record of {ask.mac}, and we are not authoritative here")]
        if not ask.subnet.contains(address):
            return nak(ask, address, f"{address} does not belong to {ask.subnet.name}")
        if reason := self._addresses.refusal(ask, address):
            return nak(ask, address, reason)
        # An authoritative server that lost its table, or follows another, adopts what is free (booting.md).
        return self._acknowledge(ask, address, how if ours else f"{how} (adopted: we had no record of it)")

    def _decline(self, ask: Exchange) -> list[Action]:
        """RFC 2131 §4.3.3: the client found somebody else using the address."""
        address, chosen = ask.packet.requested_address, ask.packet.server_identifier
        if address is None or (chosen is not None and not self._ours(ask, chosen)):
            return [ignored(ask.packet, "DECLINE without an address (option 50), or for another server")]
        if not self._leases.decline(ask.mac, address, ask.now, ask.subnet.decline_seconds):
            return [ignored(ask.packet, f"DECLINE of {address}, which {ask.mac} does not hold")]
        why = f"{ask.mac} says that {address} is in use by another machine: out of use for "
        return [ask.noted("dhcp.declined", f"{why}{ask.subnet.decline_seconds} s", address=address)]

    def _release(self, ask: Exchange) -> list[Action]:
        """RFC 2131 §4.3.4: never answered."""
        address, chosen = ask.packet.ciaddr, ask.packet.server_identifier
        if chosen is not None and not self._ours(ask, chosen):
            return [ignored(ask.packet, f"RELEASE for the server {chosen}")]
        if not self._leases.release(ask.mac, address, ask.now):
            return [ignored(ask.packet, f"RELEASE of {address}, which {ask.mac} does not hold")]
        return [ask.noted("dhcp.released", f"{ask.mac} gave back {address}", address=address)]

    def _inform(self, ask: Exchange) -> list[Action]:
        """RFC 2131 §4.3.5: the client has an address of its own; no lease time, no yiaddr."""
        packet, source = ask.packet, ask.arrived_on.source
        if packet.ciaddr == ANY and packet.giaddr == ANY and ask.subnet.contains(source):
            packet = replace(packet, ciaddr=source)  # it forgot to say what its datagram says
            ask = replace(ask, packet=packet)
        if packet.ciaddr == ANY or not ask.subnet.usable(packet.ciaddr):
            # Answering to any ciaddr would let a stranger have us send packets anywhere, or to everybody.
            return [ignored(packet, f"INFORM of {packet.ciaddr}, no machine's address in {ask.subnet.name}")]
        return answer(ask, self._choice, MessageType.ACK, None)

    def _bootp(self, ask: Exchange) -> list[Action]:
        """RFC 1534: no message type at all. Reserved addresses only, if the subnet says so."""
        packet, reservation = ask.packet, ask.reservation
        if ask.subnet.bootp != "answer":
            return [ignored(packet, f"BOOTP is not answered in {ask.subnet.name} (setting bootp)")]
        if reservation is None:
            return [ignored(packet, f"BOOTP of {ask.mac}, which has no reservation in {ask.subnet.name}")]
        wanted = packet.sname.decode("ascii", "replace")
        if wanted and wanted != ask.server:
            return [ignored(packet, f"BOOTP for the server {wanted!r}")]
        if reason := self._addresses.refusal(ask, reservation.address):
            return [ignored(packet, f"BOOTP of {ask.mac} is not answered: {reason}")]
        actions = bootp_reply(ask, self._choice, reservation.address)
        # It never renews: the record says who has the address, and the reservation keeps it.
        refused = self._bind(ask, reservation.address, ask.subnet.lease_seconds)
        return [ignored(packet, refused)] if refused else actions

    def _acknowledge(self, ask: Exchange, address: str, how: str) -> list[Action]:
        actions = answer(ask, self._choice, MessageType.ACK, address, how)
        refused = self._bind(ask, address, lease_seconds(ask))
        return nak(ask, address, refused) if refused else actions

    def _bind(self, ask: Exchange, address: str, seconds: int) -> str:
        """Have the table hold it from now on. Returns "" or why it cannot."""
        packet, agent = ask.packet, ""
        if relay := packet.options.get(opt.RELAY_AGENT_INFORMATION):
            agent = relay[:255].hex()
        elif (before := self._leases.owner_of(address)) is not None and before.mac == ask.mac:
            agent = before.agent  # a renewal goes past the relay
        identifier = packet.options.get(opt.CLIENT_IDENTIFIER)
        lease = Lease(
            address,
            ask.subnet.name,
            ask.mac,
            "bound",
            ask.now,
            ask.now + seconds,
            packet.host_name if opt.HOST_NAME in packet.options else "",
            identifier.hex() if identifier else "",
            agent,
        )
        try:
            self._leases.bind(lease, ask.now)
        except LeaseTaken as error:
            return str(error)
        return ""

    _HANDLERS: ClassVar[dict[int, Callable[[Responder, Exchange], list[Action]]]] = {
        MessageType.DISCOVER: _discover,
        MessageType.REQUEST: _request,
        MessageType.DECLINE: _decline,
        MessageType.RELEASE: _release,
        MessageType.INFORM: _inform,
    }
