"""Who is asking: `identify(packet)` judges a request: a PXE client, a plain client, or a reason to ignore it.

RFC 4578 (options 93, 94, 97) with its errata, IANA's "Processor Architecture Types", RFC 3004 (77), PXE 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from dhcp import options as opt
from dhcp.packet import Packet, printable


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row of option 93: `code` as sent, `name` as we say it, `http` for UEFI HTTP Boot."""

    code: int
    name: str
    http: bool = False

    @property
    def uefi(self) -> bool:
        """Whether its firmware is UEFI, which sorts DHCP offers by their kind (BIOS ROMs take the file)."""
        return self.name.endswith("-uefi")


# RFC 4578 said 7 = EFI byte code and 9 = x86-64, its errata the reverse; firmware uses both: both are x64.
ARCHITECTURES: Final[dict[int, Architecture]] = {
    row.code: row
    for row in (
        Architecture(0, "bios"),
        Architecture(6, "x86-uefi"),
        Architecture(7, "x64-uefi"),
        Architecture(9, "x64-uefi"),
        Architecture(10, "arm32-uefi"),
        Architecture(11, "arm64-uefi"),
        Architecture(15, "x86-uefi", http=True),
        Architecture(16, "x64-uefi", http=True),
        Architecture(17, "x64-uefi", http=True),
        Architecture(18, "arm32-uefi", http=True),
        Architecture(19, "arm64-uefi", http=True),
        Architecture(20, "bios", http=True),
        Architecture(25, "riscv32-uefi"),
        Architecture(26, "riscv32-uefi", http=True),
        Architecture(27, "riscv64-uefi"),
        Architecture(28, "riscv64-uefi", http=True),
        Architecture(37, "loongarch32-uefi"),
        Architecture(38, "loongarch32-uefi", http=True),
        Architecture(39, "loongarch64-uefi"),
        Architecture(40, "loongarch64-uefi", http=True),
        Architecture(41, "raspberry-pi"),
    )
}
_RASPBERRY_PI: Final = Architecture(41, "raspberry-pi")
# These claim to be an x86 BIOS (option 93 = 0) and would choke on one's boot file.
_RASPBERRY_PI_OUIS: Final = frozenset(
    bytes.fromhex(oui) for oui in ("28cdc1", "2ccf67", "b827eb", "d83add", "dca632", "e45f01")
)

# Sub-options of 175 with value 1 = compiled in (iPXE, src/include/ipxe/features.h).
IPXE_FEATURES: Final = {
    16: "pnp",
    17: "iscsi",
    18: "aoe",
    19: "http",
    20: "https",
    21: "tftp",
    22: "ftp",
    23: "dns",
    24: "bzimage",
    25: "multiboot",
    33: "pxe",
    34: "elf",
    35: "comboot",
    36: "efi",
    38: "vlan",
    39: "menu",
    40: "sdi",
    41: "nfs",
}


@dataclass(slots=True)  # not frozen: made for every datagram, and that costs
class PlainClient:
    """An operating system (or a boot environment) that wants an address, nothing to boot.

    `mac`: the hardware address, lower case with colons; six bytes for Ethernet, else as long as it is.
    `note`: why a client that says PXEClient is not treated as one, else "".
    """

    mac: str
    host_name: str = ""
    vendor_class: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PxeClient:
    """A machine that asks for something to boot.

    Attributes:
        mac: the hardware address as in `PlainClient`.
        architecture: the first row of option 93 that we know.
        http: UEFI HTTP Boot: it wants a URL and option 60 `HTTPClient`.
        uuid: the 16 raw bytes of option 97 (SMBIOS UUID as the firmware wrote it), None when absent or odd.
        user_class: option 77 as text ("iPXE", ...).
        ipxe: it is iPXE already, whoever loaded it.
        ipxe_features: what this iPXE was built with ("http", "efi", "menu" ...).
    """

    mac: str
    architecture: Architecture
    http: bool = False
    uuid: bytes | None = None
    user_class: str = ""
    vendor_class: str = ""
    ipxe: bool = False
    ipxe_features: frozenset[str] = field(default_factory=frozenset)

    @property
    def uuid_readings(self) -> tuple[str, ...]:
        """Both ways to read `uuid` as text, lower case, the likelier first; one if they are the same.

        SMBIOS 2.6 stores the first three fields little-endian, and firmware sends the bytes as they are
        stored. iPXE has turned them into the order of the text already, and so has some old firmware: who
        compares machines accepts either.
        """
        if self.uuid is None:
            return ()
        stored, text = str(UUID(bytes_le=self.uuid)), str(UUID(bytes=self.uuid))
        return tuple(dict.fromkeys((text, stored) if self.ipxe else (stored, text)))

    @property
    def kind(self) -> str:
        """A short name for journals: `bios PXE`, `x64-uefi HTTP Boot`, `x64-uefi iPXE`."""
        return f"{self.architecture.name} {'iPXE' if self.ipxe else 'HTTP Boot' if self.http else 'PXE'}"


@dataclass(frozen=True, slots=True)
class Ignored:
    """Not for us, and the sentence that says why."""

    reason: str


