"""Naming a file system by its superblock, without mounting it and without external programs.

Offsets and magic numbers are those of each format's own description (ext4: kernel
Documentation/filesystems/ext4; FAT: Microsoft fatgen103; NTFS, BitLocker: boot sector OEM name; swap:
mkswap(8); LUKS: on-disk format 1.2.3 and 2).
"""

import struct
import uuid
from dataclasses import dataclass

from imaging.disk.gpt import ReadAt


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What a partition holds. ``dirty`` says why its map of used blocks cannot be trusted ("" = it can)."""

    kind: str
    label: str = ""
    uuid: str = ""
    dirty: str = ""


UNKNOWN = FileSystem("unknown")
_PROBE_SIZE = 68 << 10  # up to the end of the Btrfs superblock's first half


def probe(read_at: ReadAt, size: int) -> FileSystem:
    """Name what lies in a partition of ``size`` bytes; ``unknown`` when nothing or several things match.

    ``read_at`` counts from the partition's start. Raises DiskError.
    """
    data = read_at(0, min(size, _PROBE_SIZE)).ljust(_PROBE_SIZE, b"\0")
    # Old signatures survive a new mkfs: where two match, only a capture of every byte is surely right.
    found = [fs for look in _PROBES if (fs := look(data, size)) is not None]
    return found[0] if len(found) == 1 else UNKNOWN


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("utf-8", "replace").strip()


def _uuid(raw: bytes) -> str:
    return str(uuid.UUID(bytes=raw)) if any(raw) else ""


def _ext(data: bytes, size: int) -> FileSystem | None:
    block = data[1024:2048]
    if block[56:58] != b"\x53\xef":
        return None
    state, errors = struct.unpack_from("<H", block, 58)[0] & 1, struct.unpack_from("<H", block, 58)[0] & 2
    compat, incompat, ro_compat = struct.unpack_from("<III", block, 92)
    if incompat & 0x8:
        return FileSystem("jbd", _text(block[120:136]), _uuid(block[104:120]))
    # extents, 64bit, flex_bg; huge_file, dir_nlink, extra_isize, metadata_csum: features ext3 never had.
    modern = incompat & (0x40 | 0x80 | 0x200) or ro_compat & (0x8 | 0x20 | 0x40 | 0x400)
    kind = "ext4" if modern else "ext3" if compat & 0x4 else "ext2"
    dirty = ""
    if errors:
        dirty = "it has errors: repair it with e2fsck"
    elif incompat & 0x4 or not state:
        dirty = "it was not unmounted: start that system, shut it down cleanly"
    return FileSystem(kind, _text(block[120:136]), _uuid(block[104:120]), dirty)


def _fat(data: bytes, size: int) -> FileSystem | None:
    sector, cluster = struct.unpack_from("<HB", data, 11)
    reserved, fats = struct.unpack_from("<HB", data, 14)
    sane = (
        sector in (512, 1024, 2048, 4096)
        and cluster
        and not cluster & (cluster - 1)
        and reserved
        and 1 <= fats <= 2
    )
    if data[510:512] != b"\x55\xaa" or not sane or data[21] < 0xF0:
        return None
    if data[82:87] == b"FAT32":
        serial, label = data[67:71], data[71:82]
    elif data[54:57] == b"FAT":
        serial, label = data[39:43], data[43:54]
    else:
        return None
    number = int.from_bytes(serial, "little")
    text = label.decode("cp437", "replace").strip(" \0")
    return FileSystem("fat", "" if text == "NO NAME" else text, f"{number >> 16:04X}-{number & 0xFFFF:04X}")


def _boot_sector(data: bytes, size: int) -> FileSystem | None:
    oem = data[3:11]
    if oem == b"NTFS    ":
        return FileSystem("ntfs", uuid=f"{int.from_bytes(data[72:80], 'little'):016X}")
    if oem == b"EXFAT   ":
        number = int.from_bytes(data[100:104], "little")
        return FileSystem("exfat", uuid=f"{number >> 16:04X}-{number & 0xFFFF:04X}")
    kinds = {b"-FVE-FS-": "bitlocker", b"ReFS\0\0\0\0": "refs"}
    return FileSystem(kinds[oem]) if oem in kinds else None


def _swap(data: bytes, size: int) -> FileSystem | None:
    # mkswap writes the signature at the end of the first page; x86 has 4 KiB pages.
    signature = data[4086:4096]
    if signature == b"SWAPSPACE2":
        return FileSystem("swap", _text(data[1052:1068]), _uuid(data[1036:1052]))
    if signature[:9] in (b"S1SUSPEND", b"S2SUSPEND", b"ULSUSPEND") or signature[:8] == b"LINHIB00":
        return FileSystem("swap", dirty="a hibernated system lies in it: start that system, shut it down")
    return None


def _simple(data: bytes, size: int) -> FileSystem | None:
    if data[:6] == b"LUKS\xba\xbe":
        return FileSystem("luks", uuid=_text(data[168:208])[:40])
    if data[:4] == b"XFSB":
        return FileSystem("xfs", _text(data[108:120]), _uuid(data[32:48]))
    if data[65600:65608] == b"_BHRfS_M":
        return FileSystem("btrfs", _text(data[65835:66091]), _uuid(data[65568:65584]))
    if data[1024:1028] == b"\x10\x20\xf5\xf2":
        name = data[1024 + 124 : 1024 + 124 + 1024].decode("utf-16-le", "replace").split("\0")[0]
        return FileSystem("f2fs", name, _uuid(data[1024 + 108 : 1024 + 124]))
    if data[32:36] == b"NXSB":
        return FileSystem("apfs")
    if data[1024:1026] in (b"H+", b"HX"):
        return FileSystem("hfsplus")
    if data[4096:4100] == b"\xfc\x4e\x2b\xa9":
        return FileSystem("mdraid")
    if any(
        data[at : at + 8] == b"LABELONE" and data[at + 24 : at + 32] == b"LVM2 001"
        for at in (0, 512, 1024, 1536)
    ):
        return FileSystem("lvm")
    return None


_PROBES = (_ext, _fat, _boot_sector, _swap, _simple)
