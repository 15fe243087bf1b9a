"""What of a partition goes into an image: its used blocks, a header, every byte, or a refusal with advice."""

from __future__ import annotations

from dataclasses import dataclass, field

from imaging.disk import clean, lvm, ntfs, probe, usedmap
from imaging.disk.area import Area
from imaging.disk.device import Disk
from imaging.disk.lvmtext import LvmError
from imaging.errors import FilesystemDirty, FilesystemUnsupported
from imaging.options import CaptureOptions
from imaging.runs import merge_runs

#: mkswap's header: one page, with UUID, label and bad pages.
SWAP_HEADER = 4096
#: The first bytes of a file of Windows' memory, which the image holds as zeros: signatures of a hibernated
#: system and of a crash dump lie there, and Windows must not find those of what the target held before.
FORGOTTEN_HEAD = 64 << 10
#: Partition types whose content is a program or left to the firmware: small, and never a file system.
FIRMWARE_TYPES = {
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "9e1a2d38-c612-4316-aa26-8b49521e5a8b": "PowerPC boot",
}
_MODES = {"swap": "header", "lvm": "used"}
_REMEDIES = {
    "bitlocker": "switch BitLocker off and wait until it has decrypted (manage-bde -off), ",
    "luks": "",
    "mdraid": "capture it by its array's members on all disks, ",
}


@dataclass(slots=True)
class Taken:
    """``runs``: (start, length) on the disk; ``blank``: those of which the image holds zeros instead.

    ``capture`` is the manifest's word for it. ``notes`` are lines for people.
    """

    capture: str
    runs: list[tuple[int, int]] = field(default_factory=list)
    blank: list[tuple[int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def used(self) -> int:
        return sum(length for _, length in merge_runs(self.runs, gap=1))


def mode(kind: str) -> str:
    """How a file system of this kind is captured when nobody asks for anything else."""
    return "used" if kind in usedmap.TOOLS else _MODES.get(kind, "whole")


def take(
    disk: Disk, area: Area, found: probe.FileSystem, options: CaptureOptions, type_guid: str = ""
) -> Taken:
    """Decide what of ``area``, which holds ``found``, is captured.

    Raises FilesystemDirty, FilesystemUnsupported (both with what to do), ToolMissing, DiskError.
    """
    whole = Taken("whole", [(area.start, area.size)])
    if type_guid in FIRMWARE_TYPES:
        return whole
    if found.kind in usedmap.TOOLS or found.kind == "swap":
        read_at = area.reader(disk)
        if apart := clean.why_apart(found.kind, read_at):
            return _whole_or_refused(area, "unknown", f"{found.kind}: {apart}", options)
        if dirty := found.dirty or clean.why_dirty(found.kind, read_at):
            if "dirty" in options.whole:
                return whole
            raise FilesystemDirty(f"{area.name} ({found.kind}) cannot be captured, {dirty}; then try again.")
        if found.kind == "swap":
            return Taken("header", [(area.start, min(SWAP_HEADER, area.size))])
        if unmapped := usedmap.why_unmapped(found.kind, read_at, area.size):
            return Taken("whole", [(area.start, area.size)], notes=[f"taken whole: {unmapped}"])
        return _mapped(disk, area, found.kind, options)
    if found.kind == "lvm":
        return _physical_volume(disk, area, options)
    return _whole_or_refused(area, found.kind, found.kind, options)


def _whole_or_refused(area: Area, kind: str, said: str, options: CaptureOptions) -> Taken:
    if kind in options.whole:
        return Taken("whole", [(area.start, area.size)])
    what = {
        "luks": "is encrypted",
        "bitlocker": "is encrypted",
        "unknown": "holds nothing that is known",
    }.get(kind, "has no readable map")
    if said != kind:
        what = "cannot be understood alone"
    raise FilesystemUnsupported(
        f"{area.name} ({said}) {what}, so its used blocks cannot be told: {_REMEDIES.get(kind, '')}"
        f"name “{kind}” in the capture option “whole” to take every byte of it, "
        "or leave it out with the option “partitions”."
    )


def _mapped(disk: Disk, area: Area, kind: str, options: CaptureOptions) -> Taken:
    """The used blocks of a file system, Windows' memory aside."""
    taken = Taken("used")
    leave: list[tuple[int, int]] = []
    if kind == "ntfs" and options.exclude_windows_files:
        for name, data in sorted(ntfs.Volume(area.reader(disk)).files.items()):
            held = [(area.start + start, length) for start, length in data.runs if start >= 0]
            if held:
                taken.notes.append(f"{name} left out, {sum(length for _, length in held) >> 20} MiB")
                taken.blank += held
                leave += _behind(held, FORGOTTEN_HEAD)
    taken.blank.sort()
    taken.runs = usedmap.used_runs(disk, area, kind, sorted(leave))
    return taken


def _behind(runs: list[tuple[int, int]], skip: int) -> list[tuple[int, int]]:
    """``runs`` without their first ``skip`` bytes."""
    left = []
    for start, length in runs:
        step = min(skip, length)
        skip -= step
        if length > step:
            left.append((start + step, length - step))
    return left


def _physical_volume(disk: Disk, area: Area, options: CaptureOptions) -> Taken:
    """The used extents of an LVM physical volume; file systems in its plain volumes by their own maps."""
    try:
        held = lvm.read(area.reader(disk), area.size)
    except LvmError as error:
        return Taken("whole", [(area.start, area.size)], notes=[f"taken whole: {error}"])
    taken = Taken("used", [(area.start + start, length) for start, length in held.fixed if length])
    for volume in held.volumes:
        stretches = [(area.start + start, length) for start, length in volume.extents]
        if not volume.plain:
            taken.runs += stretches
            continue
        ((start, length),) = stretches
        inner = Area(f"{area.name}, volume {volume.name}", start, length)
        found = probe.probe(inner.reader(disk), length)
        # What we do not know is taken by its extents; what is locked or still at work, as elsewhere.
        if found.kind == "lvm" or (mode(found.kind) == "whole" and found.kind not in ("luks", "bitlocker")):
            taken.runs += stretches
            continue
        part = take(disk, inner, found, options)
        taken.runs += part.runs
        taken.blank += part.blank
        taken.notes.append(f"{volume.name}: {found.kind}, {part.used >> 20} of {length >> 20} MiB")
    taken.blank.sort()
    return taken
