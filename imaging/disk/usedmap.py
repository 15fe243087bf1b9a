"""Which blocks a file system uses: by partclone's map (ddrescue: ``0xPOS 0xSIZE +|?``), with mistrust.

The map is compared with what the file system itself says is used, and widened to what a map leaves out but a
checker or a firmware reads: boot areas and copies of superblocks.
"""

import os
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Iterator

from imaging.disk import fat, ntfs
from imaging.disk.area import Area
from imaging.disk.device import Disk
from imaging.disk.gpt import ReadAt
from imaging.disk.part import readable
from imaging.errors import DiskError, FilesystemDirty, ToolMissing

_EXT = ("partclone.extfs", "partclone.ext4")
#: File system to partclone's programs for it, in order of preference.
TOOLS = {
    "ext2": _EXT,
    "ext3": _EXT,
    "ext4": _EXT,
    "xfs": ("partclone.xfs",),
    "btrfs": ("partclone.btrfs",),
    "f2fs": ("partclone.f2fs",),
    "fat": (),  # read here
    "exfat": ("partclone.exfat",),
    "ntfs": ("partclone.ntfs",),
    "hfsplus": ("partclone.hfsp", "partclone.hfsplus"),
}
#: Runs are widened to whole blocks of this size: no disk writes less at a time.
BLOCK = 4096
_TIMEOUT = 1800  # reading the bitmap of a full 16 TB disk
_KIB, _GIB = 1 << 10, 1 << 30


def why_unmapped(kind: str, read_at: ReadAt, size: int) -> str:
    """Why no map of this clean file system can be had although its kind is in ``TOOLS``; "" when it can."""
    if kind == "f2fs":
        if struct.unpack("<I", read_at(1024 + 8, 4))[0] != 9:
            return "partclone reads F2FS only with sectors of 512 bytes"
        if size < 100 << 20:
            return "partclone reads F2FS only from 100 MiB on"
    return ""


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


