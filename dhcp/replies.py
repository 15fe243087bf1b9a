"""What OFFER, ACK and NAK of a server that gives addresses carry: RFC 2131 table 3, and a note on each."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from socket import inet_aton
from typing import Final

from dhcp import options as opt
from dhcp.actions import Action, Noted, deliver
from dhcp.bootfile import BootChoice, BootFields, boot_fields
from dhcp.exchange import NOTHING_SET, Exchange
from dhcp.options import Options
from dhcp.packet import ANY, MessageType, Packet, encode_shared
from dhcp.pxe import PxeClient
from dhcp.subnets import without_boot

# What a client may ask for as its own lease time (option 51), at least.
_SHORTEST_WISH: Final = 60
_MOST_REPLIES: Final = 256

_KINDS: Final = {kind: bytes((kind,)) for kind in MessageType}


@lru_cache(256)
def _times(seconds: int) -> Options:
    """Lease, T1 and T2 (RFC 2131 §4.4.5). Read only: it is shared by all replies with this lease time."""
    return {
        opt.LEASE_TIME: opt.seconds(seconds),
        opt.RENEWAL_TIME: opt.seconds(seconds // 2),
        opt.REBINDING_TIME: opt.seconds(seconds * 7 // 8),
    }


packed = lru_cache(64)(inet_aton)
"""An address of ours as bytes: there are few, and every reply has one."""


def boot_of(
    ask: Exchange, client: PxeClient, choice: BootChoice, server: str
) -> tuple[BootFields | None, str]:
    """The boot part of a reply, and a sentence about it; `server` is where the files are by default."""
    boot = choice.choose(client, ask.now, server)
    if boot is None:
        return None, "nothing to boot"
    fields = boot_fields(client, boot, ask.packet, server)
    if isinstance(fields, str):
        return None, fields
    return fields, f"boots {fields.options[opt.BOOT_FILE_NAME].decode('ascii')}: {boot.reason}"


def lease_seconds(ask: Exchange) -> int:
    """How long this client may have an address: a boot ROM shortly, others as long as they ask, bounded."""
    if isinstance(ask.client, PxeClient):
        return ask.subnet.pxe_lease_seconds
    wish = ask.packet.options.get(opt.LEASE_TIME, b"")
    if len(wish) != 4:
        return ask.subnet.lease_seconds
    return min(max(int.from_bytes(wish, "big"), _SHORTEST_WISH), ask.subnet.lease_seconds)


def answer(
    ask: Exchange, choice: BootChoice, kind: MessageType, address: str | None, how: str = ""
) -> list[Action]:
    """An OFFER or ACK of `address` (None: the ACK of an INFORM), and the note that explains it."""
    packet, client = ask.packet, ask.client
    if isinstance(client, PxeClient):
        # A relay that stands in as the server (82.11) has no files: these are at our own address.
        boot, remark = boot_of(ask, client, choice, ask.subnet.server or ask.arrived_on.address)
        who = f"{client.mac} ({client.kind})"
    else:
        boot, remark, who = None, client.note, client.mac
    seconds = lease_seconds(ask)
    options, encoded = _options(ask, kind, None if address is None else seconds, boot)
    echo(packet, options)
    reply = Packet.reply_to(
        packet,
        options,
        ciaddr=packet.ciaddr if kind == MessageType.ACK else ANY,
        yiaddr=address or ANY,
        siaddr=boot.siaddr if boot else ANY,
        sname=boot.sname if boot else b"",
        file=boot.file if boot else b"",
        encoded=encoded,
    )
    data: dict[str, object] = {"address": address or packet.ciaddr, "server": ask.server}
    if address is None:
        event, sentence = "dhcp.informed", f"told {who} at {packet.ciaddr} its options"
    elif kind == MessageType.OFFER:
        event, sentence = "dhcp.offered", f"offered {address} to {who}"
    else:
        event, sentence = "dhcp.acknowledged", f"{address} {how} to {who} for {seconds} s"
        data["seconds"] = seconds
    if remark:
        sentence = f"{sentence}; {remark}"
    return [deliver(packet, reply, ask.arrived_on), boot_note(ask, event, sentence, boot, data)]


def _options(
    ask: Exchange, kind: MessageType, seconds: int | None, boot: BootFields | None
) -> tuple[Options, bytes | None]:
    """What the reply says, but for echoes, and the same encoded: plain clients with the same wishes are all
    told the same, so for them it is made once.
    """
    packet, subnet = ask.packet, ask.subnet
    alike = boot is None and ask.settings is NOTHING_SET and ask.client.mac not in subnet.reservations
    wishes = packet.options.get(opt.PARAMETER_LIST)
    key = (kind, seconds, wishes, ask.server, isinstance(ask.client, PxeClient))
    if alike and (made := subnet.replies.get(key)) is not None:
        return made[0].copy(), made[1]
    options: Options = {
        opt.MESSAGE_TYPE: _KINDS[kind],
        opt.SERVER_IDENTIFIER: packed(ask.server),
    }
    if seconds is not None:
        options.update(_times(seconds))
    if boot is not None:
        options.update(boot.options)
    _add_settings(ask, options)
    if not alike:
        return options, None
    if len(subnet.replies) >= _MOST_REPLIES:  # as many as strangers can think of wishes
        subnet.replies.clear()
    encoded = encode_shared(options)
    subnet.replies[key] = (options.copy(), encoded)
    return options, encoded


def boot_note(
    ask: Exchange, event: str, sentence: str, boot: BootFields | None, data: dict[str, object]
) -> Noted:
    """A note with what a PXE client said of itself, and its file."""
    client = ask.client
    if isinstance(client, PxeClient):
        data.update(architecture=client.architecture.name, ipxe=client.ipxe, http=client.http)
        if boot is not None:
            data["file"] = boot.options[opt.BOOT_FILE_NAME].decode("ascii")
    data["subnet"] = ask.subnet.name
    return Noted(event, client.mac, sentence, data)


def nak(ask: Exchange, address: str, reason: str) -> list[Action]:
    """A NAK with the reason in option 56 (table 3: no other options), and its note."""
    packet = ask.packet
    options: Options = {
        opt.MESSAGE_TYPE: bytes((MessageType.NAK,)),
        opt.SERVER_IDENTIFIER: packed(ask.server),
        opt.MESSAGE: reason.encode("ascii", "replace")[:255],
    }
    echo(packet, options)
    reply = Packet.reply_to(packet, options)
    sentence = f"refused {address} to {ask.mac}: {reason}"
    return [deliver(packet, reply, ask.arrived_on), ask.noted("dhcp.refused", sentence, address=address)]


def echo(packet: Packet, options: Options) -> None:
    """What must come back unchanged: 61 (RFC 6842), 82 (RFC 3046 §2.2), 118 of a relay (RFC 3011)."""
    asked = packet.options
    if opt.CLIENT_IDENTIFIER in asked:
        options[opt.CLIENT_IDENTIFIER] = asked[opt.CLIENT_IDENTIFIER]
    if packet.giaddr != ANY and opt.SUBNET_SELECTION in asked:
        options[opt.SUBNET_SELECTION] = asked[opt.SUBNET_SELECTION]
    if opt.RELAY_AGENT_INFORMATION in asked:
        options[opt.RELAY_AGENT_INFORMATION] = asked[opt.RELAY_AGENT_INFORMATION]


def settings_of(ask: Exchange) -> Mapping[int, bytes]:
    """Every option set for this client: its own and its group's over the subnet's."""
    own = ask.settings.options
    if isinstance(ask.client, PxeClient):
        return {**ask.subnet.pxe_settings, **without_boot(own)} if own else ask.subnet.pxe_settings
    return {**ask.subnet.settings, **own} if own else ask.subnet.settings


def _add_settings(ask: Exchange, options: Options) -> None:
    """Those on the client's list (55) in its order, all when it sent none; the network mask always."""
    settings = settings_of(ask)
    options[opt.SUBNET_MASK] = settings[opt.SUBNET_MASK]
    wishes = ask.packet.parameter_list
    for code in settings if wishes is None else wishes:
        if code in settings and code not in options:
            options[code] = settings[code]
    reservation = ask.reservation
    if reservation is not None and reservation.host_name and (wishes is None or opt.HOST_NAME in wishes):
        options[opt.HOST_NAME] = reservation.host_name.encode("ascii", "replace")
