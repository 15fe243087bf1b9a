"""A disk with Windows and Linux side by side, as a school's machines have it, and what can be told of it.

There is no real Windows here: its partitions, its file tree with registry hives, and the loader's place are
as Windows makes them. The Linux is the room's guest, moved behind them.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imaging.disk.device import Disk
from imaging.disk.table import read_table
from imaging.manifest import Partition
from pxeboot.lab import guest
from tests.imaging.customise.windows import windows_tree
from tests.imaging.disks import MIB, run
from tests.imaging.matrix.filesystems import mounted, unseen
from tests.imaging.matrix.trees import describe, plant
from tests.imaging.matrix.way import device

ESP, MSR, WINDOWS, RECOVERY, ROOT, SWAP = 1, 2, 3, 4, 5, 6
NO_LETTER = 0x8000000000000001  # required by the platform, and no drive letter
#: number -> (first MiB, MiB, GPT type, name). The ESP lies where the guest has it.
PLACES = {
    ESP: (2, 64, "ef00", "EFI system partition"),
    MSR: (66, 16, "0c01", "Microsoft reserved partition"),
    WINDOWS: (82, 320, "0700", "Basic data partition"),
    RECOVERY: (402, 64, "2700", ""),
    ROOT: (466, guest.ROOT_PART.size, "8300", "root"),
    SWAP: (466 + guest.ROOT_PART.size, guest.SWAP_PART.size, "8200", "swap"),
}
SIZE = (PLACES[SWAP][0] + PLACES[SWAP][1] + 1) * MIB
#: What Windows keeps its memory in: the names stay, the content does not.
MEMORY = {"pagefile.sys": 24 * MIB, "hiberfil.sys": 12 * MIB, "swapfile.sys": 4 * MIB}
_NTFS = "permissions,acl,streams_interface=xattr,compression"
_COMPRESSED = 0x800  # FILE_ATTRIBUTE_COMPRESSED


@unseen
def make(path: Path, scratch: Path, linux: Path) -> None:
    """The disk file. ``linux`` is the guest's."""
    with open(path, "wb") as file:
        file.truncate(SIZE)
    words = []
    for number, (start, size, kind, name) in PLACES.items():
        first = start * 2048
        words += [f"-n{number}:{first}:{first + size * 2048 - 1}", f"-t{number}:{kind}", f"-c{number}:{name}"]
    run("sgdisk", *words, f"-A{RECOVERY}:=:{NO_LETTER:x}", path)
    for number, part in ((ESP, guest.ESP_PART), (ROOT, guest.ROOT_PART), (SWAP, guest.SWAP_PART)):
        places = [f"skip={part.start}", f"seek={PLACES[number][0]}", f"count={PLACES[number][1]}"]
        run("dd", f"if={linux}", f"of={path}", "bs=1M", "conv=sparse,notrunc", "status=none", *places)
    esp = f"{path}@@{PLACES[ESP][0]}M"
    run("mmd", "-i", esp, "::EFI/Microsoft", "::EFI/Microsoft/Boot")
    for name, data in {"bootmgfw.efi": _pe(), "BCD": b"regf".ljust(8192, b"\0")}.items():
        run("mcopy", "-i", esp, "-", f"::EFI/Microsoft/Boot/{name}", input=data)
    _ntfs(path, WINDOWS, "Windows", scratch, _fill_windows)
    _ntfs(path, RECOVERY, "Recovery", scratch, _fill_recovery)


def _pe() -> bytes:
    pe = bytearray(random.Random(2).randbytes(200_000))
    pe[:2], pe[60:64], pe[128:134] = b"MZ", struct.pack("<I", 128), b"PE\0\0\x64\x86"
    return bytes(pe)


def _ntfs(path: Path, number: int, label: str, scratch: Path, fill: Any) -> None:
    start, size = PLACES[number][0] * MIB, PLACES[number][1] * MIB
    with device(path, 512, write=True, offset=start, size=size) as part:
        geometry = ["-s", "512", "-p", str(start // 512), "-H", "255", "-S", "63"]
        run("mkntfs", "-q", "-Q", "-F", "-L", label, *geometry, part)
        with mounted(part, scratch / "mnt", "ntfs-3g", "-o", _NTFS) as root:
            fill(root)


def _fill_windows(root: Path) -> None:
    dice = random.Random(6)
    windows_tree(root, "complete")
    for name, size in MEMORY.items():
        (root / name).write_bytes(b"wake" + dice.randbytes(size - 4))
    user = root / "Users" / "Ada"
    user.mkdir(parents=True)
    plant(user, large=30 * MIB)  # with sparse files, access rights and links
    packed = root / "Users" / "Ada" / "packed"
    packed.mkdir()
    os.setxattr(packed, "system.ntfs_attrib", struct.pack("<I", 0x10 | _COMPRESSED))
    (packed / "text").write_bytes(b"What compresses well is written so by NTFS itself. " * 40_000)
    os.setxattr(user / "size-4096", "user.Zone.Identifier", b"[ZoneTransfer]\r\nZoneId=3\r\n")


def _fill_recovery(root: Path) -> None:
    folder = root / "Recovery" / "WindowsRE"
    folder.mkdir(parents=True)
    (folder / "Winre.wim").write_bytes(random.Random(8).randbytes(9 * MIB))
    (folder / "ReAgent.xml").write_text("<WindowsRE version='2.0'></WindowsRE>\n")


# --- what can be told of it ---


def partitions(path: Path) -> dict[int, Partition]:
    with Disk(path) as disk:
        return {p.number: p for p in read_table(disk)[1]}


@contextmanager
def opened(path: Path, number: int) -> Iterator[str]:
    """One partition as a device that cannot be written to."""
    p = partitions(path)[number]
    with device(path, 512, offset=p.start, size=p.size) as part:
        yield part


@unseen
def ntfs(path: Path, number: int, scratch: Path) -> dict[str, Any]:
    """Everything in an NTFS: names, times, rights, streams, access lists and NTFS's own attributes."""
    with (
        opened(path, number) as part,
        mounted(part, scratch / "mnt", "ntfs-3g", "-o", f"ro,{_NTFS}") as root,
    ):
        found = describe(root)
        return {
            name: (
                *facts,
                _attribute(root / name, "system.ntfs_attrib"),
                _attribute(root / name, "system.posix_acl_access"),
            )
            for name, facts in found.items()
        }


def _attribute(path: Path, name: str) -> str:
    try:
        return os.getxattr(path, name, follow_symlinks=False).hex()
    except OSError:
        return ""


@unseen
def linux(path: Path, scratch: Path) -> dict[str, Any]:
    """Everything in the Linux' root file system; nothing is replayed or changed."""
    with (
        opened(path, ROOT) as part,
        mounted(part, scratch / "mnt", "mount", "-t", "ext4", "-o", "ro,noload") as root,
    ):
        return describe(root)


@unseen
def read(path: Path, number: int, name: str, to: Path, scratch: Path) -> Path:
    """A file of an NTFS, copied out."""
    with (
        opened(path, number) as part,
        mounted(part, scratch / "mnt", "ntfs-3g", "-o", "ro") as root,
    ):
        to.write_bytes((root / name).read_bytes())
    return to


def hidden_sectors(path: Path, at: int) -> int:
    """The sectors before it that the boot sector at byte ``at`` of the disk names."""
    with open(path, "rb") as file:
        file.seek(at + 0x1C)
        return int.from_bytes(file.read(4), "little")
