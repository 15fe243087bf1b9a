"""A version's disks as files for other programs: written by the deploy core, verified, then given their name.

Where it can be done, the core writes straight into the container (imaging.exchange.qemu.exported) and no
second copy is needed; a streamOptimized VMDK, which is written from front to back, comes from a raw file.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from imaging.deploy import Fetch, deploy, verify
from imaging.errors import Cancelled, DiskError, VerifyFailed
from imaging.exchange import qemu
from imaging.exchange.errors import ExchangeError, NoRoom
from imaging.manifest import Manifest
from imaging.pipeline import Progress

#: Name of a format to (kind of file, QEMU's options for a new one, whether it can be written in any order).
FORMATS = {
    "raw": ("raw", "", True),
    "qcow2": ("qcow2", "", True),
    "vmdk": ("vmdk", "subformat=streamOptimized", False),
    "vmdk-sparse": ("vmdk", "subformat=monolithicSparse", True),
    "vhdx": ("vhdx", "", True),
}
#: Beside the content: a container's own tables, and room for the rest of the machine.
_SPARE = 64 << 20


def targets(manifest: Manifest, path: Path, kind: str) -> list[Path]:
    """One file per disk: ``path`` itself, or ``NAME-1.ENDING``, ``NAME-2.ENDING``, …"""
    count = len(manifest.disks)
    ending = FORMATS[kind][0]
    name = path if path.suffix else path.with_name(f"{path.name}.{ending}")
    if count == 1:
        return [name]
    return [name.with_name(f"{name.stem}-{number}{name.suffix}") for number in range(1, count + 1)]


def export(
    manifest: Manifest,
    fetch: Fetch,
    path: Path,
    kind: str,
    progress: Progress,
    *,
    direct: bool | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Path]:
    """Write every disk of a version as a file of ``kind`` (a key of ``FORMATS``); returns the files.

    ``fetch`` gives the stored frame of a chunk. Stages told, per disk: ``write``, ``convert``, ``verify``, in
    bytes. ``direct`` says whether to write straight into the container (None = when it can be done). A file
    appears under its name only when it was read back whole. Raises ExchangeError (no-room, qemu-failed),
    VerifyFailed, ChunkMissing, ChunkInvalid, DiskError, Cancelled.
    """

    def told(stage: str, done: int, total: int) -> None:
        if stop():
            raise Cancelled("The export was stopped; nothing of it was kept.")
        progress(stage, done, total)

    files = targets(manifest, path, kind)
    for file in files:
        if file.exists() or file.is_symlink():
            raise ExchangeError(f"{file} exists already: remove it, or choose another name.")
    direct = FORMATS[kind][2] and (qemu.can_export() if direct is None else direct)
    # By way of a raw file: the largest disk is there twice for a while.
    twice = 0 if direct or kind == "raw" else max(disk.used for disk in manifest.disks)
    check_room(path.parent, manifest.used + twice)
    done: list[Path] = []
    try:
        for number, file in enumerate(files):
            with partial_file(file) as partial:
                if kind == "raw":
                    _raw(manifest, number, fetch, partial, told)
                elif direct:
                    _straight(manifest, number, fetch, partial, kind, told)
                else:
                    _by_raw(manifest, number, fetch, partial, kind, told)
            done.append(file)
    except BaseException:
        for file in done:
            file.unlink(missing_ok=True)
        raise
    return files


def check_room(folder: Path, needed: int) -> None:
    """Raises NoRoom when ``folder`` has less than ``needed`` bytes and some to spare, ExchangeError."""
    needed += _SPARE
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ExchangeError(f"{folder} cannot be used: {error.strerror}.") from error
    if free < needed:
        raise NoRoom(str(folder), needed, free)


@contextlib.contextmanager
def partial_file(file: Path, needed: int = 0) -> Iterator[Path]:
    """A name beside ``file`` to write to; it gets the right name when the block ends well.

    ``needed`` bytes must be free there. Raises NoRoom, ExchangeError.
    """
    check_room(file.parent, needed)
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        fd = os.open(partial, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        os.chmod(partial, 0o640)
        # link() and not rename(): what appeared there meanwhile is not ours to overwrite.
        os.link(partial, file)
    except OSError as error:
        raise ExchangeError(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)


def _blank(path: Path, size: int) -> None:
    with open(path, "xb") as file:
        file.truncate(size)


def _raw(
    manifest: Manifest, number: int, fetch: Fetch, path: Path, told: Progress, *, check: bool = True
) -> None:
    _blank(path, manifest.disks[number].size)
    deploy(path, manifest, fetch, told, disk=number, full=True, check=check)


def _straight(manifest: Manifest, number: int, fetch: Fetch, path: Path, kind: str, told: Progress) -> None:
    driver, options, _ = FORMATS[kind]
    qemu.create(path, driver, manifest.disks[number].size, options)
    with qemu.exported(path, driver, write=True) as disk:
        deploy(disk, manifest, fetch, told, disk=number, full=True, check=False)
    # Opened anew: what is read now is what another program will find in the file.
    _verify(manifest, number, path, driver, told)


def _by_raw(manifest: Manifest, number: int, fetch: Fetch, path: Path, kind: str, told: Progress) -> None:
    driver, options, _ = FORMATS[kind]
    raw = path.with_name(f"{path.name}.raw")
    raw.unlink(missing_ok=True)
    try:
        seen = qemu.can_export()
        # What is read back in the end need not be read back on the way.
        _raw(manifest, number, fetch, raw, told, check=not seen)
        qemu.convert(raw, "raw", path, driver, told, total=manifest.disks[number].used, options=options)
        if seen:
            _verify(manifest, number, path, driver, told)
        else:
            qemu.compare(raw, path, driver)
    finally:
        raw.unlink(missing_ok=True)


def _verify(manifest: Manifest, number: int, path: Path, driver: str, told: Progress) -> None:
    qemu.look(path, driver)
    with qemu.exported(path, driver) as disk:
        size, wanted = os.stat(disk).st_size, manifest.disks[number].size
        if size != wanted:
            raise DiskError(f"{path.name} shows a disk of {size} bytes, it should have {wanted}.")
        result = verify(disk, manifest, told, disk=number)
    if not result.ok:
        raise VerifyFailed(
            f"{path.name} does not read back as it was written ({len(result.bad)} chunks differ): "
            "check the disk it lies on."
        )
