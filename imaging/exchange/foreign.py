"""A disk as another program's folder describes it: table, partitions, and where the content of each lies."""

import dataclasses
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imaging.disk import gpt, mbr
from imaging.errors import ToolMissing
from imaging.exchange.errors import FolderInvalid
from imaging.exchange.paths import open_regular
from imaging.exchange.sfdisk import Dump
from imaging.tables import Partition, Table

_MIB = 1 << 20
_SFDISK_SECONDS = 60
_MAX_SMALL = 4 << 20


@dataclass(frozen=True, slots=True)
class Packed:
    """A partition's content in files, packed or not: a partclone image, or (``raw``) its bytes."""

    files: tuple[Path, ...]
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Swap:
    """A swap area, of which only UUID and label were kept."""

    uuid: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class ForeignDisk:
    """One disk; sizes in bytes. A partition that ``contents`` lacks comes empty."""

    name: str
    size: int
    sector_size: int
    table: Table
    partitions: tuple[Partition, ...]
    contents: Mapping[int, Packed | Swap]
    gap: bytes = b""
    """What lies behind LBA 0 of an MBR disk, before the first partition."""
    grow: tuple[int, ...] = ()
    """Partitions whose file systems were shrunk, and are meant to be grown at each deploy."""


class Sparse:
    """A few pieces of a disk that is zeros elsewhere, for the readers of partition tables."""

    def __init__(self, pieces: Iterable[tuple[int, bytes]]) -> None:
        self._pieces = list(pieces)

    def read_at(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        for start, piece in self._pieces:
            begin, end = max(start, offset), min(start + len(piece), offset + length)
            if begin < end:
                data[begin - offset : end - offset] = piece[begin - start : end - start]
        return bytes(data)


def small_file(path: Path) -> bytes:
    """A file of a folder that has at most 4 MiB. Raises FolderInvalid, PathRefused."""
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_SMALL + 1)
    except FileNotFoundError:
        raise FolderInvalid(f"{path} is missing: copy the whole folder.") from None
    except OSError as error:
        raise FolderInvalid(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > _MAX_SMALL:
        raise FolderInvalid(f"{path} is too large for what it should be.")
    return data


def gpt_of_backup(data: bytes, sector_size: int) -> tuple[Table, tuple[Partition, ...], int]:
    """Table, partitions and disk size out of what ``sgdisk --backup`` wrote.

    Its file has, whatever the disk's sectors, in 512 bytes each: LBA 0, the header, the backup header; then
    the entries (sgdisk(8); GPTData::SaveGPTBackup). Raises TableInvalid, UnsupportedDisk.
    """
    return gpt_of_pieces(data[:512], data[512:1024], data[1536:], sector_size)


def gpt_of_start(data: bytes, sector_size: int) -> tuple[Table, tuple[Partition, ...], int]:
    """The same out of the first sectors of the disk. Raises TableInvalid, UnsupportedDisk."""
    return gpt_of_pieces(
        data[:512], data[sector_size : sector_size + 512], data[2 * sector_size :], sector_size
    )


def gpt_of_pieces(
    mbr_sector: bytes, header: bytes, entries: bytes, sector_size: int
) -> tuple[Table, tuple[Partition, ...], int]:
    """The same out of LBA 0, header and entries."""
    last = int.from_bytes(header[32:40], "little")  # UEFI 2.10 table 5.5: AlternateLBA, the disk's last
    size = min(last + 1, 1 << 50) * sector_size
    pieces = [(0, mbr_sector), (sector_size, header), (2 * sector_size, entries)]
    table, partitions = gpt.read(Sparse(pieces).read_at, size, sector_size)
    return table, partitions, size


def moved(partitions: Iterable[Partition], dump: Dump, name: str) -> tuple[Partition, ...]:
    """GPT partitions at the places that a dump gives them; raises FolderInvalid when it lacks one."""
    rows = {row.number: row for row in dump.rows}
    found = tuple(partitions)
    if set(rows) != {p.number for p in found}:
        raise FolderInvalid(
            f"{name} and the saved partition table name other partitions "
            f"({sorted(rows)} and {sorted(p.number for p in found)}): the folder was mixed up."
        )
    size = dump.sector_size
    return tuple(
        dataclasses.replace(p, start=rows[p.number].start * size, size=rows[p.number].size * size)
        for p in found
    )


def mbr_of_dump(start: bytes, dump: Dump, text: bytes, size: int) -> tuple[Table, tuple[Partition, ...]]:
    """An MBR table: boot code and signature of ``start`` (at least LBA 0), partitions as sfdisk makes them.

    The programs keep no extended boot records: they have sfdisk make them anew out of its dump, and so do we,
    on a sparse file. Raises FolderInvalid, ToolMissing, TableInvalid, UnsupportedDisk.
    """
    with tempfile.NamedTemporaryFile(prefix="pxeboot-table-") as file:
        file.truncate(size)
        file.write(start[:512])
        file.flush()
        command = ["sfdisk", "--quiet", "--force", "--no-reread", "--no-tell-kernel", "--wipe", "never"]
        try:
            result = subprocess.run(
                [*command, file.name],
                input=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C"},
                timeout=_SFDISK_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise ToolMissing("sfdisk is not installed: install the package fdisk.") from None
        except subprocess.TimeoutExpired:
            raise FolderInvalid("The partition table cannot be made: sfdisk does not end.") from None
        if result.returncode:
            said = " / ".join(result.stdout.decode(errors="replace").split("\n"))[:300]
            raise FolderInvalid(f"The partition table cannot be made: sfdisk says {said}.")
        fd = file.fileno()
        layout = mbr.read(lambda offset, length: os.pread(fd, length, offset), size, dump.sector_size)
    return layout.table, layout.partitions


def rounded(size: int) -> int:
    """Up to a whole MiB."""
    return -(-size // _MIB) * _MIB


def no_content(disks: Iterable[ForeignDisk], folder: Path) -> None:
    """Raises FolderInvalid when no partition of any disk has content."""
    if not any(disk.contents for disk in disks):
        raise FolderInvalid(f"{folder} holds no partition's content: copy the whole folder.")
