"""The machine's disks as the kernel shows them; :mod:`imaging.agent.choice` chooses among them."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

from imaging.agent.errors import AgentError

# Whole devices that are not disks of the machine: optical, floppy, network and memory devices, eMMC boot
# areas.
_NOT_A_DISK = re.compile(r"(sr|fd|nbd|loop|ram|zram|dm-|md|pmem)\d|mmcblk\d+(boot\d+|rpmb)|nvme\d+c\d+n\d+")


class Disk(NamedTuple):
    """A whole disk: sizes in bytes; ``transport`` is nvme, sata, virtio, usb, mmc, sd, iscsi, scsi or
    file.
    """

    name: str
    path: str
    size: int
    sector_size: int
    physical_sector_size: int
    serial: str
    wwn: str
    model: str
    rotational: bool
    removable: bool
    read_only: bool
    transport: str

    def to_json(self) -> dict[str, Any]:
        """The disk as inventory JSON."""
        return self._asdict()

    def why_not_internal(self) -> str:
        """Why the rule "the only internal disk" passes this one over; empty for a candidate."""
        if self.transport in ("usb", "sd"):
            return self.transport.upper()
        if self.removable:
            return "removable"
        return "read-only" if self.read_only else ""

    def described(self) -> str:
        """One phrase for people: path, size, model, serial."""
        words = [self.path, human(self.size), self.model, f"serial {self.serial}" if self.serial else ""]
        return ", ".join(word for word in words if word)


def human(size: float) -> str:
    """A size in decimal units, as disks are sold: ``500.1 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def read(path: str) -> str:
    """A small sysfs file's text without blanks around it; empty when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode("utf-8", "replace").strip().strip("\0").strip()
    except OSError:
        return ""


def list_disks(sys: str = "/sys", dev: str = "/dev") -> list[Disk]:
    """All disks with a medium in ``SYS/block``, in name order."""
    block = os.path.join(sys, "block")
    try:
        names = sorted(os.listdir(block))
    except OSError:
        return []
    found = (_disk(os.path.join(block, name), name, dev) for name in names if not _NOT_A_DISK.match(name))
    return [disk for disk in found if disk is not None]


def _disk(folder: str, name: str, dev: str) -> Disk | None:
    size = int(read(f"{folder}/size") or 0) * 512  # sysfs counts 512-byte units whatever the sector size
    # No `device`: a virtual block device. `hidden`: one path of a multipath NVMe namespace. No size: no
    # medium.
    if not size or not os.path.exists(f"{folder}/device") or read(f"{folder}/hidden") == "1":
        return None
    return Disk(
        name=name,
        path=f"{dev}/{name}",
        size=size,
        sector_size=int(read(f"{folder}/queue/logical_block_size") or 512),
        physical_sector_size=int(read(f"{folder}/queue/physical_block_size") or 512),
        serial=_serial(folder),
        wwn=read(f"{folder}/wwid") or read(f"{folder}/device/wwid"),
        model=" ".join(
            f"{_vendor(folder)} {read(f'{folder}/device/model') or read(f'{folder}/device/name')}".split()
        ),
        rotational=read(f"{folder}/queue/rotational") == "1",
        removable=read(f"{folder}/removable") == "1",
        read_only=read(f"{folder}/ro") == "1",
        transport=_transport(folder, name),
    )


def _vendor(folder: str) -> str:
    vendor = read(f"{folder}/device/vendor")
    # libata's vendor is the word "ATA", virtio's and NVMe's a PCI number: none of them is a make.
    return "" if vendor == "ATA" or vendor.startswith("0x") else vendor


def _serial(folder: str) -> str:
    serial = read(f"{folder}/serial") or read(f"{folder}/device/serial")
    if serial:
        return serial
    try:
        with open(f"{folder}/device/vpd_pg80", "rb") as file:
            # SPC-4 §7.8.15 Unit Serial Number page: 4 bytes of header, then ASCII.
            return file.read(256)[4:].decode("ascii", "replace").strip("\0 ")
    except OSError:
        return ""


def _transport(folder: str, name: str) -> str:
    where = os.path.realpath(folder)
    if "/usb" in where:
        return "usb"
    if name.startswith("nvme"):
        return "nvme"
    if name.startswith("mmcblk"):
        return "sd" if read(f"{folder}/device/type") == "SD" else "mmc"
    if "/virtio" in where:
        return "virtio"
    if "/session" in where:
        return "iscsi"
    return "sata" if "/ata" in where else "scsi"


def file_disk(path: str, sector_size: int = 512) -> Disk:
    """A disk file (simulated host) or an explicitly named device as a ``Disk``.

    Raises ``AgentError`` ``disk-none`` when it cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise AgentError("disk-none", f"Disk {path} cannot be opened: {error.strerror}.") from error
    name = os.path.basename(path)
    return Disk(name, path, size, sector_size, sector_size, "", "", "disk file", False, False, False, "file")


def given_paths(given: str) -> list[str]:
    """The disks of ``--disk FILE[,FILE…]``; a file whose own name has a comma is one."""
    return [given] if os.path.exists(given) else given.split(",")
