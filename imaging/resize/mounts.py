"""Mounting a file system where nobody else sees it: in the mount namespace of one thread.

Programs that the thread starts see the mount; when the thread ends, also by kill -9 of the process, the
kernel takes it away.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from imaging.disk.namespace import call
from imaging.errors import ResizeFailed

# sys/mount.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_NOATIME = 1, 2, 4, 8, 1024


@contextlib.contextmanager
def mounted(device: str, kind: str, *, write: bool, options: str = "") -> Iterator[str]:
    """Yield a directory where ``device`` is mounted as ``kind``; call it inside ``in_own_namespace``.

    Raises ResizeFailed when the kernel does not mount it, also when it lacks the driver.
    """
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME | (0 if write else _MS_RDONLY)
    # Not TemporaryDirectory: where umount failed, its cleaning up would delete the deployed system.
    directory = tempfile.mkdtemp(prefix="pxeboot-mount-")
    target = os.fsencode(directory)
    try:
        try:
            call("mount", os.fsencode(device), target, kind.encode(), flags, options.encode() or None)
        except OSError as error:
            raise ResizeFailed(
                f"The {kind} file system could not be mounted ({error.strerror}): check the image on the "
                "machine it was captured from."
            ) from error
        try:
            yield directory
        finally:
            call("umount2", target, 0)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def driver(kind: str) -> bool:
    """Can this kernel mount ``kind`` at once or by loading a module that the boot environment has?"""
    with open("/proc/filesystems", encoding="ascii", errors="replace") as file:
        if any(line.split()[-1:] == [kind] for line in file):
            return True
    from imaging.resize.tools import SHORT, run

    try:
        run("modprobe", kind, seconds=SHORT)
    except Exception:  # no modprobe, no such module: the answer is no
        return False
    return True
