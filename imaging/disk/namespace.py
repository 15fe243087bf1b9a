"""A mount namespace of one thread: programs that it starts see its mounts, the rest of the process does not.

When the thread ends, also by kill -9 of the process, the kernel takes its mounts away.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# sys/mount.h, sched.h
_MS_REC, _MS_SLAVE = 16384, 1 << 19
CLONE_NEWNS = 0x00020000

libc = ctypes.CDLL(None, use_errno=True)


def in_own_namespace(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that has its own mount namespace; what it raises is raised here."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            # unshare(2) works on the calling thread alone, and its mounts die with it.
            call("unshare", CLONE_NEWNS)
            keep_mounts_here()
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="mounts")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def keep_mounts_here() -> None:
    """Stop mounts of this namespace from spreading to others (mount_namespaces(7), "Shared subtrees").

    Slave, not private: what others unmount goes here too, else our copy would keep their disks busy.
    """
    try:
        call("mount", None, b"/", None, _MS_REC | _MS_SLAVE, None)
    except OSError as error:
        # In a chroot "/" is no mount point (EINVAL). The mount may then be seen outside while it lasts, which
        # is harmless: it is unmounted below, and its loop device goes with it.
        if error.errno != errno.EINVAL:
            raise


def call(name: str, *arguments: object) -> None:
    """One libc call that returns 0 or sets errno; raises OSError."""
    converted = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    if getattr(libc, name)(*converted) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
