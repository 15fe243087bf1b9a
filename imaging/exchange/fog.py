"""Reading FOG's image folders (/images/NAME): one or several disks, resizable or not.

What lies in one, by the programs that write it (FOS 1.5 and 1.6, lib/funcs.sh):

* ``dN.mbr``: a GPT as ``sgdisk --backup`` has it, or the first sectors of an MBR disk (up to 1 MiB);
* ``dN.partitions``, ``dN.minimum.partitions``: ``sfdisk -d`` of the disk as it was, and with the file systems
  shrunk (resizable images only; content was saved in that state);
* ``dNpM.img``, ``.img.000 …``: a partclone image, zstd, gzip or bare, perhaps split;
* ``dN.original.swapuuids``: ``M UUID`` per swap partition; ``dN.size``: ``N:BYTES``;
* ``dNpM.ebr``: marks an extended partition.
"""

import re
from pathlib import Path
from typing import Literal

from imaging.exchange import sfdisk
from imaging.exchange.errors import FolderInvalid
from imaging.exchange.foreign import (
    ForeignDisk,
    Packed,
    Swap,
    gpt_of_backup,
    mbr_of_dump,
    moved,
    no_content,
    rounded,
    small_file,
)
from imaging.tables import Partition, Table

#: Sectors of 512 bytes behind the last usable one of a GPT with 128 entries, and of 4096 bytes.
_TAIL = {512: 33, 4096: 5}

Places = Literal["original", "minimum"]
"""Where partitions of a resizable image go: as on the disk that was captured, with file systems smaller than
they, or as FOG shrank and moved them; then a deploy that grows makes both fill the disk."""


def is_folder(path: Path) -> bool:
    """Whether a folder looks like one of FOG's."""
    return (path / "d1.mbr").exists() or (path / "d1.partitions").exists()


def read(folder: Path, places: Places = "minimum") -> list[ForeignDisk]:
    """The disks of an image folder. Raises FolderInvalid, PathRefused, TableInvalid, UnsupportedDisk."""
    if (folder / "sys.img.000").exists() or (folder / "rec.img.000").exists():
        raise FolderInvalid(
            f"{folder} is an image of FOG before 1.0: deploy it with FOG, capture it there again (or with "
            "pxeboot), then try again."
        )
    names = sorted({int(m[1]) for p in folder.iterdir() if (m := re.match(r"^d(\d{1,2})\.mbr$", p.name))})
    if not names:
        raise FolderInvalid(f"{folder / 'd1.mbr'} is missing: copy the whole folder.")
    disks = [_disk(folder, number, places) for number in names]
    no_content(disks, folder)
    return disks


def _disk(folder: Path, number: int, places: Places) -> ForeignDisk:
    minimum = folder / f"d{number}.minimum.partitions"
    original = _first(folder / f"d{number}.partitions", folder / f"d{number}.original.partitions")
    chosen = minimum if places == "minimum" and minimum.exists() else original
    if not chosen.exists():
        chosen = minimum
    text = small_file(chosen)
    dump = sfdisk.parse(text, chosen.name)
    saved = small_file(folder / f"d{number}.mbr")
    table: Table
    partitions: tuple[Partition, ...]
    gap = b""
    if dump.label == "gpt":
        table, partitions, size = gpt_of_backup(saved, dump.sector_size)
        partitions = moved(partitions, dump, chosen.name)
        if chosen == minimum:
            size = rounded((dump.end + _TAIL[dump.sector_size]) * dump.sector_size)
        elif dump.last_lba:
            size = (dump.last_lba + 1 + _TAIL[dump.sector_size]) * dump.sector_size
    else:
        size = _size(folder, number) or rounded(dump.end * dump.sector_size)
        table, partitions = mbr_of_dump(saved, dump, text, size)
        first = min((p.start for p in partitions), default=size)
        gap = saved[dump.sector_size : first]
    _refuse_lvm(folder, number)
    contents: dict[int, Packed | Swap] = dict(_swaps(folder, number))
    for p in partitions:
        if files := pieces(folder, f"d{number}p{p.number}.img"):
            contents[p.number] = Packed(files)
    # An MBR's extended partition was saved as an image by older versions; it is not among the partitions.
    grow = _growable(folder, number, partitions) if minimum.exists() else ()
    return ForeignDisk(f"d{number}", size, dump.sector_size, table, partitions, contents, gap, grow)


def _first(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), paths[0])


def _growable(folder: Path, number: int, partitions: tuple[Partition, ...]) -> tuple[int, ...]:
    """Which partitions FOG enlarges at each deploy: those not named as of fixed size (``1:2:4``)."""
    path = folder / f"d{number}.fixed_size_partitions"
    fixed = {int(text) for text in re.findall(rb"\d{1,4}", small_file(path))} if path.exists() else set()
    return tuple(p.number for p in partitions if p.number not in fixed)


def _refuse_lvm(folder: Path, number: int) -> None:
    for path in sorted(folder.glob(f"d{number}p*.lvm")):
        raise FolderInvalid(
            f"{path.name}: this image keeps LVM volumes one by one, which is not read here. Deploy it with "
            "FOG, then capture that machine."
        )


def _size(folder: Path, number: int) -> int:
    path = folder / f"d{number}.size"
    if not path.exists():
        return 0
    found = re.match(rb"^\d+:(\d{1,18})\s*$", small_file(path))
    size = int(found[1]) if found else 0
    return size if size % 512 == 0 else 0


def _swaps(folder: Path, number: int) -> dict[int, Swap]:
    path = folder / f"d{number}.original.swapuuids"
    if not path.exists():
        return {}
    swaps = {}
    for line in small_file(path).decode("ascii", "replace").splitlines():
        if found := re.match(r"^(\d{1,4})\s+([0-9A-Fa-f-]{36})\s*$", line):
            swaps[int(found[1])] = Swap(found[2].lower())
    return swaps


def pieces(folder: Path, stem: str) -> tuple[Path, ...]:
    """``stem`` alone, or its pieces ``stem.000 .001 …`` (the first may have lost its number), none missing.

    FOG renames the first piece of a split image to ``stem``. Raises FolderInvalid for a hole.
    """
    split: dict[int, Path] = {}
    for path in folder.iterdir():
        if found := re.match(rf"^{re.escape(stem)}\.(\d{{3,}})$", path.name):
            split[int(found[1])] = path
    if (folder / stem).exists():
        if 0 in split:
            raise FolderInvalid(f"{folder} has both {stem} and {stem}.000: which is right? Remove the other.")
        split[0] = folder / stem
    if not split:
        return ()
    for number in range(max(split) + 1):
        if number not in split:
            raise FolderInvalid(f"{folder / stem}.{number:03d} is missing: copy all pieces of the image.")
    return tuple(split[number] for number in sorted(split))
