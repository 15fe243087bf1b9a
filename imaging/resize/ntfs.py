"""NTFS through ntfsresize and ntfslabel, each change tried with --no-action first.

ntfsresize marks the volume, so Windows checks it (chkdsk) at its next start; that is wanted and left so.
"""

from __future__ import annotations

import os
import secrets

from imaging.errors import ResizeFailed
from imaging.resize.tools import LONG, SHORT, Log, field, run

_REPAIR = (
    "run chkdsk /f on the reference machine, shut Windows down fully (shutdown /s /t 0) and capture again"
)
# Once: do not ask. Twice: also when the volume is marked for chkdsk, as it is after our own first change.
_FORCE = ("--force", "--force", "--no-progress-bar")


def minimum(path: str, log: Log) -> int:
    text = run("ntfsresize", "--info", *_FORCE, path, seconds=LONG, log=log, ok=(0, 1), advice=_REPAIR)
    if "volume is full" in text.lower():
        return length(path)
    return field(text, "You might resize at")


def grow(path: str, log: Log) -> None:
    if length(path) + 65536 > _size(path):
        return  # the volume fills its partition already; ntfsresize would call that an error
    _resize(path, (), log)


def shrink(path: str, size: int, log: Log) -> None:
    _resize(path, ("--size", str(size)), log)


def _resize(path: str, size: tuple[str, ...], log: Log) -> None:
    run("ntfsresize", "--no-action", *_FORCE, *size, path, seconds=LONG, log=log, advice=_REPAIR)
    run("ntfsresize", *_FORCE, *size, path, seconds=LONG, log=log, advice=_REPAIR)


def copy_boot_sector(path: str) -> None:
    """Put the copy of the boot sector into the device's last sector, where Windows looks for it."""
    with open(path, "r+b", buffering=0) as file:
        sector = file.read(512)
        if sector[3:11] != b"NTFS    ":
            raise ResizeFailed("There is no NTFS volume here any more: deploy the image again.")
        length = int.from_bytes(sector[11:13], "little") or 512
        file.seek(0)
        sector = file.read(length)
        file.seek(-length, os.SEEK_END)
        file.write(sector)
        os.fsync(file.fileno())


def renew(path: str, log: Log) -> str:
    new = secrets.token_hex(8).upper()
    run("ntfslabel", "--force", f"--new-serial={new}", path, seconds=SHORT, log=log, advice=_REPAIR)
    return new


def length(path: str) -> int:
    """Bytes, without the sector that holds the boot sector's copy (boot sector: 0x0B, 0x28)."""
    with open(path, "rb", buffering=0) as file:
        sector = file.read(512)
    if sector[3:11] != b"NTFS    ":
        raise ResizeFailed("There is no NTFS volume here any more: deploy the image again.")
    return int.from_bytes(sector[0x28:0x30], "little") * int.from_bytes(sector[0x0B:0x0D], "little")


def _size(path: str) -> int:
    with open(path, "rb", buffering=0) as file:
        return file.seek(0, os.SEEK_END)
