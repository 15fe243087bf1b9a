"""Disk files: raw, sparse, with partition tables and file systems made without mounting anything.

The host needs neither a loop device nor a driver for the file system (its kernel may lack vfat): sfdisk
writes tables into files, mke2fs and mkfs.vfat into files at an offset, mtools copies into FAT, and GRUB's
BIOS boot code is put down by hand, as grub-bios-setup does it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pxeboot.lab.errors import LabError
from pxeboot.lab.processes import need, run

MIB = 1 << 20
SECTOR = 512

# GPT partition types (UEFI specification 5.3.3; Discoverable Partitions Specification; GRUB manual "BIOS
# installation").
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"


@dataclass(frozen=True)
class Partition:
    """One partition: type (GPT GUID or MBR byte in hex), start and size in MiB."""

    kind: str
    start: int
    size: int
    name: str = ""
    uuid: str = ""

    @property
    def offset(self) -> int:
        """Start in bytes."""
        return self.start * MIB


def create(path: Path, size: int) -> None:
    """An empty (all holes) disk file of ``size`` bytes, replacing what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.truncate(size)


def clone(source: Path, target: Path, *, size: int | None = None) -> None:
    """Copy a disk file, holes stay holes; ``size`` makes the copy larger. LabError when it would be
    smaller.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)], timeout=300)
    if size is not None:
        if size < source.stat().st_size:
            raise LabError(f"{target.name} cannot be smaller than {source.name}")
        os.truncate(target, size)


def used_bytes(path: Path) -> int:
    """Bytes the file really takes."""
    return path.stat().st_blocks * 512


def write_table(disk: Path, label: str, partitions: Sequence[Partition], identity: str = "") -> None:
    """Write a partition table (``gpt`` or ``dos``) with sfdisk."""
    script = [f"label: {label}", "unit: sectors"]
    if identity:
        script.append(f"label-id: {identity}")
    if label == "gpt":
        script.append("first-lba: 34")
    for part in partitions:
        line = f"start={part.start * MIB // SECTOR}, size={part.size * MIB // SECTOR}, type={part.kind}"
        line += f', name="{part.name}"' if part.name and label == "gpt" else ""
        line += f", uuid={part.uuid}" if part.uuid and label == "gpt" else ""
        script.append(line)
    command = [need("sfdisk"), "--quiet", "--no-reread", "--no-tell-kernel", str(disk)]
    run(command, timeout=30, input="\n".join(script).encode() + b"\n")


def make_ext4(
    disk: Path, part: Partition, *, uuid: str = "", label: str = "", tree: Path | None = None
) -> None:
    """An ext4 file system in a partition, filled from a directory (owners kept: needs root)."""
    options = f"offset={part.offset}" + (f",hash_seed={uuid}" if uuid else "")
    command = [need("mke2fs"), "-q", "-F", "-t", "ext4", "-m", "1", "-E", options]
    command += ["-U", uuid] if uuid else []
    command += ["-L", label] if label else []
    command += ["-d", str(tree)] if tree else []
    run([*command, str(disk), f"{part.size * 1024}k"], timeout=600)


def make_fat(disk: Path, part: Partition, *, volume_id: str, label: str, files: Mapping[str, bytes]) -> None:
    """A FAT32 file system in a partition, with files (``EFI/BOOT/BOOTX64.EFI`` …; folders are made as
    needed).
    """
    image = disk.with_suffix(".fat")
    try:
        create(image, part.size * MIB)
        # The FAT knows where on the disk it lies (hidden sectors): some firmware looks.
        hidden = str(part.offset // SECTOR)
        command = [
            need("mkfs.vfat"),
            "-F",
            "32",
            "-s",
            "1",
            "-h",
            hidden,
            "-i",
            volume_id,
            "-n",
            label,
            str(image),
        ]
        run(command, timeout=60)
        folders: dict[str, None] = {}
        for name in files:
            parts = name.split("/")[:-1]
            folders |= {"/".join(parts[: i + 1]): None for i in range(len(parts))}
        if folders:
            run([need("mmd"), "-i", str(image), *(f"::{f}" for f in folders)], timeout=60)
        for name, content in files.items():
            run([need("mcopy"), "-i", str(image), "-", f"::{name}"], timeout=60, input=content)
        place(image, disk, part.offset)
    finally:
        image.unlink(missing_ok=True)


def make_swap(disk: Path, part: Partition, *, uuid: str) -> None:
    """A swap area in a partition."""
    image = disk.with_suffix(".swap")
    try:
        create(image, part.size * MIB)
        image.chmod(0o600)
        run([need("mkswap"), "-q", "-U", uuid, str(image)], timeout=60)
        place(image, disk, part.offset)
    finally:
        image.unlink(missing_ok=True)


def place(image: Path, disk: Path, offset: int) -> None:
    """Copy an image into a disk at a byte offset, leaving out blocks of zeros."""
    with image.open("rb") as source, disk.open("r+b") as target:
        while block := source.read(MIB):
            if block.strip(b"\0"):
                target.seek(offset)
                target.write(block)
            offset += len(block)


def embed_grub_bios(disk: Path, boot: bytes, core: bytes, part: Partition) -> None:
    """Put GRUB's BIOS boot code down: ``boot`` (boot.img) into sector 0, ``core`` (core.img) into the BIOS
    boot partition.

    What grub-bios-setup does: boot.img is told the first sector of core.img (u64 at 0x5c) and not to trust
    the BIOS's drive number check (two NOPs at 0x66); core.img's first sector, diskboot.img, ends with the
    list of blocks of the rest (at 0x1f4: u64 start sector, u16 count, u16 segment), of which grub-mkimage
    knows all but the start. Source: GRUB's include/grub/i386/pc/boot.h and
    grub-core/boot/i386/pc/{boot,diskboot}.S. LabError when it does not fit.
    """
    if len(boot) != SECTOR or boot[510:] != b"\x55\xaa":
        raise LabError("boot.img is not a boot sector")
    if len(core) > part.size * MIB:
        raise LabError(f"core.img ({len(core)} bytes) does not fit in the BIOS boot partition")
    start = part.offset // SECTOR
    first, loader = bytearray(boot), bytearray(core)
    struct.pack_into("<Q", first, 0x5C, start)
    first[0x66:0x68] = b"\x90\x90"
    count, segment = struct.unpack_from("<HH", loader, 0x1FC)
    if segment != 0x820 or count != -(-(len(core) - SECTOR) // SECTOR):
        raise LabError("core.img does not begin with diskboot.img")
    struct.pack_into("<Q", loader, 0x1F4, start + 1)
    with disk.open("r+b") as file:
        table = file.read(SECTOR)
        # Bytes 0x1b8 on are the disk's signature and the (protective) partition table.
        file.seek(0)
        file.write(bytes(first[:0x1B8]) + table[0x1B8:])
        file.seek(part.offset)
        file.write(loader)


def make_foreign(path: Path, size: int) -> None:
    """A disk somebody used before: an MBR table with a FAT and an ext4 file system, and no boot code of
    ours.
    """
    create(path, size)
    rest = size // MIB - 66
    fat, linux = Partition("c", 1, 64), Partition("83", 65, rest)
    write_table(path, "dos", [fat, linux], "0x0ddba115")
    note = {"HOLIDAY/PHOTO.TXT": b"a picture of a previous owner's holiday\n" * 2000}
    make_fat(path, fat, volume_id="0ddba11f", label="OLDDATA", files=note)
    make_ext4(path, linux, label="olddata")


def make_target(path: Path, size: int, *, foreign: bool = False) -> None:
    """A disk to deploy to: empty, or with somebody else's partitions on it. ``size`` in bytes."""
    if foreign:
        make_foreign(path, size)
    else:
        create(path, size)
