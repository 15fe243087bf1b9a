"""What this machine is: identity, processor, memory, disks, network cards, firmware; sent at check-in."""

from __future__ import annotations

import os
from typing import Any

from imaging.agent import disks as disks_module
from imaging.agent.disks import Disk, read
from imaging.agent.dmi import Identity, identity_in_sysfs, identity_of
from imaging.agent.firmware import facts, run_tool

Inventory = dict[str, Any]


def cpu_of(cpuinfo: str) -> Inventory:
    """``{"model", "sockets", "cores", "threads"}`` from the text of /proc/cpuinfo."""
    model, threads = "", 0
    cores: set[tuple[str, str]] = set()
    sockets: set[str] = set()
    socket = "0"
    for line in cpuinfo.splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "processor":
            threads += 1
        elif name == "model name" and not model:
            model = " ".join(value.split())
        elif name == "physical id":
            socket = value
            sockets.add(value)
        elif name == "core id":
            cores.add((socket, value))
    return {"model": model, "sockets": len(sockets) or 1, "cores": len(cores) or threads, "threads": threads}


def memory_of(meminfo: str) -> int:
    """Bytes of memory from the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def list_nics(sys: str = "/sys") -> list[Inventory]:
    """Ethernet and Wi-Fi interfaces: ``{"name", "mac", "driver", "speed_mbit", "link", "wireless"}``."""
    folder = f"{sys}/class/net"
    found = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        nic = f"{folder}/{name}"
        mac = read(f"{nic}/address").lower()
        # ARPHRD_ETHER is 1 (linux/if_arp.h); Wi-Fi shows itself as Ethernet too.
        if read(f"{nic}/type") != "1" or not mac or mac == "00:00:00:00:00:00":
            continue
        driver = (
            os.path.basename(os.path.realpath(f"{nic}/device/driver"))
            if os.path.exists(f"{nic}/device/driver")
            else ""
        )
        speed = read(f"{nic}/speed")  # unreadable without a link, -1 where the driver does not know
        found.append(
            {
                "name": name,
                "mac": mac,
                "driver": driver,
                "speed_mbit": int(speed) if speed.isdigit() else None,
                "link": read(f"{nic}/carrier") == "1",
                "wireless": os.path.isdir(f"{nic}/wireless"),
            }
        )
    return found


def assemble(identity: Identity, disks: list[Disk], rest: Inventory) -> Inventory:
    """The inventory document (docs/agent.md) of its parts."""
    return {
        "uuid": identity.uuid,
        "serial": identity.serial,
        "manufacturer": identity.manufacturer,
        "product": identity.product,
        "bios": {
            "vendor": identity.bios_vendor,
            "version": identity.bios_version,
            "date": identity.bios_date,
        },
        "disks": [disk.to_json() for disk in disks],
        **rest,
    }


def collect(sys: str = "/sys", proc: str = "/proc") -> Inventory:
    """The inventory of the machine this runs on; takes about a second and never fails for a missing part."""
    output = run_tool("dmidecode", "-t", "0,1")
    identity = identity_of(output)
    if not (identity.uuid or identity.product):
        identity = identity_in_sysfs(sys)
    rest = {
        "cpu": cpu_of(_text(f"{proc}/cpuinfo")),
        "memory_bytes": memory_of(_text(f"{proc}/meminfo")),
        "nics": list_nics(sys),
        "kernel": read(f"{proc}/sys/kernel/osrelease"),
        "simulated": False,
        **facts(sys),
    }
    return assemble(identity, disks_module.list_disks(sys), rest)


def simulated(disk: Disk, mac: str, given: Inventory | None = None) -> Inventory:
    """The inventory of a simulated host: a machine made up from its MAC, with ``given`` laid over it."""
    identity = Identity(
        uuid=f"00000000-0000-4000-8000-{mac.replace(':', '')}",
        serial=f"SIM-{mac.replace(':', '').upper()}",
        manufacturer="pxeboot",
        product="simulated host",
        bios_vendor="",
        bios_version="",
        bios_date="",
    )
    rest: Inventory = {
        "cpu": {"model": "simulated", "sockets": 1, "cores": 1, "threads": os.cpu_count() or 1},
        "memory_bytes": memory_of(_text("/proc/meminfo")),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "nics": [
            {
                "name": "eth0",
                "mac": mac,
                "driver": "simulated",
                "speed_mbit": None,
                "link": True,
                "wireless": False,
            }
        ],
        "firmware": "bios",
        "secure_boot": None,
        "boot_order": [],
        "boot_entries": [],
        "simulated": True,
    }
    return {**assemble(identity, [disk], rest), **(given or {})}


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
