"""Which blocks a file system uses, as partclone knows it (ddrescue map: ``0xPOS 0xSIZE +|?``)."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator

from imaging.disk.device import Disk
from imaging.disk.loop import loop_device
from imaging.errors import DiskError, FilesystemDirty, ToolMissing
from imaging.manifest import Partition

#: File system to partclone's programs for it, in order of preference.
TOOLS = {
    "ext2": ("partclone.extfs", "partclone.ext4"),
    "ext3": ("partclone.extfs", "partclone.ext4"),
    "ext4": ("partclone.extfs", "partclone.ext4"),
    "fat": ("partclone.fat", "partclone.vfat"),
    "ntfs": ("partclone.ntfs",),
}
#: Runs are widened to whole blocks of this size: no disk writes less at a time.
BLOCK = 4096
_TIMEOUT = 1800  # reading the bitmap of a full 16 TB disk


def parse_map(lines: Iterable[str]) -> Iterator[tuple[int, int]]:
    """The used (start, length) of a ddrescue map; raises DiskError when it is not one."""
    positioned = False
    for line in lines:
        fields = line.split("#")[0].split()
        if not fields:
            continue
        if not positioned:  # the first line tells where the program stood, not a block
            positioned = True
            continue
        try:
            start, length, status = int(fields[0], 16), int(fields[1], 16), fields[2]
        except (IndexError, ValueError):
            raise DiskError("The map of used blocks cannot be read: is this partclone 0.3?") from None
        if start < 0 or length < 0 or status not in ("+", "?"):
            raise DiskError("The map of used blocks cannot be read: is this partclone 0.3?")
        if status == "+" and length:
            yield start, length


def used_runs(disk: Disk, partition: Partition) -> list[tuple[int, int]]:
    """Used (start, length) on the disk, of a partition whose file system is in ``TOOLS``; blocks are whole.

    The file system is looked at through a read-only loop device. Raises FilesystemDirty when partclone
    refuses it, ToolMissing, DiskError.
    """
    start, end = partition.start, partition.start + partition.size
    with tempfile.TemporaryDirectory(prefix="pxeboot-map-") as directory:
        path = os.path.join(directory, "map")
        with loop_device(disk.fd, offset=start, size=partition.size, sector_size=disk.sector_size) as device:
            _run(partition, device, path, os.path.join(directory, "log"))
        with open(path, encoding="ascii", errors="replace") as lines:
            runs = list(parse_map(lines))
    # Boot code lies before an ext superblock; the copy of NTFS's boot sector in the partition's last sector.
    runs.append((start, BLOCK))
    if partition.filesystem == "ntfs":
        runs.append((end - BLOCK, BLOCK))
    whole = []
    for at, length in runs:
        first = start + (at - start) // BLOCK * BLOCK
        last = min(end, start + -(-(at + length - start) // BLOCK) * BLOCK)
        if first < start or last <= first:
            raise DiskError(f"The map of partition {partition.number} points outside it.")
        whole.append((first, last - first))
    return whole


def _run(partition: Partition, device: str, map_path: str, log_path: str) -> None:
    arguments = [
        "-D",
        f"--offset_domain={partition.start}",
        "-s",
        device,
        "-O",
        map_path,
        "-L",
        log_path,
        "-q",
    ]
    for tool in TOOLS[partition.filesystem]:
        try:
            result = subprocess.run(
                [tool, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LC_ALL": "C", "TERM": "dumb"},
                timeout=_TIMEOUT,
                check=False,
            )
        except FileNotFoundError:
            continue
        except subprocess.TimeoutExpired:
            raise DiskError(
                f"Reading the map of partition {partition.number} took over {_TIMEOUT} s."
            ) from None
        if result.returncode == 0 and os.path.exists(map_path):
            return
        lines = [line.strip() for line in result.stdout.decode(errors="replace").splitlines() if line.strip()]
        raise FilesystemDirty(
            f"Partition {partition.number} ({partition.filesystem}) cannot be captured: start that system, "
            f"check the file system and shut it down fully ({' / '.join(lines[-3:])[:300]})."
        )
    raise ToolMissing(f"{TOOLS[partition.filesystem][0]} is not installed: install the partclone package.")
