"""New GUIDs and UUIDs for a deployed disk, and every reference to them that we know how to change.

Order: look what must keep its own (Windows, initramfs images that have UUIDs built in), rename file
systems, exchange the names in configuration files, and write the partition table last. Cut off anywhere, the
next deploy begins again from the image, whose names are the old ones throughout.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from imaging.chunks import write_exactly
from imaging.disk.device import Disk
from imaging.disk.loop import loop_device
from imaging.disk.mbr_render import with_signature
from imaging.disk.namespace import in_own_namespace
from imaging.disk.probe import probe
from imaging.disk.table import read_table, write_table
from imaging.errors import DiskError, IdentitiesFailed
from imaging.resize import renew
from imaging.resize.fat import Fat, FatError
from imaging.resize.initramfs import resume_archive, resume_setting
from imaging.resize.look import MOUNTABLE, look, mount_options, patterns_for
from imaging.resize.mounts import mounted
from imaging.resize.references import LINUX_FILES, changes, find_files, read_file, replacer, rewrite_tree
from imaging.resize.tools import Log, no_log
from imaging.tables import MbrTable, Partition

#: A file of a system partition that may name UUIDs: configuration, unsigned GRUB images.
_MAX_ESP_FILE = 16 << 20
_INITRAMFS = ("boot/initrd.img-*", "initrd.img-*")


@dataclass
class Renewed:
    """What was done: old name -> new name, sentences on what stayed, files changed by partition number."""

    names: dict[str, str] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)
    disk_kept: bool = False
    files: dict[int, list[str]] = field(default_factory=dict)
    partitions: tuple[Partition, ...] = ()
    """The partitions with their new names."""


def renew_identities(
    disk: Disk, partitions: tuple[Partition, ...], *, log: Log = no_log, tell: Log = no_log
) -> Renewed:
    """Give the disk and the ``partitions`` (as they lie on it now) new names; ``tell`` hears each step.

    Blocks for minutes when there is much Btrfs metadata. Raises IdentitiesFailed, ResizeFailed, ToolMissing,
    DiskError.
    """
    device = partial(_device, disk)
    done = Renewed(partitions=partitions)
    findings = look(partitions, device, lambda p: partial(_read, disk, p), log)
    done.kept, done.disk_kept = findings.keep, findings.windows
    resume: dict[str, str] = {}
    for at, p in enumerate(partitions):
        if p.number in findings.keep:
            continue
        tell(f"partition {p.number}: {p.filesystem}")
        old = _uuid(disk, p)
        with device(p, True) as path:
            changed = renew(path, p.filesystem, log=log)
        if changed and old:
            # As it stands there now: tools write serial numbers in their own way.
            new = _uuid(disk, p)
            if not new or new == old:
                raise IdentitiesFailed(
                    f"Partition {p.number} ({p.filesystem}) still has its old UUID: "
                    "deploy it with identities kept."
                )
            done.names[old] = new
            done.partitions = (*done.partitions[:at], replace(p, uuid=new), *done.partitions[at + 1 :])
            if p.filesystem == "swap":
                resume[old] = new
    write_table, names = _new_table(disk, done)
    done.names |= names
    change = replacer(done.names)
    for p in partitions:
        if p.filesystem in MOUNTABLE:
            files = in_own_namespace(partial(_rewrite_linux, device, p, change, resume, log))
        elif p.filesystem == "fat":
            files = _rewrite_fat(disk, p, change, log)
        else:
            continue
        if files:
            done.files[p.number] = files
            log(f"partition {p.number}: changed {', '.join(files)}")
    disk.sync()
    write_table()
    return done


@contextlib.contextmanager
def _device(disk: Disk, p: Partition, write: bool) -> Iterator[str]:
    with loop_device(disk.fd, offset=p.start, size=p.size, sector_size=disk.sector_size, write=write) as path:
        yield path


def _read(disk: Disk, p: Partition, offset: int, length: int) -> bytes:
    if offset < 0 or offset + length > p.size:
        raise FatError("a place outside the partition")
    return disk.read_at(p.start + offset, length)


def _uuid(disk: Disk, p: Partition) -> str:
    disk.drop_caches()  # a loop device has caches of its own; they were written when it was closed
    return probe(lambda offset, length: disk.read_at(p.start + offset, length), p.size).uuid


# --- the partition table ---


def _new_table(disk: Disk, done: Renewed) -> tuple[Callable[[], None], dict[str, str]]:
    """(what writes the new table, names that change with it); nothing is written here."""
    table, partitions = read_table(disk)
    if isinstance(table, MbrTable) and done.kept:
        done.disk_kept = True  # one name for all of them: who keeps one, keeps all
        return (lambda: None), {}
    if isinstance(table, MbrTable):
        new = int.from_bytes(os.urandom(4), "little") or 1
        names = _partuuids(table, partitions, new)
        return partial(write_table, disk, with_signature(table, new), partitions), names
    if table is None:
        return (lambda: None), {}
    names = {p.unique_guid: str(uuid.uuid4()) for p in partitions if p.number not in done.kept}
    renamed = tuple(replace(p, unique_guid=names.get(p.unique_guid, p.unique_guid)) for p in partitions)
    guids = {p.number: p.unique_guid for p in renamed}
    done.partitions = tuple(
        replace(p, unique_guid=guids.get(p.number, p.unique_guid)) for p in done.partitions
    )
    if not done.disk_kept:
        names[table.guid] = str(uuid.uuid4())
        table = replace(table, guid=names[table.guid])
    return partial(write_table, disk, table, renamed), names


def _partuuids(table: MbrTable, partitions: Iterable[Partition], new: int) -> dict[str, str]:
    """PARTUUID as Linux makes it of an MBR (block/partitions/msdos.c, set_info: "%08x-%02x")."""
    if not table.signature:
        return {}
    return {f"{table.signature:08x}-{p.number:02x}": f"{new:08x}-{p.number:02x}" for p in partitions}


# --- references ---


def _rewrite_linux(
    device: Callable[[Partition, bool], contextlib.AbstractContextManager[str]],
    p: Partition,
    change: Callable[[bytes], bytes],
    resume: dict[str, str],
    log: Log,
) -> list[str]:
    kind, options = mount_options(p.filesystem, write=True)
    with device(p, True) as path, mounted(path, kind, write=True, options=options) as directory:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            before = _resume_from(root, p, resume)
            files = rewrite_tree(root, patterns_for(p.filesystem, LINUX_FILES), change)
            if before:
                files += _append_resume(root, p, before)
            return files
        except OSError as error:
            raise IdentitiesFailed(
                f"The names in partition {p.number} could not be changed ({error.strerror}): is it full? "
                "Deploy it with identities kept."
            ) from error
        finally:
            os.close(root)


def _resume_from(root: int, p: Partition, resume: dict[str, str]) -> str:
    """The new UUID of the swap area this system resumes from; "" when its initramfs needs no change."""
    if not resume:
        return ""
    boot_only = next(find_files(root, patterns_for(p.filesystem, ("etc/fstab",))), None) is None
    texts = [
        read_file(directory, name).decode("utf-8", "replace")
        for _, directory, name in find_files(
            root,
            patterns_for(
                p.filesystem, ("etc/initramfs-tools/initramfs.conf", "etc/initramfs-tools/conf.d/*")
            ),
        )
    ]
    if not texts and not boot_only:
        return ""  # no initramfs-tools
    setting = resume_setting(texts).removeprefix("UUID=").lower()
    if setting in resume:
        return resume[setting]
    # Not set: initramfs-tools took the largest swap area, and of one we know which that is.
    return next(iter(resume.values())) if setting in ("", "auto") and len(resume) == 1 else ""


def _append_resume(root: int, p: Partition, new: str) -> list[str]:
    changed = []
    for path, directory, name in find_files(root, patterns_for(p.filesystem, _INITRAMFS)):
        try:
            fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            if error.errno == errno.EROFS:  # a read-only snapshot
                continue
            raise
        try:
            os.write(fd, resume_archive(new, os.fstat(fd).st_size))
            os.fsync(fd)
        finally:
            os.close(fd)
        changed.append(path)
    return changed


def _rewrite_fat(disk: Disk, p: Partition, change: Callable[[bytes], bytes], log: Log) -> list[str]:
    """In place, without the kernel: names are exchanged for others of the same length."""
    read_at = partial(_read, disk, p)
    changed = []
    try:
        system = Fat(read_at)
        for entry in system.walk():
            if entry.directory or not 0 < entry.size <= _MAX_ESP_FILE:
                continue
            before = system.read(entry, _MAX_ESP_FILE)
            after = change(before)
            if after == before:
                continue
            places = list(system.extents(entry))
            for at, piece in changes(before, after):
                for offset, part in _spread(places, at, piece):
                    write_exactly(disk.fd, memoryview(part), p.start + offset)
            changed.append(entry.path)
    except FatError as error:
        log(f"partition {p.number}: FAT file system that cannot be read: {error}")
    except DiskError as error:
        raise IdentitiesFailed(f"Partition {p.number} could not be changed: {error}") from error
    return changed


def _spread(extents: list[tuple[int, int]], at: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Bytes at a file's offset ``at``, as (place, bytes) over its extents."""
    for offset, length in extents:
        if 0 <= at < length and data:
            piece, data = data[: length - at], data[length - at :]
            yield offset + at, piece
            at = length  # the rest begins with the next extent
        at -= length
