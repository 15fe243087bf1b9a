"""Image folders as FOG and Clonezilla make them: the same programs with the same arguments, on disk files.

The commands are those of FOS (lib/funcs.sh: saveGRUB, savePartition, uploadFormat) and of Clonezilla
(ocs-functions), with a partition's file in the place of its device.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.imaging.disks import run

TOOLS = {"ext4": "extfs", "ntfs": "ntfs", "vfat": "fat32", "xfs": "xfs", "raw": "imager"}
MIB = 1 << 20


class Part:
    """One partition of a test disk: its number, place, partclone's name for it, and a file with its bytes."""

    def __init__(self, disk: Path, number: int, start: int, size: int, kind: str, scratch: Path) -> None:
        self.number, self.start, self.size, self.kind = number, start, size, kind
        self.path = scratch / f"{disk.stem}-part{number}"
        with open(disk, "rb") as source, open(self.path, "wb") as target:
            source.seek(start)
            target.write(source.read(size))


def piped(command: list[str | Path], packer: list[str], output: Path) -> None:
    """``command | packer > output``, both of which must succeed."""
    with open(output, "wb") as file:
        first = subprocess.Popen(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        second = subprocess.run(packer, stdin=first.stdout, stdout=file, check=False)
        assert first.stdout is not None
        first.stdout.close()
        said = first.stderr.read().decode(errors="replace") if first.stderr else ""
        assert first.wait() == 0, said
        assert second.returncode == 0


def partclone(part: Part, *arguments: str, log: Path) -> list[str | Path]:
    return [f"partclone.{TOOLS[part.kind]}", "-c", "-s", part.path, "-o", "-", "-L", log, "-q", *arguments]


def dump(disk: Path, name: str) -> str:
    """``sfdisk -d`` as it looks for a disk ``/dev/NAME``."""
    middle = "p" if name[-1].isdigit() else ""
    return (
        run("sfdisk", "-d", disk)
        .replace(f"{disk}", f"/dev/{name}{middle}")
        .replace(f"/dev/{name}{middle}\n", f"/dev/{name}\n")
    )


def fog(
    folder: Path,
    disk: Path,
    parts: Mapping[int, Part],
    *,
    swaps: Mapping[int, str] | None = None,
    packer: tuple[str, ...] = ("zstdmt", "-q", "--rsyncable", "--ultra", "-3"),
    split: int = 0,
    gpt: bool = True,
) -> Path:
    """A folder of type "multiple partitions, single disk"."""
    folder.mkdir()
    if gpt:
        run("sgdisk", "-b", folder / "d1.mbr", disk)
    else:
        run("dd", f"if={disk}", f"of={folder / 'd1.mbr'}", "count=2048", "bs=512", "status=none")
    (folder / "d1.partitions").write_text(dump(disk, "sda"))
    (folder / "d1.original.swapuuids").write_text(
        "".join(f"{number} {uuid}\n" for number, uuid in (swaps or {}).items())
    )
    for number, part in parts.items():
        image = folder / f"d1p{number}.img"
        checks = () if part.kind == "raw" else ("-a0",)
        piped(partclone(part, *checks, log=folder.parent / "log"), list(packer), image)
        if split:
            run("split", "-a", "3", "-d", "-b", str(split), image, f"{image}.")
            image.unlink()
            Path(f"{image}.000").rename(image)
    return folder


def clonezilla(
    folder: Path,
    disk: Path,
    parts: Mapping[int, Part],
    *,
    name: str = "sda",
    swaps: Mapping[int, tuple[str, str]] | None = None,
    packer: tuple[str, ...] = ("zstdmt", "-q", "-3"),
    ending: str = "zst",
    split: int = 0,
    gpt: bool = True,
    checks: tuple[str, ...] = (),
) -> Path:
    """A folder as savedisk makes it."""
    folder.mkdir()
    middle = "p" if name[-1].isdigit() else ""
    (folder / f"{name}-pt.sf").write_text(dump(disk, name))
    sectors = disk.stat().st_size // 512
    (folder / f"{name}-pt.parted").write_text(
        f"Model: ATA DISK (scsi)\nDisk /dev/{name}: {sectors}s\nSector size (logical/physical): 512B/512B\n"
    )
    if gpt:
        run("dd", f"if={disk}", f"of={folder / f'{name}-gpt-1st'}", "bs=512", "count=34", "status=none")
        run("sgdisk", "-b", folder / f"{name}-gpt.gdisk", disk)
    else:
        hidden = folder / f"{name}-hidden-data-after-mbr"
        run("dd", f"if={disk}", f"of={hidden}", "skip=1", "bs=512", "count=2047", "status=none")
    run("dd", f"if={disk}", f"of={folder / f'{name}-mbr'}", "bs=512", "count=1", "status=none")
    for number, part in parts.items():
        if part.kind == "raw":
            image = folder / f"{name}{middle}{number}.dd-img.{ending}"
            piped(["cat", part.path], list(packer), image)
        else:
            image = folder / f"{name}{middle}{number}.{part.kind}-ptcl-img.{ending}"
            piped(partclone(part, *checks, log=folder.parent / "log"), list(packer), image)
        if split:
            run("split", "-a", "2", "-b", str(split), image, f"{image}.")
            image.unlink()
    for number, (uuid, label) in (swaps or {}).items():
        (folder / f"swappt-{name}{middle}{number}.info").write_text(f'UUID="{uuid}"\nLABEL="{label}"\n')
    numbers = sorted([*parts, *(swaps or {})])
    (folder / "parts").write_text(" ".join(f"{name}{middle}{number}" for number in numbers) + "\n")
    (folder / "disk").write_text(f"{name}\n")
    return folder
