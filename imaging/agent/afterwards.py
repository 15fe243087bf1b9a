"""What a deploy does to a disk after it was proved: sizes, then identities, then the firmware's boot entries.

The image is on the disk and was read back; from here on the disk is meant to differ from it. Each step says
on the console what it did; a step that fails ends the task with its code, and deploying again begins from the
image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from imaging.agent.bootentries import repair_entries
from imaging.agent.console import Console
from imaging.agent.disks import Disk, list_disks
from imaging.agent.i18n import gettext as _
from imaging.agent.progress import Progress
from imaging.chunks import write_exactly
from imaging.disk.device import Disk as OpenDisk
from imaging.disk.loop import loop_device
from imaging.errors import ResizeFailed
from imaging.manifest import Manifest, Partition, Runs
from imaging.options import DeployOptions
from imaging.placement import Placement
from imaging.resize import grow, moved, ntfs, shrink
from imaging.resize.identities import renew_identities
from imaging.resize.rejoin import rejoined


def afterwards(
    task: Mapping[str, Any],
    manifest: Manifest,
    placement: Placement,
    disk: Disk,
    console: Console,
    progress: Progress,
    *,
    number: int = 0,
    spill: int = -1,
    simulated: bool = False,
) -> tuple[Partition, ...]:
    """Fit the file systems of one deployed disk to their partitions, rename them if asked, mend boot entries.

    ``number`` says which disk of the manifest this is; ``spill`` is the open file that holds what lies behind
    the new end of ``placement.cut``. Returns the partitions as they are now. Raises ResizeFailed,
    IdentitiesFailed, ToolMissing, DiskError.
    """
    progress.enter("customise")
    options = DeployOptions.from_task(task.get("deploy"))
    image = manifest.disks[number]
    # Of a partition that was not captured we know nothing: what is there is not the image's.
    partitions = tuple(p for p in placement.partitions if placement.written(p.number) and p.capture != "none")
    with OpenDisk(disk.path, write=True, sector_size=image.sector_size) as opened:
        before = {p.number: p for p in image.partitions}
        used = placement.placed(image.runs)
        for p in partitions:
            progress.check()
            if placement.cut is not None and placement.cut.number == p.number:
                _shrink(opened, p, placement.cut.full, spill, used, console, progress)
            elif p.number in placement.grown:
                _grow(opened, p, before[p.number].size, console, progress)
        _moved(opened, before, partitions, console)
        opened.sync()
        if options.identities == "renew":
            if placement.only is None:
                partitions = _renew(opened, partitions, console, progress)
            else:
                console.say(_("Single partitions keep their identities: the disk's other systems know them."))
    if not simulated:
        _boot_entries(disk, image.sector_size, console, progress)
    return partitions


# --- sizes ---


def _grow(opened: OpenDisk, p: Partition, size: int, console: Console, progress: Progress) -> None:
    progress.message = _("Growing partition {number} ({filesystem}).").format(
        number=p.number, filesystem=p.filesystem
    )
    with _told(p, "grown"), _device(opened, p) as path:
        grow(path, p.filesystem, log=console.log)
        if p.filesystem == "ntfs":
            ntfs.copy_boot_sector(path)
    _resized("grown", p, size, console, progress)


def _shrink(
    opened: OpenDisk, p: Partition, full: int, spill: int, used: Runs, console: Console, progress: Progress
) -> None:
    progress.message = _("Shrinking partition {number} ({filesystem}).").format(
        number=p.number, filesystem=p.filesystem
    )
    with _told(p, "shrunk"):
        with rejoined(opened, p.start, p.size, spill, full, used) as path:
            shrink(path, p.filesystem, p.size, log=console.log)
        if p.filesystem == "ntfs":
            with _device(opened, p) as path:
                ntfs.copy_boot_sector(path)
    _resized("shrunk", p, full, console, progress)


def _resized(what: str, p: Partition, before: int, console: Console, progress: Progress) -> None:
    console.say(f"agent: {what} partition={p.number} filesystem={p.filesystem} from={before} to={p.size}")
    progress.afterwards.setdefault(what, {})[str(p.number)] = [before, p.size]


def _moved(
    opened: OpenDisk, before: Mapping[int, Partition], partitions: tuple[Partition, ...], console: Console
) -> None:
    """Tell FAT and NTFS volumes where they are now, and read it back: the proof was before. Raises DiskError,
    ResizeFailed.
    """
    written: list[tuple[Partition, int, bytes]] = []
    for p in partitions:
        if p.start == before[p.number].start or p.filesystem not in moved.KINDS:
            continue
        for at, data in moved.boot_sectors(opened.read_at, before[p.number], p, opened.sector_size):
            write_exactly(opened.fd, memoryview(data), at)
            written.append((p, at, data))
    if not written:
        return
    opened.sync()
    opened.drop_caches()
    for p, at, data in written:
        if opened.read_at(at, len(data)) != data:
            raise ResizeFailed(
                f"Partition {p.number} ({p.filesystem}) was not moved: its boot sector at byte {at} reads "
                "back wrong. Replace the disk or its cable."
            )
    numbers = ",".join(str(number) for number in sorted({p.number for p, _, _ in written}))
    console.say(f"agent: moved boot sectors partitions={numbers}")


# --- identities ---


def _renew(
    opened: OpenDisk, partitions: tuple[Partition, ...], console: Console, progress: Progress
) -> tuple[Partition, ...]:
    def tell(line: str) -> None:
        progress.check()
        progress.message = _("New identities: {what}.").format(what=line)

    done = renew_identities(opened, partitions, log=console.log, tell=tell)
    files = sum(len(names) for names in done.files.values())
    kept = ",".join(str(number) for number in sorted(done.kept)) or "none"
    console.say(
        f"agent: identities renewed={len(partitions) - len(done.kept)} kept={kept} "
        f"disk={'kept' if done.disk_kept else 'renewed'} files={files}"
    )
    for number, reason in sorted(done.kept.items()):
        console.say(
            _("Partition {number} keeps its identities: {reason}.").format(number=number, reason=reason)
        )
    progress.afterwards["identities"] = {
        "kept": {str(number): reason for number, reason in done.kept.items()},
        "disk": "kept" if done.disk_kept else "renewed",
        "files": {str(number): names for number, names in done.files.items()},
    }
    return done.partitions


# --- firmware ---


def _boot_entries(disk: Disk, sector_size: int, console: Console, progress: Progress) -> None:
    others = [other.path for other in list_disks()]
    done = repair_entries(disk.path, sector_size, others, console.log)
    if done is not None:
        present = ",".join(done.present) or "none"
        console.say(
            f"agent: boot entries created={len(done.create)} deleted={len(done.delete)} present={present}"
        )
        progress.afterwards["boot_entries"] = {
            "created": [loader.name for loader in done.create],
            "deleted": list(done.delete),
            "present": list(done.present),
        }


# --- shared ---


@contextlib.contextmanager
def _device(opened: OpenDisk, p: Partition) -> Iterator[str]:
    with loop_device(
        opened.fd, offset=p.start, size=p.size, sector_size=opened.sector_size, write=True
    ) as path:
        yield path


@contextlib.contextmanager
def _told(p: Partition, what: str) -> Iterator[None]:
    """Name the partition in whatever a tool says; the image itself is right and can be deployed again."""
    try:
        yield
    except ResizeFailed as error:
        raise ResizeFailed(f"Partition {p.number} ({p.filesystem}) was not {what}: {error}") from error
