"""Who made this machine: the SMBIOS tables as dmidecode prints them, sysfs where there is no dmidecode."""

from __future__ import annotations

import re
from typing import NamedTuple

from imaging.agent.disks import read

# What vendors leave in fields that they did not fill in; compared in lower case.
_EMPTY = frozenset(
    {
        "",
        "not specified",
        "not present",
        "not settable",
        "unknown",
        "none",
        "n/a",
        "default string",
        "system serial number",
        "system product name",
        "system manufacturer",
        "system version",
        "to be filled by o.e.m.",
        "o.e.m.",
        "0",
        "00000000",
        "0123456789",
        "123456789",
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
    }
)
_HANDLE = re.compile(r"Handle 0x[0-9A-Fa-f]+, DMI type (\d+)")


class Identity(NamedTuple):
    """The fields of SMBIOS types 0 and 1 that tell one machine from another; empty where the vendor left
    none.
    """

    uuid: str
    serial: str
    manufacturer: str
    product: str
    bios_vendor: str
    bios_version: str
    bios_date: str


def parse_dmidecode(text: str) -> list[tuple[int, dict[str, str]]]:
    """The structures of ``dmidecode`` output as (DMI type, {field: value}), in order; lists within are
    skipped.
    """
    structures: list[tuple[int, dict[str, str]]] = []
    fields: dict[str, str] | None = None
    for line in text.splitlines():
        if handle := _HANDLE.match(line):
            fields = {}
            structures.append((int(handle[1]), fields))
        elif not line.strip():
            fields = None
        elif fields is not None and line.startswith("\t") and not line.startswith("\t\t"):
            name, colon, value = line.strip().partition(":")
            if colon:
                fields[name] = value.strip()
    return structures


def identity_of(text: str) -> Identity:
    """The machine's identity in the output of ``dmidecode``; fields the vendor did not fill in are empty."""
    first: dict[int, dict[str, str]] = {}
    for kind, fields in parse_dmidecode(text):
        first.setdefault(kind, fields)
    bios, system = first.get(0, {}), first.get(1, {})
    return _clean(
        system.get("UUID", ""),
        system.get("Serial Number", ""),
        system.get("Manufacturer", ""),
        system.get("Product Name", ""),
        bios.get("Vendor", ""),
        bios.get("Version", ""),
        bios.get("Release Date", ""),
    )


def identity_in_sysfs(sys: str = "/sys") -> Identity:
    """The same from ``SYS/class/dmi/id`` (the kernel reads the same tables)."""
    names = (
        "product_uuid",
        "product_serial",
        "sys_vendor",
        "product_name",
        "bios_vendor",
        "bios_version",
        "bios_date",
    )
    return _clean(*(read(f"{sys}/class/dmi/id/{name}") for name in names))


def _clean(uuid: str, *others: str) -> Identity:
    values = ["" if value.strip().lower() in _EMPTY else value.strip() for value in (uuid, *others)]
    return Identity(values[0].lower(), *values[1:])
