"""A virtual machine's disk file becomes a version: looked at, opened read-only, captured like any disk."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from imaging.capture import Missing, Upload, capture
from imaging.chunks import DEFAULT_LEVEL
from imaging.exchange import qemu
from imaging.exchange.errors import NoRoom
from imaging.manifest import Manifest
from imaging.options import CaptureOptions
from imaging.pipeline import Progress, no_progress


def read(
    path: Path,
    kind: str,
    *,
    missing: Missing,
    upload: Upload,
    work: Path,
    progress: Progress = no_progress,
    level: int = DEFAULT_LEVEL,
    tell: Callable[[str], None] = lambda sentence: None,
    options: CaptureOptions = CaptureOptions(),
    direct: bool | None = None,
) -> Manifest:
    """Capture the disk in a file of ``kind`` (imaging.exchange.containers.DRIVERS).

    ``work`` is where a raw copy may go for a while, when the file cannot be shown as a disk (``direct``,
    None = find out). Stages told: ``convert`` (only then), ``scan``, ``upload``. Raises ContainerRefused,
    PathRefused, QemuFailed, NoRoom, and what capture raises.
    """
    size = qemu.look(path, kind)
    with _opened(path, kind, size, work, progress, direct) as disk:
        return capture(
            disk,
            missing=missing,
            upload=upload,
            progress=progress,
            level=level,
            tell=tell,
            options=options,
        )


@contextlib.contextmanager
def _opened(
    path: Path, kind: str, size: int, work: Path, progress: Progress, direct: bool | None
) -> Iterator[Path]:
    if kind == "raw":
        yield path
        return
    if qemu.can_export() if direct is None else direct:
        with qemu.exported(path, kind) as disk:
            yield disk
        return
    needed = qemu.measure(path, kind)
    free = shutil.disk_usage(work).free
    if free < needed:
        raise NoRoom(str(work), needed, free)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=work) as directory:
        raw = Path(directory) / "disk.raw"
        qemu.convert(path, kind, raw, "raw", progress, total=size)
        yield raw
