"""BOOTP requests: answered, if the subnet says so, for machines with a reservation, and for no others.

RFC 951, RFC 1533 (vendor area of 64 bytes), RFC 1534. A BOOTP client never renews and never gives back, so an
address of the pool would be gone for ever: only what is reserved may be given.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address
from typing import Final

from dhcp import options as opt
from dhcp.actions import Action, deliver
from dhcp.bootfile import BootChoice
from dhcp.exchange import Exchange, own_address
from dhcp.options import Options
from dhcp.packet import Packet
from dhcp.pxe import ARCHITECTURES, PxeClient
from dhcp.replies import echo, settings_of

# The vendor area has 64 bytes: the cookie and END leave this much.
_ROOM: Final = 59
_BIOS: Final = ARCHITECTURES[0]


def bootp_reply(ask: Exchange, choice: BootChoice, address: str) -> list[Action]:
    """The one reply of the protocol: address, server and file in the header, the subnet's options behind.

    The file is what the site set for this machine (67, from 66), else what a BIOS machine would load.
    """
    packet = ask.packet
    settings = settings_of(ask)
    own = own_address(ask.subnet, ask.arrived_on)
    server, file, why = _file(ask, choice, own)
    options: Options = {}
    room = _ROOM
    for code, value in settings.items():
        if code in _BOOTP_OPTIONS and len(value) + 2 <= room:
            room -= len(value) + 2
            options[code] = value
    reservation = ask.reservation
    name = reservation.host_name.encode("ascii", "replace") if reservation else b""
    if name and len(name) + 2 <= room:
        options[opt.HOST_NAME] = name
    echo(packet, options)
    options.pop(opt.CLIENT_IDENTIFIER, None)  # DHCP's own (RFC 1534 §2)
    reply = Packet.reply_to(
        packet,
        options,
        ciaddr=packet.ciaddr,
        yiaddr=address,
        siaddr=server,
        sname=server.encode("ascii"),
        file=file,
    )
    sentence = f"{address} for {ask.mac} by BOOTP{why}"
    data: dict[str, object] = {"address": address, "server": own, "file": file.decode("ascii")}
    return [deliver(packet, reply, ask.arrived_on), ask.noted("dhcp.bootp_answered", sentence, **data)]


def _file(ask: Exchange, choice: BootChoice, own: str) -> tuple[str, bytes, str]:
    """Server, file name and a half sentence."""
    settings = settings_of(ask)
    named = settings.get(opt.BOOT_FILE_NAME, b"").partition(b"\0")[0]
    if named and named.isascii() and len(named) < 128:
        server = settings.get(opt.TFTP_SERVER_NAME, b"").decode("ascii", "replace")
        try:
            return str(IPv4Address(server)), named, "; its file is set by hand"
        except AddressValueError:
            return own, named, "; its file is set by hand"
    client = PxeClient(mac=ask.mac, architecture=_BIOS)
    boot = choice.choose(client, ask.now, own)
    if boot is None or not boot.file.isascii() or len(boot.file) > 127:
        return own, b"", "; nothing to boot"
    return boot.next_server or own, boot.file.encode("ascii"), f"; boots {boot.file}: {boot.reason}"


# RFC 1533 §3 to §8.1: what existed before DHCP and is of use; a BOOTP client cannot ask for more.
_BOOTP_OPTIONS: Final = frozenset(
    (opt.SUBNET_MASK, opt.ROUTER, opt.DOMAIN_NAME_SERVER, opt.HOST_NAME, opt.DOMAIN_NAME, 17, opt.NTP_SERVERS)
)
