"""Mounting a file system where nobody else sees it: in the mount namespace of one thread.

Programs that the thread starts see the mount; when the thread ends, also by kill -9 of the process, the
kernel takes it away.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from imaging.errors import ResizeFailed

T = TypeVar("T")

# sys/mount.h, sched.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_NOATIME = 1, 2, 4, 8, 1024
_MS_REC, _MS_PRIVATE = 16384, 1 << 18
_CLONE_NEWNS = 0x00020000

_libc = ctypes.CDLL(None, use_errno=True)


def privately(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread with a mount namespace of its own; what it raises is raised here."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            # unshare(2) works on the calling thread alone, and its mounts die with it.
            _call("unshare", _CLONE_NEWNS)
            try:
                _call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
            except OSError as error:
                if error.errno != errno.EINVAL:  # in a chroot "/" is no mount point: harmless, see below
                    raise
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="mounts")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@contextlib.contextmanager
def mounted(device: str, kind: str, *, write: bool, options: str = "") -> Iterator[str]:
    """Yield a directory where ``device`` is mounted as ``kind``; call it inside :func:`privately`.

    Raises ResizeFailed when the kernel does not mount it, also when it lacks the driver.
    """
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME | (0 if write else _MS_RDONLY)
    # Not TemporaryDirectory: where umount failed, its cleaning up would delete the deployed system.
    directory = tempfile.mkdtemp(prefix="pxeboot-mount-")
    target = os.fsencode(directory)
    try:
        try:
            _call("mount", os.fsencode(device), target, kind.encode(), flags, options.encode() or None)
        except OSError as error:
            raise ResizeFailed(
                f"The {kind} file system could not be mounted ({error.strerror}): check the image on the "
                "machine it was captured from."
            ) from error
        try:
            yield directory
        finally:
            _call("umount2", target, 0)
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


def _call(name: str, *arguments: object) -> None:
    """One libc call that returns 0 or sets errno; raises OSError."""
    converted = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    if getattr(_libc, name)(*converted) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