def used_runs(
    disk: Disk, area: Area, kind: str, leave: Iterable[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """Used (start, length) on the disk of a file system whose ``kind`` is in ``TOOLS``; blocks are whole.

    It is looked at through a read-only loop device. ``leave`` are (start, length) on the disk, ascending,
    that are not wanted although they are used. Raises FilesystemDirty when partclone refuses the file system
    or its map says less than the file system does; ToolMissing, DiskError.
    """
    runs = list(_mapped(disk, area, kind) if TOOLS[kind] else _read_here(disk, area))
    read_at = area.reader(disk)
    found, said = sum(length for _, length in runs), least(kind, read_at)
    if found < said:
        raise FilesystemDirty(
            f"{area.name} ({kind}) cannot be captured: it says that {said} bytes are used, but only {found} "
            "can be found; check the file system, then try again."
        )
    if leave:
        runs = list(without(runs, leave))
    for start, length in margins(kind, read_at, area.size):
        runs.append((area.start + start, min(length, area.size - start)))
    return [_whole_blocks(area, start, length) for start, length in runs]


def _mapped(disk: Disk, area: Area, kind: str) -> Iterator[tuple[int, int]]:
    with tempfile.TemporaryDirectory(prefix="pxeboot-map-") as directory:
        path = os.path.join(directory, "map")
        with readable(disk, area.start, area.size) as device:
            _run(area, kind, device, path, os.path.join(directory, "log"))
        with open(path, encoding="ascii", errors="replace") as lines:
            for start, length in parse_map(lines):
                yield area.start + start, length


def _read_here(disk: Disk, area: Area) -> Iterator[tuple[int, int]]:
    for start, length in fat.Fat(area.reader(disk)).used_runs():
        yield area.start + start, length


def _whole_blocks(area: Area, start: int, length: int) -> tuple[int, int]:
    first = area.start + (start - area.start) // BLOCK * BLOCK
    last = min(area.end, area.start + -(-(start + length - area.start) // BLOCK) * BLOCK)
    if first < area.start or last <= first:
        raise DiskError(f"The map of {area.name} points outside it.")
    return first, last - first


def without(runs: Iterable[tuple[int, int]], leave: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """``runs`` minus ``leave``; both are (start, length), ascending and without overlaps."""
    cuts = iter(leave)
    cut = next(cuts, None)
    for start, length in runs:
        end = start + length
        while cut is not None and cut[0] < end:
            if cut[0] > start:
                yield start, cut[0] - start
            start = max(start, sum(cut))
            if start >= end:
                break  # this cut may reach into the next run
            cut = next(cuts, None)
        if start < end:
            yield start, end - start


def margins(kind: str, read_at: ReadAt, size: int) -> Iterator[tuple[int, int]]:
    """(start, length) from the partition's start that belong to the file system, whatever its map says."""
    yield 0, BLOCK  # boot code before an ext superblock, boot sectors
    if kind == "ntfs":
        # The copy of the boot sector lies behind the volume's last sector: mostly the partition's last one.
        place = ntfs.Volume(read_at).size
        if place < size:
            yield place, 1
        yield size - 1, 1
    elif kind == "btrfs":
        for place in (64 * _KIB, 64 * _KIB * _KIB, 256 * _GIB):  # superblock and its mirrors
            if place + BLOCK <= size:
                yield place, BLOCK
    elif kind == "exfat":
        yield 0, 24 << read_at(108, 1)[0] % 16  # main and backup boot region, 12 sectors each
    elif kind == "f2fs":
        yield 0, 2 * BLOCK
    elif kind == "hfsplus":
        yield size - 1024, 1024  # the copy of the volume header


def least(kind: str, read_at: ReadAt) -> int:
    """How many bytes the file system's own figures call used; 0 when it does not tell. Raises DiskError."""
    if kind.startswith("ext"):
        sb = read_at(1024, 1024)
        blocks, free = struct.unpack_from("<I", sb, 4)[0], struct.unpack_from("<I", sb, 12)[0]
        size, features = struct.unpack_from("<I", sb, 24)[0] % 16, struct.unpack_from("<I", sb, 100)[0]
        if struct.unpack_from("<I", sb, 96)[0] & 0x80:  # 64bit
            blocks += struct.unpack_from("<I", sb, 336)[0] << 32
            free += struct.unpack_from("<I", sb, 344)[0] << 32
        return 0 if features & 0x200 else (blocks - free) << 10 + size  # bigalloc counts otherwise
    if kind == "xfs":
        size, blocks = struct.unpack(">IQ", read_at(4, 12))
        free = struct.unpack(">Q", read_at(144, 8))[0]
        return int((blocks - free) * size)
    if kind == "btrfs":
        return int(struct.unpack("<Q", read_at(65536 + 120, 8))[0])
    if kind == "exfat":
        percent, shift = read_at(112, 1)[0], sum(read_at(108, 2)) % 64
        clusters = struct.unpack("<I", read_at(92, 4))[0]
        return percent * clusters // 100 << shift if percent <= 100 else 0
    if kind == "hfsplus":
        size, blocks, free = struct.unpack(">III", read_at(1024 + 40, 12))
        return int((blocks - free) * size)
    return ntfs.Volume(read_at).used_bytes if kind == "ntfs" else 0


def _run(area: Area, kind: str, device: str, map_path: str, log_path: str) -> None:
    for tool in TOOLS[kind]:
        try:
            result = subprocess.run(
                # -f 0: its progress thread, which it starts even when it is to be quiet (-q) and waits for in
                # the end, sleeps so many seconds at a time: 2 unless told otherwise, for each partition.
                [tool, "-D", "-s", device, "-O", map_path, "-L", log_path, "-q", "-f", "0"],
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
            raise DiskError(f"Reading the map of {area.name} took over {_TIMEOUT} s.") from None
        if result.returncode == 0 and os.path.exists(map_path):
            return
        lines = [line.strip() for line in result.stdout.decode(errors="replace").splitlines() if line.strip()]
        raise FilesystemDirty(
            f"{area.name} ({kind}) cannot be captured: start that system, check the file system and shut it "
            f"down fully ({' / '.join(lines[-3:])[:300]})."
        )
    raise ToolMissing(f"{TOOLS[kind][0]} is not installed: install the partclone package.")
