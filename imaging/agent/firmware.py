"""The firmware: BIOS or UEFI, Secure Boot, and a boot order that keeps the network first.

A freshly deployed operating system, or its first update, likes to put itself first in the UEFI boot order; a
machine that does so is lost to network boot until somebody walks to it.
"""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any, NamedTuple

# The namespace of the UEFI specification's own variables (UEFI 2.10 §3.3, EFI_GLOBAL_VARIABLE).
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_ENTRY = re.compile(r"Boot([0-9A-Fa-f]{4})(\*?)\s(.*)")
# Device paths of network entries hold MAC(…) and IPv4(…), IPv6(…) or Uri(…) nodes (UEFI 2.10 §10.6).
_NETWORK_PATH = re.compile(r"\bMAC\(|\bIPv[46]\(|\bUri\(")
_NETWORK_NAME = re.compile(r"\b(PXE|IPv[46]|Network|HTTP|LAN|NIC|Ethernet)", re.IGNORECASE)


class BootEntry(NamedTuple):
    """One ``Boot####`` variable as efibootmgr prints it."""

    id: str
    active: bool
    name: str
    path: str

    @property
    def network(self) -> bool:
        """Does it boot from the network? By its device path; by its name where efibootmgr prints no path."""
        return bool(_NETWORK_PATH.search(self.path) if self.path else _NETWORK_NAME.search(self.name))


class BootEntries(NamedTuple):
    """What efibootmgr printed: the entry this boot came from, the order, and the entries."""

    current: str
    order: list[str]
    entries: list[BootEntry]


def parse_efibootmgr(text: str) -> BootEntries:
    """Read the output of ``efibootmgr -v`` (any version); lines that are not understood are skipped."""
    current, order, entries = "", list[str](), list[BootEntry]()
    for line in text.splitlines():
        if line.startswith("BootCurrent:"):
            current = line.partition(":")[2].strip().upper()
        elif line.startswith("BootOrder:"):
            order = [word.strip().upper() for word in line.partition(":")[2].split(",") if word.strip()]
        elif found := _ENTRY.match(line):
            name, _, path = found[3].partition("\t")
            entries.append(BootEntry(found[1].upper(), found[2] == "*", name.strip(), path.strip()))
    return BootEntries(current, order, entries)


def network_first(boot: BootEntries) -> list[str] | None:
    """The boot order with a network entry first, or ``None`` when it is so already or there is no such entry.

    The entry this boot came from goes first when it is a network entry: it is proven to reach us.
    """
    network = [entry.id for entry in boot.entries if entry.network and entry.active]
    if not network or not boot.order or boot.order[0] in network:
        return None
    ordered = [id for id in boot.order if id in network]
    first = boot.current if boot.current in network else (ordered or network)[0]
    return [first, *(id for id in boot.order if id != first)]


def is_uefi(sys: str = "/sys") -> bool:
    """Was this machine started by UEFI?"""
    return os.path.isdir(f"{sys}/firmware/efi")


def secure_boot(sys: str = "/sys") -> bool | None:
    """Is Secure Boot on? ``None`` on BIOS and where the variable cannot be read."""
    try:
        with open(f"{sys}/firmware/efi/efivars/SecureBoot-{_GLOBAL}", "rb") as file:
            data = file.read(5)
    except OSError:
        return None
    # efivarfs puts 4 bytes of attributes before the variable's one byte (kernel:
    # Documentation/filesystems/efivarfs).
    return data[4] == 1 if len(data) == 5 else None


def run_tool(*arguments: str, seconds: float = 20.0) -> str:
    """Standard output of a small tool; empty when it is not there, fails, or takes longer."""
    try:
        done = subprocess.run(
            arguments, capture_output=True, timeout=seconds, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def mount_efivars(sys: str = "/sys") -> None:
    """Mount efivarfs if the boot environment did not (best effort)."""
    folder = f"{sys}/firmware/efi/efivars"
    if os.path.isdir(folder) and not os.listdir(folder):
        run_tool("mount", "-t", "efivarfs", "efivarfs", folder)


def facts(sys: str = "/sys") -> dict[str, Any]:
    """Inventory's part on the firmware: ``firmware``, ``secure_boot``, ``boot_order``, ``boot_entries``."""
    if not is_uefi(sys):
        return {"firmware": "bios", "secure_boot": None, "boot_order": [], "boot_entries": []}
    mount_efivars(sys)
    boot = parse_efibootmgr(run_tool("efibootmgr", "-v"))
    return {
        "firmware": "uefi",
        "secure_boot": secure_boot(sys),
        "boot_order": boot.order,
        "boot_entries": [
            {"id": e.id, "name": e.name, "active": e.active, "network": e.network} for e in boot.entries
        ],
    }


def keep_network_first(sys: str = "/sys") -> str:
    """Put a network entry first in the UEFI boot order (best effort); returns a sentence on what was done, or
    empty.
    """
    if not is_uefi(sys):
        return ""
    boot = parse_efibootmgr(run_tool("efibootmgr", "-v"))
    order = network_first(boot)
    if order is None:
        return ""
    after = parse_efibootmgr(run_tool("efibootmgr", "-o", ",".join(order)))
    name = next((entry.name for entry in boot.entries if entry.id == order[0]), order[0])
    if after.order == order:
        return f"UEFI boot order: network ({name}) first."
    return f"UEFI boot order could not be changed to network ({name}) first."
