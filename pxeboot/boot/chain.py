"""Which boot file starts the chain on the machine that asks.

BIOS: `undionly.kpxe`, our iPXE, which asks DHCP again and is then given the URL of its script. UEFI x64:
Debian's signed `shimx64.efi`, with Secure Boot on or off, for DHCP cannot tell which; shim loads
`grubx64.efi` from beside itself, and that the stub `grub/grub.cfg`. UEFI HTTP Boot: the same shim by URL.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote
from uuid import UUID

from dhcp.bootfile import BootFile
from dhcp.pxe import PxeClient
from pxeboot.boot.decide import Client, Firmware

__all__ = [
    "NoBootFile",
    "boot_client",
    "boot_file",
    "firmware_of",
    "script_url",
    "uuid_readings",
    "uuid_text",
]

_FIRMWARE: Final[dict[str, Firmware]] = {
    "bios": "bios",
    "x64-uefi": "uefi-x64",
    "x86-uefi": "uefi-ia32",
    "arm64-uefi": "uefi-arm64",
    "arm32-uefi": "uefi-arm32",
    "riscv64-uefi": "uefi-riscv64",
    "loongarch64-uefi": "uefi-loongarch64",
}
# The first of these that is in the boot folder. Debian signs no shim for 32-bit UEFI, and we bring none for
# ARM: somebody who has such machines puts the loader there.
_FIRST_FILES: Final[dict[Firmware, tuple[str, ...]]] = {
    "bios": ("undionly.kpxe",),
    "uefi-x64": ("shimx64.efi",),
    "uefi-ia32": ("shimia32.efi", "bootia32.efi", "grubia32.efi"),
    "uefi-arm64": ("shimaa64.efi", "bootaa64.efi", "grubaa64.efi"),
    "uefi-arm32": ("bootarm.efi", "grubarm.efi"),
    "uefi-riscv64": ("shimriscv64.efi", "bootriscv64.efi", "grubriscv64.efi"),
    "uefi-loongarch64": ("bootloongarch64.efi", "grubloongarch64.efi"),
}


@dataclass(frozen=True, slots=True)
class NoBootFile:
    """Nothing to start this machine with, and the sentence that says why."""

    reason: str


def firmware_of(client: PxeClient) -> Firmware:
    """The policy's word for option 93; `unknown` for what we have no word for (a Raspberry Pi)."""
    return _FIRMWARE.get(client.architecture.name, "unknown")


def boot_client(client: PxeClient) -> Client:
    """The same machine in the words of `decide`."""
    return Client(client.mac, firmware_of(client), "ipxe" if client.ipxe else "firmware")


def boot_file(client: PxeClient, base_url: str, available: Container[str]) -> BootFile | NoBootFile:
    """Return what `client` loads first.

    `base_url` is ours without a closing slash, e.g. `http://10.20.0.1`; it must hold an address, not a name
    (a URL with a name needs a DNS server in the same offer). `available` holds the names in the boot folder.
    """
    firmware = firmware_of(client)
    names = _FIRST_FILES.get(firmware, ())
    first = next((name for name in names if name in available), None)
    # Our scripts start a boot environment for PCs: an iPXE on ARM has no use for them.
    if client.ipxe and firmware in ("bios", "uefi-x64") and _can_run_script(client):
        return BootFile("", script_url(client, base_url), "It is iPXE with HTTP already: it gets its script.")
    if not names:
        return NoBootFile(f"We have no loader for {client.architecture.name} machines.")
    if first is None:
        wanted = " or ".join(names)
        return NoBootFile(
            f"The loader for {client.architecture.name} machines is not installed: "
            f"put {wanted} into the boot folder."
        )
    if client.http:
        if firmware == "bios":
            return NoBootFile("HTTP Boot of a BIOS machine is not served.")
        url = f"{base_url}/boot/files/{first}"
        return BootFile("", url, f"UEFI HTTP Boot: it loads {first} from us.", uri=url)
    if client.ipxe:
        return BootFile("", first, f"Its iPXE cannot do HTTP, so it loads {first} instead.")
    if firmware == "bios":
        return BootFile("", first, f"BIOS network boot: it loads our iPXE, {first}.")
    signed = "the signed " if first.startswith("shim") else ""
    return BootFile("", first, f"UEFI network boot: it loads {signed}{first}.")


def script_url(client: PxeClient, base_url: str) -> str:
    """The URL of this machine's iPXE script (docs/ARCHITECTURE.md section 3)."""
    # Identity goes into the query: stock BIOS builds of iPXE lack the `params` command.
    uuid = uuid_text(client)
    platform = "pcbios" if firmware_of(client) == "bios" else "efi"  # iPXE's own words for it
    return f"{base_url}/boot/ipxe?mac={quote(client.mac, safe=':')}&uuid={uuid}&platform={platform}"


def uuid_readings(client: PxeClient) -> tuple[str, ...]:
    """`uuid_text` and the other reading of the same 16 bytes: iPXE before 2016 and some firmware swap the
    first three fields (QEMU's ROM does). Empty when the client sent none."""
    if client.uuid is None:
        return ()
    first = uuid_text(client)
    other = str(UUID(bytes_le=client.uuid) if client.ipxe else UUID(bytes=client.uuid))
    return (first,) if first == other else (first, other)


def uuid_text(client: PxeClient) -> str:
    """Option 97 as dmidecode would print it, lower case; "" when the client sent none.

    Firmware sends the 16 bytes as SMBIOS stores them (the first three fields little-endian since 2.6); iPXE
    has turned them into the order of the text already (`uuid_mangle` in its src/core/uuid.c).
    """
    if client.uuid is None:
        return ""
    return str(UUID(bytes=client.uuid) if client.ipxe else UUID(bytes_le=client.uuid))


def _can_run_script(client: PxeClient) -> bool:
    # An iPXE that lists no features says nothing about HTTP: some vendors' ROMs send the user class alone.
    return not client.ipxe_features or "http" in client.ipxe_features
