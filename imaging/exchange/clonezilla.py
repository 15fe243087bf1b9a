"""Reading Clonezilla's image folders: one or several disks, or some partitions of them.

What lies in one (drbl ocs-functions, "saveparts"/"savedisk"):

* ``disk``, ``parts``: names of what was saved (``sda``; ``sda1 sda2``);
* ``sda-pt.sf`` (``sfdisk -d``), ``sda-pt.parted``; of a GPT also ``sda-gpt.gdisk`` (``sgdisk --backup``) and
  ``sda-gpt-1st`` (the first 34 sectors); of an MBR ``sda-mbr`` and ``sda-hidden-data-after-mbr``;
* ``sda1.ext4-ptcl-img.zst``, or in pieces ``….zst.aa .ab …``: a partclone image; ``sda3.dd-img.…``: bytes;
* ``swappt-sda2.info``: UUID and label of a swap area.
"""

import re
from pathlib import Path

from imaging.errors import ImagingError
from imaging.exchange import sfdisk
from imaging.exchange.errors import FolderInvalid
from imaging.exchange.foreign import (
    ForeignDisk,
    Packed,
    Swap,
    gpt_of_backup,
    gpt_of_start,
    mbr_of_dump,
    no_content,
    rounded,
    small_file,
)
from imaging.tables import Partition, Table

#: What this file means, if it is there, is that the image cannot be read here.
_REFUSED = {
    "ecryptfs.info": "it is encrypted: decrypt it with ocs-decrypt-img",
    "lvm_vg_dev.list": "it keeps LVM volumes one by one: restore it with Clonezilla and capture that machine",
    "luks-dev.list": "it keeps what LUKS volumes hold: restore it with Clonezilla and capture that machine",
}
#: The first letter of the suffixes split(1) makes; ``.aa`` follows the compressor's name.
_IMAGE = re.compile(r"^(?P<kind>[A-Za-z0-9+_-]+?)-(?P<how>ptcl-img|img)(?:\.(?P<rest>.*))?$")
_SPLIT = re.compile(r"(?:^|\.)([a-z]{2,4})$")
_PACKERS = {"gz", "bz2", "lzo", "lzma", "xz", "lzip", "lrz", "lz4", "zst", "uncomp"}


def is_folder(path: Path) -> bool:
    """Whether a folder looks like one of Clonezilla's."""
    return (path / "parts").exists() or (path / "disk").exists()


def read(folder: Path) -> list[ForeignDisk]:
    """The disks of an image folder. Raises FolderInvalid, PathRefused, TableInvalid, UnsupportedDisk."""
    for name, what in _REFUSED.items():
        if (folder / name).exists():
            raise FolderInvalid(f"The image {folder.name} cannot be read here, {what}.")
    names = sorted(p.name.removesuffix("-pt.sf") for p in folder.iterdir() if p.name.endswith("-pt.sf"))
    if not names:
        raise FolderInvalid(f"{folder} has no partition table (DISK-pt.sf): copy the whole folder.")
    disks = [_disk(folder, name) for name in names]
    no_content(disks, folder)
    _all_parts(folder, disks)
    return disks


def _disk(folder: Path, name: str) -> ForeignDisk:
    text = small_file(folder / f"{name}-pt.sf")
    dump = sfdisk.parse(text, f"{name}-pt.sf")
    table: Table
    partitions: tuple[Partition, ...]
    gap = b""
    if dump.label == "gpt":
        table, partitions, size = _gpt(folder, name, dump.sector_size)
    else:
        start = small_file(folder / f"{name}-mbr")
        size = _parted_size(folder, name, dump.sector_size) or rounded(dump.end * dump.sector_size)
        table, partitions = mbr_of_dump(start, dump, text, size)
        hidden = folder / f"{name}-hidden-data-after-mbr"
        first = min((p.start for p in partitions), default=size)
        gap = small_file(hidden)[: first - dump.sector_size] if hidden.exists() else b""
    contents: dict[int, Packed | Swap] = {}
    for p in partitions:
        content = _content(folder, device(name, p.number))
        if content is not None:
            contents[p.number] = content
    return ForeignDisk(name, size, dump.sector_size, table, partitions, contents, gap)


