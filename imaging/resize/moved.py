"""What a FAT or NTFS volume says of its own place: the number of sectors before it, from which it is booted.

The boot sector's "hidden sectors" (0x1C) is where BIOS boot code reads the rest of itself and of the volume
from, so it must name the partition's first sector when the partition has moved. The boot sector has a copy
(FAT32: in the sector that 0x32 names; NTFS: in the partition's last one), from which chkdsk and people mend
it: that has to say the same. Structures: fatgen103; the NTFS boot sector as in ntfs-3g's layout.h.
"""

from __future__ import annotations

from imaging.disk.gpt import ReadAt
from imaging.manifest import Partition

#: What is looked at here.
KINDS = ("fat", "ntfs")
_HIDDEN = slice(0x1C, 0x20)


def boot_sectors(read_at: ReadAt, before: Partition, now: Partition, unit: int) -> list[tuple[int, bytes]]:
    """The pieces (offset on the disk, bytes) to write so that the volume knows where it is; often none.

    ``before`` is the partition as the image has it, ``unit`` the disk's sector size in bytes. A volume whose
    maker left the number away (0), or counted from its extended boot record as DOS did, does not depend on
    it. Raises DiskError.
    """
    boot = bytearray(read_at(now.start, 512))
    said, place = int.from_bytes(boot[_HIDDEN], "little"), now.start // unit
    if not said or place >= 1 << 32 or (now.logical and said != before.start // unit):
        return []
    number = place.to_bytes(4, "little")
    sector = int.from_bytes(boot[0x0B:0x0D], "little") or 512
    pieces = [(now.start + _HIDDEN.start, number)]
    if now.filesystem == "ntfs" and boot[3:11] == b"NTFS    ":
        copy = bytearray(read_at(now.start, sector))
        copy[_HIDDEN] = number
        pieces.append((now.start + now.size - sector, bytes(copy)))
    elif now.filesystem == "fat" and (at := _fat32_copy(boot)):
        copy = bytearray(read_at(now.start + at * sector, 512))
        if copy[0x0B:0x1C] == boot[0x0B:0x1C] and copy[510:] == b"\x55\xaa":
            pieces.append((now.start + at * sector + _HIDDEN.start, number))
    return pieces


def _fat32_copy(boot: bytes | bytearray) -> int:
    """The sector that the copy lies in; 0 = there is none (FAT12 and FAT16 have a FAT size at 0x16)."""
    if any(boot[0x16:0x18]):
        return 0
    at, reserved = (int.from_bytes(boot[place : place + 2], "little") for place in (0x32, 0x0E))
    return at if at < reserved else 0
