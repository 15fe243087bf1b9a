"""Joining devices end to end through the kernel's device mapper (its "linear" target).

The ioctls are used directly, as in imaging.disk.loop: the boot environment needs no dmsetup and no udev.
Structures: linux/dm-ioctl.h, interface version 4.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence

from imaging.errors import ImagingError, ResizeFailed
from imaging.resize.tools import SHORT, run

_CONTROL = "/dev/mapper/control"
# struct dm_ioctl: version[3], data_size, data_start, target_count, open_count, flags, event_nr, padding, dev,
# name[128], uuid[129], data[7].
_HEAD = struct.Struct("=3I I I I i I I I Q 128s 129s 7s")
# struct dm_target_spec: sector_start, length, status, next, target_type[16].
_SPEC = struct.Struct("=Q Q i I 16s")
_CREATE, _REMOVE, _SUSPEND, _LOAD = 3, 4, 6, 9
_SECTOR = 512  # device mapper counts these whatever the device's sectors are


def available() -> bool:
    """Does this kernel have the device mapper? (The boot environment's has it as the module dm-mod.)"""
    if not os.path.exists(_CONTROL):
        with contextlib.suppress(ImagingError):  # built in, or not to be had
            run("modprobe", "dm-mod", seconds=SHORT)
    try:
        os.close(os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC))
    except OSError:  # a node without a driver behind it is none either
        return False
    return True


@contextlib.contextmanager
def joined(parts: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Yield a device that consists of the devices ``(path, size in bytes)`` one after the other.

    Sizes are multiples of 512. Raises ResizeFailed.
    """
    name = f"pxeboot-{uuid.uuid4().hex[:12]}"
    with contextlib.ExitStack() as stack:
        try:
            control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, control)
            node = os.path.join(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="pxeboot-dm-")), "whole"
            )
            device = _call(control, _CREATE, name)
            stack.callback(_remove, control, name)
            _call(control, _LOAD, name, _table(parts), len(parts))
            _call(control, _SUSPEND, name)  # without the flag "suspend": resume, the table takes effect
            os.mknod(node, 0o600 | stat.S_IFBLK, device)
        except OSError as error:
            raise ResizeFailed(
                f"The kernel's device mapper, which a smaller disk needs, refused ({error.strerror}): bring "
                "the boot environment up to date, or choose a larger disk."
            ) from error
        yield node


def _table(parts: Sequence[tuple[str, int]]) -> bytes:
    """One "linear" target per part: its device as MAJOR:MINOR and the first sector in it."""
    table, start = b"", 0
    for path, size in parts:
        number = os.stat(path).st_rdev
        text = f"{os.major(number)}:{os.minor(number)} 0".encode() + b"\0"
        text += bytes(-len(text) % 8)
        table += _SPEC.pack(start, size // _SECTOR, 0, _SPEC.size + len(text), b"linear") + text
        start += size // _SECTOR
    return table


def _call(control: int, command: int, name: str, data: bytes = b"", targets: int = 0) -> int:
    """One ioctl on the named device; returns its device number. Raises OSError."""
    head = _HEAD.pack(
        4, 0, 0, _HEAD.size + len(data), _HEAD.size, targets, 0, 0, 0, 0, 0, name.encode(), b"", b""
    )
    buffer = bytearray(head + data)
    # _IOWR(DM_IOCTL, command, struct dm_ioctl)
    fcntl.ioctl(control, 3 << 30 | _HEAD.size << 16 | 0xFD << 8 | command, buffer)
    return int(_HEAD.unpack_from(buffer)[10])


def _remove(control: int, name: str) -> None:
    """Take the device away; for two seconds somebody (udev, blkid) may still be looking at it."""
    give_up = time.monotonic() + 2
    while True:
        try:
            _call(control, _REMOVE, name)
        except OSError:
            if time.monotonic() >= give_up:
                raise
            time.sleep(0.1)
        else:
            return
