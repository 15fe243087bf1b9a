"""A part of a disk as a loop device, which the kernel takes away by itself when its user dies.

The ioctls are used directly because busybox's losetup knows no size limit, and because LO_FLAGS_AUTOCLEAR
ties the device to an open file: nothing is left behind even after kill -9.
"""

import contextlib
import errno
import fcntl
import os
import random
import stat
import struct
import time
from collections.abc import Iterator

from imaging.errors import DiskError

# linux/loop.h
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82
_READ_ONLY, _AUTOCLEAR, _PARTSCAN = 1, 4, 8
_CONFIG = struct.Struct("=II 5Q 4I 64s 64s 32s 2Q 8Q")  # struct loop_config
_ATTEMPTS = 50


@contextlib.contextmanager
def loop_device(
    fd: int,
    *,
    offset: int = 0,
    size: int = 0,
    sector_size: int = 512,
    write: bool = False,
    partitions: bool = False,
) -> Iterator[str]:
    """Yield the path of a loop device over ``size`` bytes (0 = all) from ``offset`` of the open disk ``fd``.

    With ``partitions`` the kernel scans it, so that ``/dev/loopNpM`` appear. Raises DiskError.
    """
    flags = _AUTOCLEAR | (0 if write else _READ_ONLY) | (_PARTSCAN if partitions else 0)
    config = _CONFIG.pack(
        fd, sector_size, 0, 0, 0, offset, size, 0, 0, 0, flags, b"", b"", b"", 0, 0, *([0] * 8)
    )
    try:
        path, device = _attach(config, write)
    except OSError as error:
        raise DiskError(
            f"No loop device can be had ({error.strerror}): is the kernel's loop module there?"
        ) from error
    try:
        yield path
    finally:
        if write:
            os.fsync(device)
        os.close(device)


def _attach(config: bytes, write: bool) -> tuple[str, int]:
    for _ in range(_ATTEMPTS):
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
        finally:
            os.close(control)
        path = f"/dev/loop{number}"
        if not os.path.exists(path):  # a container's /dev does not follow the kernel
            with contextlib.suppress(FileExistsError):
                os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(7, number))
        device = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _LOOP_CONFIGURE, config)
        except OSError as error:
            os.close(device)
            # Somebody else took it between the two calls: ask again.
            if error.errno != errno.EBUSY:
                raise
            time.sleep(random.uniform(0.001, 0.05))
        else:
            return path, device
    raise OSError(errno.EBUSY, "all loop devices are taken")
