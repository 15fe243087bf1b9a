"""The server's side of RFC 2131: one request in, what to send and what to note out.

Pure but for the lease table, whose changes the shell commits before it sends anything. The state of a
client is the table's; each request is judged by the row of `_HANDLERS` for its message type and, for a
REQUEST, by the fields that tell the four client states of RFC 2131 §4.3.2 apart (`_request`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from socket import inet_ntoa
from typing import ClassVar

from dhcp import options as opt
from dhcp.actions import Action, Arrival, Noted, Probe, Send, deliver
from dhcp.bootfile import BootChoice, BootFields, BootFile, boot_fields
from dhcp.leases import Lease, LeaseStore, LeaseTaken
from dhcp.options import Options
from dhcp.packet import ANY, BROADCAST, MessageType, Packet
from dhcp.pxe import Ignored, PlainClient, PxeClient, hardware_address, identify
from dhcp.subnets import ClientSettings, HostSettings, Reservation, SubnetConfig

__all__ = ["Action", "Arrival", "BootChoice", "BootFile", "Noted", "Probe", "Responder", "Send"]

# What a client may ask for as its own lease time (option 51), at least.
_SHORTEST_WISH = 60
_LINK_SELECTION = 5  # RFC 3527
_SERVER_ID_OVERRIDE = 11  # RFC 5107
# A probe takes 0.3 s; one not back after this many seconds is lost: the next DISCOVER starts another.
_PROBE_LOST = 2.0
# Seconds that an address which a host's settings reserve is kept for it once the pool came upon it.
_KEEP_RESERVED = 3600
_NOTHING_SET = ClientSettings()


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request with all that was found out about it."""

    packet: Packet
    client: PxeClient | PlainClient
    subnet: SubnetConfig
    server: str
    arrived_on: Arrival
    now: float
    settings: ClientSettings = _NOTHING_SET

    @property
    def mac(self) -> str:
        return self.client.mac

    def noted(self, kind: str, sentence: str, **data: object) -> Noted:
        return Noted(
            kind=kind, mac=self.client.mac, sentence=sentence, data={"subnet": self.subnet.name, **data}
        )


