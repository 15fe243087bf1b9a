"""What to boot, in the words each kind of firmware understands: header fields and options of a reply.

RFC 2132 §9.4 and §9.5 (66, 67), PXE 2.1 §2 (43, 60, 97), UEFI 2.10 §24.7 (HTTP Boot), iPXE's option 175.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from dhcp import options as opt
from dhcp.options import Options
from dhcp.packet import Packet
from dhcp.pxe import PxeClient

# PXE_DISCOVERY_CONTROL (43.6) with bit 3: take the boot file named in this packet: no menu, no port 4011.
BOOT_FROM_PACKET: Final = b"\x06\x01\x08\xff"
# A Raspberry Pi's boot ROM takes an offer only with this menu entry (43.9) in it.
RASPBERRY_PI: Final = b"\x06\x01\x08\x09\x14\x00\x00\x11Raspberry Pi Boot\xff"
# iPXE: do not wait two seconds for a ProxyDHCP offer (175.176 = no-pxedhcp).
IPXE_NO_PROXY: Final = b"\xb0\x01\x01"


@dataclass(frozen=True, slots=True)
class BootFile:
    """The answer to "what does this machine load now".

    Attributes:
        next_server: TFTP server's IPv4 address; "" = ourselves.
        file: file name by TFTP; for iPXE it may be a URL.
        reason: a sentence for the journal.
        uri: URL for UEFI HTTP Boot clients.
    """

    next_server: str
    file: str
    reason: str
    uri: str | None = None


class BootChoice(Protocol):
    """Asked once for each DISCOVER, REQUEST and INFORM of a PXE client; must answer at once, from memory."""

    def choose(self, client: PxeClient, now: float, server: str) -> BootFile | None:
        """What it should boot, or None: an address only. `server`: our address as this client reaches it."""


@dataclass(frozen=True, slots=True)
class BootFields:
    """What goes into the reply: header fields, and options that are sent, asked for or not."""

    siaddr: str
    sname: bytes
    file: bytes
    options: Options


def boot_fields(client: PxeClient, boot: BootFile, request: Packet, server: str) -> BootFields | str:
    """Say `boot` in this client's words, for a reply that also gives the address (mode full).

    Returns a sentence instead when it cannot be said: HTTP Boot and no URL, a name no packet can hold.
    """
    name = (boot.uri if client.http else boot.file) or ""
    if not name:
        return f"a {client.kind} client needs a {'URL' if client.http else 'file name'}, and there is none"
    try:
        encoded = name.encode("ascii")
    except UnicodeEncodeError:
        return f"the boot file {name!r} is not ASCII"
    if len(encoded) > 255:
        return f"the boot file's name has {len(encoded)} characters, more than option 67 holds"
    next_server = boot.next_server or server
    options: Options = {
        opt.TFTP_SERVER_NAME: next_server.encode("ascii"),
        opt.BOOT_FILE_NAME: encoded,
        # Without it UEFI takes the offer for plain DHCP, or (HTTP Boot) for none at all.
        opt.VENDOR_CLASS: b"HTTPClient" if client.http else b"PXEClient",
    }
    if client.http:
        del options[opt.TFTP_SERVER_NAME]  # the URL says it all
    else:
        pi = client.architecture.name == "raspberry-pi"
        options[opt.VENDOR_SPECIFIC] = RASPBERRY_PI if pi else BOOT_FROM_PACKET
    if client.ipxe:
        options[opt.IPXE_ENCAPSULATED] = IPXE_NO_PROXY
    uuid = request.options.get(opt.CLIENT_UUID)
    if uuid is not None:
        options[opt.CLIENT_UUID] = uuid  # several ROMs drop replies without it; whatever its length
    # The header as well: shim and old ROMs read nothing else. What is too long for it is in option 67 alone.
    return BootFields(
        siaddr=next_server,
        sname=next_server.encode("ascii"),
        file=encoded if len(encoded) < 128 else b"",
        options=options,
    )