_NO_STATION: Final = bytes(6)
_SPEAKS_OF_BOOT: Final = frozenset((opt.VENDOR_CLASS, opt.USER_CLASS, opt.IPXE_ENCAPSULATED))
_NO_FEATURES: Final[frozenset[str]] = frozenset()


def identify(packet: Packet) -> PxeClient | PlainClient | Ignored:
    """Judge a request, also one of BOOTP, by what it says of itself. Never raises for a parsed packet."""
    if packet.op != 1:
        return Ignored("a reply of another server, not a request")
    mac = hardware_address(packet)
    if mac is None:
        return Ignored("no usable hardware address in chaddr or option 61")
    options = packet.options
    if _SPEAKS_OF_BOOT.isdisjoint(options):  # most requests; worth the shortcut
        return PlainClient(mac, packet.host_name if opt.HOST_NAME in options else "")
    vendor_class = options.get(opt.VENDOR_CLASS, b"")
    http = vendor_class.startswith(b"HTTPClient")
    ipxe_encapsulated = options.get(opt.IPXE_ENCAPSULATED)
    user_class = _user_class(options[opt.USER_CLASS]) if opt.USER_CLASS in options else ""
    # 175 is in a private range: only iPXE's own feature list, or the user class, makes it iPXE.
    features = _NO_FEATURES if ipxe_encapsulated is None else _features(ipxe_encapsulated)
    ipxe = user_class == "iPXE" or bool(features)
    if not http and not vendor_class.startswith(b"PXEClient") and not ipxe:
        return PlainClient(mac=mac, host_name=packet.host_name, vendor_class=printable(vendor_class))
    architecture = _architecture(options.get(opt.CLIENT_ARCHITECTURE), vendor_class, packet.chaddr)
    if architecture is None:
        # It may have an address (a full DHCP server owes it one), but no boot file can be chosen for it.
        note = "asks for PXE but names no architecture (option 93 missing)"
        return PlainClient(
            mac=mac, host_name=packet.host_name, vendor_class=printable(vendor_class), note=note
        )
    return PxeClient(
        mac=mac,
        architecture=architecture,
        http=http,
        uuid=_uuid(options.get(opt.CLIENT_UUID)),
        user_class=user_class,
        vendor_class=printable(vendor_class),
        ipxe=ipxe,
        ipxe_features=features,
    )


def hardware_address(packet: Packet) -> str | None:
    """The identity a lease hangs on: chaddr, for Ethernet only if it is a possible station address.

    Some firmware puts its GUID into chaddr (`hlen` 16, EDK2's SendGUID) or sends `hlen` 0: then a client
    identifier of type 1 (option 61, RFC 2132 §9.14) with an Ethernet address is taken, else chaddr as it is.
    """
    chaddr = packet.chaddr
    if packet.htype == 1 and len(chaddr) == 6:
        # A group address (bit 0) or zeros cannot be a station's own.
        return None if chaddr[0] & 1 or chaddr == _NO_STATION else chaddr.hex(":")
    identifier = packet.options.get(opt.CLIENT_IDENTIFIER, b"")
    if len(identifier) == 7 and identifier[0] == 1 and not identifier[1] & 1 and any(identifier[1:]):
        return identifier[1:].hex(":")
    return chaddr.hex(":") if any(chaddr) else None


def _architecture(value: bytes | None, vendor_class: bytes, chaddr: bytes) -> Architecture | None:
    """Option 93 (a list of 16-bit numbers), else the `Arch:NNNNN` that PXE 2.1 puts into option 60."""
    codes = [int.from_bytes(value[i : i + 2], "big") for i in range(0, len(value) - 1, 2)] if value else []
    if not codes:
        _, _, tail = vendor_class.partition(b":Arch:")
        digits = tail[:5]
        if digits.isdigit():
            codes = [int(digits)]
    if not codes:
        return None
    if codes[0] == 0 and chaddr[:3] in _RASPBERRY_PI_OUIS:
        return _RASPBERRY_PI
    for code in codes:
        if code in ARCHITECTURES:
            return ARCHITECTURES[code]
    return Architecture(codes[0], f"architecture-{codes[0]}", http=vendor_class.startswith(b"HTTPClient"))


def _uuid(value: bytes | None) -> bytes | None:
    # Type byte 0 and 16 bytes (RFC 4578 §2.3); other lengths, also 0, exist and are no reason to refuse.
    if value is None or len(value) != 17 or value[0] != 0 or not any(value[1:]):
        return None
    return value[1:]


def _user_class(value: bytes) -> str:
    """The first user class: RFC 3004 has length-prefixed strings, iPXE (and Windows) send a bare one."""
    if value and 0 < value[0] == len(value) - 1:
        return printable(value[1:], 64)
    if value and 0 < value[0] < len(value) - 1 and _is_rfc3004(value):
        return printable(value[1 : 1 + value[0]], 64)
    return printable(value.lstrip(b"\0"), 64)  # a leading NUL was seen in the wild (dnsmasq tolerates it)


def _is_rfc3004(value: bytes) -> bool:
    at = 0
    while at < len(value):
        if value[at] == 0:
            return False
        at += 1 + value[at]
    return at == len(value)


def _features(value: bytes) -> frozenset[str]:
    found = opt.suboptions(value)
    return frozenset(label for code, label in IPXE_FEATURES.items() if any(found.get(code, b"")))