class Responder:
    """Answers DHCP requests for a set of subnets (mode full)."""

    def __init__(
        self,
        subnets: Sequence[SubnetConfig],
        leases: LeaseStore,
        choice: BootChoice,
        hosts: HostSettings | None = None,
    ) -> None:
        self.subnets = tuple(subnets)
        self._leases = leases
        self._choice = choice
        self._hosts = hosts
        self._probing: dict[str, tuple[Probe, float]] = {}  # by address: at most as many as the pools hold

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
        handler = self._HANDLERS.get(packet.message_type)
        if handler is None:
            return [_ignored(packet, f"message type {packet.message_type} is not a client's")]
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
        held = self._leases.lease_of(ask.mac, ask.subnet.name)
        if held is None or held.address != probe.address or held.state != "offered":
            return self._discover(ask)  # overtaken by another message of the same machine
        if not in_use:
            return self._offer(ask, probe.address)
        self._leases.decline(ask.mac, probe.address, now, ask.subnet.decline_seconds)
        why = f"{probe.address} answers although nobody has it from us: out of use for "
        note = ask.noted("dhcp.conflict", f"{why}{ask.subnet.decline_seconds} s", address=probe.address)
        return [note, *self._discover(ask)]

    def _judge(self, packet: Packet, arrived_on: Arrival, now: float) -> _Exchange | list[Action]:
        """All that is found out before the message type matters, or the note that says why it ends here."""
        client = identify(packet)
        if isinstance(client, Ignored):
            return [_ignored(packet, client.reason)]
        subnet = self._subnet(packet, arrived_on)
        if subnet is None:
            where = f"relay {packet.giaddr}" if packet.giaddr != ANY else f"interface {arrived_on.interface}"
            return [_ignored(packet, f"no subnet is configured for {where}")]
        if subnet.mode != "full":
            return [_ignored(packet, f"we give no addresses in {subnet.name} (mode {subnet.mode})")]
        server = _server_identifier(packet, subnet, arrived_on)
        if server == ANY:
            return [_ignored(packet, f"interface {arrived_on.interface} has no address to answer from")]
        settings = None
        if self._hosts is not None:
            settings = self._hosts.settings_of(client.mac, getattr(client, "uuid", None))
        return _Exchange(packet, client, subnet, server, arrived_on, now, settings or _NOTHING_SET)

    # --- one method per message type

    def _discover(self, ask: _Exchange) -> list[Action]:
        """RFC 2131 §4.3.1. ciaddr is rubbish in some ROMs' DISCOVER and is not looked at."""
        packet, subnet = ask.packet, ask.subnet
        held = self._leases.lease_of(ask.mac, subnet.name)
        wishes = (self._reserved(ask), held.address if held else None, packet.requested_address)
        wanted = tuple(address for address in wishes if address and self._may_have(ask, address))
        pending = held and self._probing.get(held.address)
        if pending and pending[0].mac == ask.mac and ask.now < pending[1]:
            probe = replace(pending[0], packet=packet, arrived_on=ask.arrived_on)
            self._probing[probe.address] = (probe, pending[1])
            return [ask.noted("dhcp.ignored", f"asked again while {probe.address} is still looked up")]
        address = self._pick(ask, wanted)
        if address is None:
            why = f"no free address in {subnet.name} for {ask.mac}"
            return [ask.noted("dhcp.exhausted", why)]
        new = held is None or held.address != address or bool(pending)
        if not (subnet.conflict_probe and new):
            return self._offer(ask, address)
        interface = ask.arrived_on.interface
        probe = Probe(
            address=address, interface=interface, mac=ask.mac, packet=packet, arrived_on=ask.arrived_on
        )
        self._probing[address] = (probe, ask.now + _PROBE_LOST)
        return [probe]

    def _offer(self, ask: _Exchange, address: str) -> list[Action]:
        reply, notes = self._reply(ask, MessageType.OFFER, address)
        return [deliver(ask.packet, reply, ask.arrived_on), *notes]

    def _pick(self, ask: _Exchange, wanted: tuple[str, ...]) -> str | None:
        """An address of the pool that this machine may have, kept for it from now on."""
        subnet = ask.subnet
        while True:
            lease = self._leases.offer(ask.mac, subnet.pool, wanted, ask.now, subnet.offer_seconds)
            if lease is None:
                return None
            owner = self._reserved_to_another(ask, lease.address)
            if owner is None:
                return lease.address
            # The pool does not know of a host's own reservation. Promise the address to whom it belongs, so
            # that the pool goes on to the next one, and comes back to it when the reservation may be gone.
            self._leases.release(ask.mac, lease.address, ask.now)
            self._leases.offer(owner, subnet.pool, (lease.address,), ask.now, _KEEP_RESERVED)

    def _reserved_to_another(self, ask: _Exchange, address: str) -> str | None:
        if self._hosts is None or address == self._reserved(ask):
            return None
        owner = self._hosts.reserved_to(address)
        return None if owner == ask.mac else owner

    def _request(self, ask: _Exchange) -> list[Action]:
        """RFC 2131 §4.3.2: which of its states the client is in shows in 54, 50 and ciaddr (table 4)."""
        packet = ask.packet
        chosen, wanted = packet.server_identifier, packet.requested_address
        if chosen is not None and packet.ciaddr == ANY:
            return self._selecting(ask, chosen, wanted)
        if packet.ciaddr != ANY:  # RENEWING by unicast, REBINDING by broadcast: judged alike
            return self._confirm(ask, packet.ciaddr, "renewed")
        if wanted is None:
            return [_ignored(packet, "REQUEST with neither server (54), address (50) nor ciaddr")]
        return self._confirm(ask, wanted, "confirmed after a restart")

    def _selecting(self, ask: _Exchange, chosen: str, wanted: str | None) -> list[Action]:
        if chosen != ask.server:
            lease = self._leases.lease_of(ask.mac, ask.subnet.name)
            if lease is not None and lease.state == "offered":
                self._leases.release(ask.mac, lease.address, ask.now)
            return [ask.noted("dhcp.passed", f"{ask.mac} chose the offer of {chosen}", server=chosen)]
        if wanted is None:
            return [_ignored(ask.packet, "REQUEST that selects us without an address (option 50)")]
        if reason := self._refusal(ask, wanted):
            return self._nak(ask, wanted, reason)
        return self._bind(ask, wanted, "bound")

    def _confirm(self, ask: _Exchange, address: str, how: str) -> list[Action]:
        """INIT-REBOOT, RENEWING and REBINDING: the client believes it has a lease."""
        known = self._leases.lease_of(ask.mac, ask.subnet.name)
        ours = known is not None and known.address == address and known.state in ("bound", "released")
        if known is None and not ask.subnet.authoritative:
            # "If the DHCP server has no record of this client, then it MUST remain silent" (§4.3.2).
            return [_ignored(ask.packet, f"no record of {ask.mac}, and we are not authoritative here")]
        if not ask.subnet.contains(address):
            return self._nak(ask, address, f"{address} does not belong to {ask.subnet.name}")
        if reason := self._refusal(ask, address):
            return self._nak(ask, address, reason)
        # An authoritative server that lost its table, or follows another, adopts what is free (booting.md).
        return self._bind(ask, address, how if ours else f"{how} (adopted: we had no record of it)")

    def _decline(self, ask: _Exchange) -> list[Action]:
        """RFC 2131 §4.3.3: the client found somebody else using the address."""
        address, chosen = ask.packet.requested_address, ask.packet.server_identifier
        if address is None or (chosen is not None and chosen != ask.server):
            return [_ignored(ask.packet, "DECLINE without an address (option 50), or for another server")]
        if not self._leases.decline(ask.mac, address, ask.now, ask.subnet.decline_seconds):
            return [_ignored(ask.packet, f"DECLINE of {address}, which {ask.mac} does not hold")]
        why = f"{ask.mac} says that {address} is in use by another machine: out of use for "
        return [ask.noted("dhcp.declined", f"{why}{ask.subnet.decline_seconds} s", address=address)]

    def _release(self, ask: _Exchange) -> list[Action]:
        """RFC 2131 §4.3.4: never answered."""
        address, chosen = ask.packet.ciaddr, ask.packet.server_identifier
        if chosen is not None and chosen != ask.server:
            return [_ignored(ask.packet, f"RELEASE for the server {chosen}")]
        if not self._leases.release(ask.mac, address, ask.now):
            return [_ignored(ask.packet, f"RELEASE of {address}, which {ask.mac} does not hold")]
        return [ask.noted("dhcp.released", f"{ask.mac} gave back {address}", address=address)]

    def _inform(self, ask: _Exchange) -> list[Action]:
        """RFC 2131 §4.3.5: the client has an address of its own; no lease time, no yiaddr."""
        if ask.packet.ciaddr == ANY or not ask.subnet.contains(ask.packet.ciaddr):
            # Answering to any ciaddr would let a stranger have us send packets anywhere.
            return [
                _ignored(ask.packet, f"INFORM of {ask.packet.ciaddr}, not an address of {ask.subnet.name}")
            ]
        reply, notes = self._reply(ask, MessageType.ACK, None)
        return [deliver(ask.packet, reply, ask.arrived_on), *notes]

    _HANDLERS: ClassVar[dict[int, Callable[[Responder, _Exchange], list[Action]]]] = {
        MessageType.DISCOVER: _discover,
        MessageType.REQUEST: _request,
        MessageType.DECLINE: _decline,
        MessageType.RELEASE: _release,
        MessageType.INFORM: _inform,
    }

    # --- judging and binding

    def _reservation(self, ask: _Exchange) -> Reservation | None:
        own = ask.settings.reservation
        if own is not None and ask.subnet.contains(own.address):
            return own
        return ask.subnet.reservations.get(ask.mac)

    def _reserved(self, ask: _Exchange) -> str | None:
        reservation = self._reservation(ask)
        return reservation.address if reservation else None

    def _may_have(self, ask: _Exchange, address: str) -> bool:
        reserved = self._reserved(ask)
        if address == reserved:
            return True
        if address not in ask.subnet.pool or self._reserved_to_another(ask, address) is not None:
            return False
        if reserved is None:
            return True
        # A reservation whose address is another machine's for now must not leave this one without any.
        holder = self._leases.owner_of(reserved)
        return holder is not None and holder.mac != ask.mac and holder.active(ask.now)

    def _refusal(self, ask: _Exchange, address: str) -> str | None:
        """Why this machine cannot have this address, or None."""
        if not self._may_have(ask, address):
            reserved = self._reserved(ask)
            return f"{ask.mac} is to have {reserved}" if reserved else f"{address} is not in the pool"
        holder = self._leases.owner_of(address)
        if holder is not None and holder.mac != ask.mac and holder.active(ask.now):
            return f"{address} is {'held by ' + holder.mac if holder.mac else 'in quarantine'}"
        known = self._leases.lease_of(ask.mac, ask.subnet.name)
        moves = address == self._reserved(ask)  # a new reservation outranks the lease it has
        if known is not None and known.address != address and known.held_by(ask.mac, ask.now) and not moves:
            return f"{ask.mac} holds {known.address}"
        return None

    def _bind(self, ask: _Exchange, address: str, how: str) -> list[Action]:
        packet = ask.packet
        reply, notes = self._reply(ask, MessageType.ACK, address, how)
        seconds = _lease_seconds(ask)
        lease = Lease(
            address=address,
            subnet=ask.subnet.name,
            mac=ask.mac,
            state="bound",
            starts=ask.now,
            expires=ask.now + seconds,
            host_name=packet.host_name,
            client_id=packet.options.get(opt.CLIENT_IDENTIFIER, b"").hex(),
        )
        try:
            self._leases.bind(lease, ask.now)
        except LeaseTaken as error:
            return self._nak(ask, address, str(error))
        return [deliver(packet, reply, ask.arrived_on), *notes]

    def _nak(self, ask: _Exchange, address: str, reason: str) -> list[Action]:
        packet = ask.packet
        options: Options = {
            opt.MESSAGE_TYPE: bytes((MessageType.NAK,)),
            opt.SERVER_IDENTIFIER: opt.addresses([ask.server]),
            opt.MESSAGE: reason.encode("ascii", "replace")[:255],
        }
        _echo(packet, options)
        reply = Packet(
            op=2,
            htype=packet.htype,
            xid=packet.xid,
            flags=packet.flags,
            giaddr=packet.giaddr,
            chaddr=packet.chaddr,
        )
        reply.options = options
        sentence = f"refused {address} to {ask.mac}: {reason}"
        return [deliver(packet, reply, ask.arrived_on), ask.noted("dhcp.refused", sentence, address=address)]

    # --- building replies

    def _reply(
        self, ask: _Exchange, kind: MessageType, address: str | None, how: str = ""
    ) -> tuple[Packet, list[Noted]]:
        """OFFER and ACK (RFC 2131 table 3), with the note that explains it."""
        packet = ask.packet
        boot, trouble = self._boot(ask)
        options: Options = {
            opt.MESSAGE_TYPE: bytes((kind,)),
            opt.SERVER_IDENTIFIER: opt.addresses([ask.server]),
        }
        seconds = _lease_seconds(ask)
        if address is not None:
            options[opt.LEASE_TIME] = opt.seconds(seconds)
            options[opt.RENEWAL_TIME] = opt.seconds(seconds // 2)
            options[opt.REBINDING_TIME] = opt.seconds(seconds * 7 // 8)
        if boot is not None:
            options.update(boot.options)
        self._add_settings(ask, options)
        _echo(packet, options)
        reply = Packet(
            op=2,
            htype=packet.htype,
            xid=packet.xid,
            flags=packet.flags,
            ciaddr=packet.ciaddr if kind == MessageType.ACK else ANY,
            yiaddr=address or ANY,
            siaddr=boot.siaddr if boot else ANY,
            giaddr=packet.giaddr,
            chaddr=packet.chaddr,
            sname=boot.sname if boot else b"",
            file=boot.file if boot else b"",
            options=options,
        )
        client = ask.client
        who = f"{ask.mac} ({client.kind})" if isinstance(client, PxeClient) else ask.mac
        data: dict[str, object] = {"address": address or packet.ciaddr, "server": ask.server}
        if address is None:
            event, sentence = "dhcp.informed", f"told {who} at {packet.ciaddr} its options"
        elif kind == MessageType.OFFER:
            event, sentence = "dhcp.offered", f"offered {address} to {who}"
        else:
            event, sentence = "dhcp.acknowledged", f"{address} {how} to {who} for {seconds} s"
            data["seconds"] = seconds
        if isinstance(client, PxeClient):
            data.update(architecture=client.architecture.name, ipxe=client.ipxe, http=client.http)
            if boot is not None:
                data["file"] = boot.options[opt.BOOT_FILE_NAME].decode("ascii")
        note = trouble or (client.note if isinstance(client, PlainClient) else "")
        return reply, [ask.noted(event, f"{sentence}; {note}" if note else sentence, **data)]

    def _boot(self, ask: _Exchange) -> tuple[BootFields | None, str]:
        """The boot part of a reply, and a sentence about it."""
        client = ask.client
        if not isinstance(client, PxeClient):
            return None, ""
        choice = self._choice.choose(client, ask.now, ask.server)
        if choice is None:
            return None, "nothing to boot"
        fields = boot_fields(client, choice, ask.packet, ask.server)
        if isinstance(fields, str):
            return None, fields
        return fields, f"boots {fields.options[opt.BOOT_FILE_NAME].decode('ascii')}: {choice.reason}"

    def _add_settings(self, ask: _Exchange, options: Options) -> None:
        """The subnet's options: those on the client's list (55) in its order, all when it sent none."""
        settings = ask.subnet.settings
        if ask.settings.options:
            settings = {**settings, **ask.settings.options}
        options[opt.SUBNET_MASK] = settings[opt.SUBNET_MASK]
        wishes = ask.packet.parameter_list
        for code in settings if wishes is None else wishes:
            if code in settings and code not in options:
                options[code] = settings[code]
        reservation = self._reservation(ask)
        if reservation is not None and reservation.host_name and (wishes is None or opt.HOST_NAME in wishes):
            options[opt.HOST_NAME] = reservation.host_name.encode("ascii", "replace")

    def _subnet(self, packet: Packet, arrived_on: Arrival) -> SubnetConfig | None:
        """The client's subnet: by RFC 3527 or 3011, giaddr, a unicast renewal's ciaddr, or the interface."""
        if packet.giaddr != ANY:
            link = opt.suboptions(packet.options.get(opt.RELAY_AGENT_INFORMATION, b"")).get(_LINK_SELECTION)
            link = link or packet.options.get(opt.SUBNET_SELECTION)
            address = inet_ntoa(link) if link is not None and len(link) == 4 else packet.giaddr
            return next((subnet for subnet in self.subnets if subnet.contains(address)), None)
        unicast = arrived_on.destination not in (BROADCAST, ANY)
        if unicast and packet.ciaddr != ANY and packet.message_type != MessageType.DISCOVER:
            # A client behind a relay renews by unicast, past the relay (RFC 2131 §4.4.5).
            found = next((subnet for subnet in self.subnets if subnet.contains(packet.ciaddr)), None)
            if found is not None:
                return found
        here = [subnet for subnet in self.subnets if subnet.interface == arrived_on.interface]
        if len(here) > 1:
            return next((subnet for subnet in here if subnet.contains(arrived_on.address)), here[0])
        return here[0] if here else None


def _server_identifier(packet: Packet, subnet: SubnetConfig, arrived_on: Arrival) -> str:
    """Our address as the client shall use it (54). A relay may insist on its own (RFC 5107)."""
    if packet.giaddr != ANY and (relay := packet.options.get(opt.RELAY_AGENT_INFORMATION)):
        override = opt.suboptions(relay).get(_SERVER_ID_OVERRIDE, b"")
        if len(override) == 4 and any(override):
            return inet_ntoa(override)
    return subnet.server or arrived_on.address


def _lease_seconds(ask: _Exchange) -> int:
    if isinstance(ask.client, PxeClient):
        return ask.subnet.pxe_lease_seconds
    wish = ask.packet.options.get(opt.LEASE_TIME, b"")
    if len(wish) != 4:
        return ask.subnet.lease_seconds
    return min(max(int.from_bytes(wish, "big"), _SHORTEST_WISH), ask.subnet.lease_seconds)


def _echo(packet: Packet, options: Options) -> None:
    """What must come back unchanged: 61 (RFC 6842), 82 (RFC 3046 §2.2), 118 (RFC 3011)."""
    for code in (opt.CLIENT_IDENTIFIER, opt.SUBNET_SELECTION, opt.RELAY_AGENT_INFORMATION):
        if code in packet.options:
            options[code] = packet.options[code]


def _ignored(packet: Packet, reason: str) -> Noted:
    kind = packet.message_type
    data: dict[str, object] = {"message_type": kind, "giaddr": packet.giaddr}
    return Noted(kind="dhcp.ignored", mac=hardware_address(packet) or "", sentence=reason, data=data)