def device(disk: str, number: int) -> str:
    """The name of a disk's partition: ``sda1``, ``nvme0n1p1``."""
    return f"{disk}p{number}" if disk[-1:].isdigit() else f"{disk}{number}"


def _gpt(folder: Path, name: str, sector_size: int) -> tuple[Table, tuple[Partition, ...], int]:
    """The GPT from the better of its two copies: of 4 KiB sectors ``-gpt-1st`` lacks most of the entries."""
    backup, start = folder / f"{name}-gpt.gdisk", folder / f"{name}-gpt-1st"
    if backup.exists():
        try:
            return gpt_of_backup(small_file(backup), sector_size)
        except ImagingError:
            if not start.exists():
                raise
    return gpt_of_start(small_file(start), sector_size)


def _parted_size(folder: Path, name: str, sector_size: int) -> int:
    path = folder / f"{name}-pt.parted"
    if not path.exists():
        return 0
    found = re.search(rb"^Disk /dev/\S+: (\d{1,18})s\s*$", small_file(path), re.MULTILINE)
    return int(found[1]) * sector_size if found else 0


def _content(folder: Path, name: str) -> Packed | Swap | None:
    info = folder / f"swappt-{name}.info"
    if info.exists():
        fields = dict(
            re.findall(r'^(UUID|LABEL)="([^"]*)"', small_file(info).decode("utf-8", "replace"), re.M)
        )
        return Swap(fields.get("UUID", "").lower(), fields.get("LABEL", ""))
    files: dict[str, Path] = {}
    kinds = set()
    for path in folder.iterdir():
        found = _IMAGE.match(path.name[len(name) + 1 :]) if path.name.startswith(name + ".") else None
        if found is None:
            continue
        rest = found["rest"] or ""
        split = _SPLIT.search(rest)
        suffix = split[1] if split and split[1] not in _PACKERS else ""
        kinds.add((found["kind"], found["how"]))
        if suffix in files:
            raise FolderInvalid(f"{folder.name} has two images of {name}: remove the one that is not right.")
        files[suffix] = path
    if not kinds:
        if old := sorted(p.name for p in folder.glob(f"{name}.0*")):
            raise FolderInvalid(
                f"{old[0]} was made by partimage: restore it with Clonezilla, and capture that disk."
            )
        return None
    kind, how = kinds.pop()
    if kinds or (len(files) > 1 and "" in files):
        raise FolderInvalid(f"{folder.name} has two images of {name}: remove the one that is not right.")
    if kind == "ntfs" and how == "img":
        raise FolderInvalid(
            f"{name} was saved with ntfsclone, which is not read here: restore it with Clonezilla, and "
            "capture that disk."
        )
    return Packed(_in_order(files, folder / name), raw=kind == "dd" and how == "img")


def _in_order(files: dict[str, Path], what: Path) -> tuple[Path, ...]:
    """Pieces by their suffix (``aa ab … az ba``), none missing. Raises FolderInvalid."""
    suffixes = sorted(files)
    if suffixes != [""]:
        for number, suffix in enumerate(suffixes):
            wanted = _suffix(number, len(suffix))
            if suffix != wanted:
                raise FolderInvalid(f"{what}: the piece .{wanted} is missing; copy the whole folder.")
    return tuple(files[suffix] for suffix in suffixes)


def _suffix(number: int, length: int) -> str:
    letters = ""
    for _ in range(length):
        number, digit = divmod(number, 26)
        letters = chr(ord("a") + digit) + letters
    return letters


def _all_parts(folder: Path, disks: list[ForeignDisk]) -> None:
    """Whatever ``parts`` names must be here."""
    path = folder / "parts"
    if not path.exists():
        return
    known = {device(d.name, number) for d in disks for number in d.contents}
    tables = {device(d.name, p.number) for d in disks for p in d.partitions}
    lacking = [name for name in small_file(path).decode("ascii", "replace").split() if name not in known]
    # An extended partition may be named, too: it has no content.
    lacking = [name for name in lacking if name in tables]
    if lacking:
        raise FolderInvalid(
            f"{folder.name} should have the partitions {', '.join(lacking)[:200]}, but has no image of them: "
            "copy the whole folder."
        )
