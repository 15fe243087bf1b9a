"""ProxyDHCP and the boot server on port 4011: saying what to boot beside a server that gives the addresses.

PXE 2.1 §2.2 and §2.4. A client that asks everybody (DISCOVER, port 67) gets an offer without an address. BIOS
ROMs and iPXE take their file from it. UEFI sorts offers by kind, and its code for menus is often broken: it
is told no more than "I am a PXE server" (EDK2 calls that BINL), and asks us alone, on port 4011.
"""

from __future__ import annotations

from typing import Final

from dhcp import options as opt
from dhcp.actions import Action, deliver
from dhcp.bootfile import BOOT_FROM_PACKET, BootChoice, BootFields
from dhcp.exchange import Exchange, ignored, own_address
from dhcp.options import Options
from dhcp.packet import ANY, BROADCAST_FLAG, MessageType, Packet
from dhcp.pxe import PxeClient
from dhcp.replies import boot_note, boot_of, echo, packed

BOOT_ITEM: Final = 71  # of option 43: type and layer of what is booted, two bytes each (PXE 2.1 table 2-1)
_PXE_END: Final = b"\xff"
_BINL: Final = (opt.VENDOR_CLASS, opt.CLIENT_UUID)


def proxy_offer(ask: Exchange, choice: BootChoice) -> list[Action]:
    """The answer to a DISCOVER in mode proxy: an offer without an address, or silence.

    Silent towards plain clients, and towards machines there is nothing to boot for: another server answers
    them, and a machine that we do not know must not so much as wait for us.
    """
    packet, client = ask.packet, ask.client
    if not isinstance(client, PxeClient):
        remark = f"; {client.note}" if client.note else ""
        return [ignored(packet, f"we give no addresses in {ask.subnet.name} (mode proxy){remark}")]
    server = own_address(ask.subnet, ask.arrived_on)
    boot, remark = boot_of(ask, client, choice, server)
    if boot is None:
        return [ignored(packet, f"no proxy offer to {ask.mac} ({client.kind}): {remark}")]
    later = asks_again(client, ask.subnet.proxy_style)
    if later:
        # Not the file, not option 43: with either, EDK2 and its kin would no longer come to 4011, or (old
        # EDK2) forget the offer altogether. siaddr is whom it asks there, so it is us, not the file's server.
        options: Options = {code: boot.options[code] for code in _BINL if code in boot.options}
        boot = BootFields(siaddr=server, sname=b"", file=b"", options=options)
    else:
        # iPXE looks for "no proxy" in the offer it takes its address from; in ours it says nothing.
        boot.options.pop(opt.IPXE_ENCAPSULATED, None)
    # Broadcast (RFC 2131 §4.1 has no other way): the client has no address yet, and none from us.
    reply = _reply(ask, MessageType.OFFER, server, boot)
    reply.flags |= BROADCAST_FLAG
    how = "it is to ask on port 4011" if later else remark
    sentence = f"offered {ask.mac} ({client.kind}) a boot file without an address; {how}"
    data: dict[str, object] = {"server": server, "style": "binl" if later else "direct"}
    shown = None if later else boot
    return [
        deliver(packet, reply, ask.arrived_on),
        boot_note(ask, "dhcp.proxy_offered", sentence, shown, data),
    ]


def asks_again(client: PxeClient, style: str) -> bool:
    """Whether this client gets its file on port 4011, not in the offer."""
    return style == "binl" and client.architecture.uefi and not (client.ipxe or client.http)


def boot_server_ack(ask: Exchange, choice: BootChoice) -> list[Action]:
    """The answer on port 4011, in every mode that boots: the file, to whoever asks as a PXE client.

    The machine is known by its hardware address or UUID; the address it comes from may be anybody's.
    """
    packet, client = ask.packet, ask.client
    if packet.message_type not in (MessageType.REQUEST, MessageType.INFORM, MessageType.DISCOVER):
        return [ignored(packet, f"message type {packet.message_type} is none for port 4011")]
    if not isinstance(client, PxeClient) or client.http:
        return [ignored(packet, "only PXE clients are answered on port 4011")]
    server = own_address(ask.subnet, ask.arrived_on)
    boot, remark = boot_of(ask, client, choice, server)
    if boot is None:
        return [ignored(packet, f"nothing for {ask.mac} ({client.kind}) on port 4011: {remark}")]
    boot.options.pop(opt.VENDOR_SPECIFIC, None)
    boot.options.pop(opt.IPXE_ENCAPSULATED, None)
    if vendor := _vendor_options(client, packet):
        boot.options[opt.VENDOR_SPECIFIC] = vendor
    reply = _reply(ask, MessageType.ACK, server, boot)
    reply.ciaddr = packet.ciaddr
    sentence = f"told {ask.mac} ({client.kind}) on port 4011; {remark}"
    address = packet.ciaddr if packet.ciaddr != ANY else ask.arrived_on.source
    return [
        deliver(packet, reply, ask.arrived_on),
        boot_note(ask, "dhcp.boot_answered", sentence, boot, {"address": address, "server": server}),
    ]


def _vendor_options(client: PxeClient, packet: Packet) -> bytes:
    """Option 43 on port 4011: the boot item it asked for, and for BIOS and iPXE "boot this packet's file"."""
    asked = opt.suboptions(packet.options.get(opt.VENDOR_SPECIFIC, b"")).get(BOOT_ITEM)
    own = b"" if client.architecture.uefi and not client.ipxe else BOOT_FROM_PACKET.removesuffix(_PXE_END)
    if asked is not None and len(asked) == 4:
        own += opt.encode(BOOT_ITEM, asked)
    return own + _PXE_END if own else b""


def _reply(ask: Exchange, kind: MessageType, server: str, boot: BootFields) -> Packet:
    packet = ask.packet
    options: Options = {
        opt.MESSAGE_TYPE: bytes((kind,)),
        opt.SERVER_IDENTIFIER: packed(server),
        **boot.options,
    }
    echo(packet, options)
    return Packet.reply_to(packet, options, siaddr=boot.siaddr, sname=boot.sname, file=boot.file)
