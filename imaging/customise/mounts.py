"""Mounting partitions of a disk for a moment, seen by nobody else, leaving nothing behind.

All is done in one thread that has a mount namespace of its own (children of that thread see its mounts, the
rest of the process does not); partitions are loop devices that the kernel takes away by itself. So no
partition nodes are needed, and nothing stays even after kill -9.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator

from imaging.disk.device import Disk
from imaging.disk.loop import loop_device
from imaging.disk.namespace import call, libc
from imaging.errors import CustomiseError, ToolMissing
from imaging.manifest import Partition

EXT = ("ext2", "ext3", "ext4")
#: What can be mounted: kind of file system -> (the kernel's name, options, more options when read-only).
#: noload, norecovery, nologreplay: a read-only mount would still replay a journal. nouuid: the same image
#: may be mounted elsewhere.
_KERNEL: dict[str, tuple[bytes, str, str]] = {
    "ext2": (b"ext4", "", ""),
    "ext3": (b"ext4", "", "noload"),
    "ext4": (b"ext4", "", "noload"),
    "xfs": (b"xfs", "nouuid", "norecovery"),
    "btrfs": (b"btrfs", "", "rescue=nologreplay"),
    "fat": (b"vfat", "", ""),
}
MOUNTABLE = frozenset((*_KERNEL, "ntfs"))
# sys/mount.h, sched.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOATIME = 1, 2, 4, 1024
_MNT_DETACH = 2
_NTFS_SECONDS = 30.0
_BUSY_SECONDS = 15.0


@contextlib.contextmanager
def mounted(disk: Disk, partition: Partition, *, write: bool, options: str = "") -> Iterator[str]:
    """Yield the directory where a partition is mounted; on return it is unmounted and durable.

    Call it inside ``in_own_namespace``. Raises CustomiseError for a file system that cannot be mounted,
    DiskError, ToolMissing.
    """
    if partition.filesystem not in MOUNTABLE:
        raise CustomiseError(
            f"Partition {partition.number} holds {partition.filesystem}, which cannot be mounted."
        )
    # Not TemporaryDirectory: where umount failed, its cleaning up would delete the deployed system.
    directory = tempfile.mkdtemp(prefix="pxeboot-root-")
    try:
        with loop_device(
            disk.fd, offset=partition.start, size=partition.size, sector_size=disk.sector_size, write=write
        ) as device:
            mount = _ntfs if partition.filesystem == "ntfs" else _kernel
            try:
                with mount(device, directory, partition, write, options):
                    yield directory
            finally:
                _wait_until_free(device)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(directory)


@contextlib.contextmanager
def _kernel(device: str, directory: str, partition: Partition, write: bool, more: str) -> Iterator[None]:
    kind, always, reading = _KERNEL[partition.filesystem]
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOATIME | (0 if write else _MS_RDONLY)
    options = ",".join(filter(None, (always, "" if write else reading, more)))
    try:
        call("mount", os.fsencode(device), os.fsencode(directory), kind, flags, options.encode())
    except OSError as error:
        raise CustomiseError(
            f"Partition {partition.number} ({partition.filesystem}) cannot be mounted ({error.strerror}): "
            "check the image's file system and capture it again."
        ) from error
    try:
        yield
    finally:
        _unmount(directory, partition)


@contextlib.contextmanager
def _ntfs(device: str, directory: str, partition: Partition, write: bool, more: str) -> Iterator[None]:
    # permissions,inherit: new files get the access rights that Windows would give them in their directory.
    options = ",".join(
        filter(None, ("rw" if write else "ro", "no_detach,noatime,permissions,inherit,nosuid,nodev", more))
    )
    before = os.stat(directory).st_dev
    try:
        process = subprocess.Popen(
            # The process ends with this thread, also after kill -9, and lets go of the disk.
            ["setpriv", "--pdeathsig", "TERM", "ntfs-3g", "-o", options, device, directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ToolMissing("The program ntfs-3g is not installed: install the package ntfs-3g.") from error
    try:
        deadline = time.monotonic() + _NTFS_SECONDS
        while os.stat(directory).st_dev == before:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                said = process.communicate()[0].decode(errors="replace").strip().splitlines()
                raise CustomiseError(
                    f"Partition {partition.number} (ntfs) cannot be mounted ({' '.join(said[:2])[:300]}): "
                    "start that Windows, shut it down cleanly, capture it again."
                )
            time.sleep(0.01)
        try:
            yield
        finally:
            _unmount(directory, partition)
    finally:
        try:
            process.wait(_NTFS_SECONDS)  # it writes what it holds, then ends
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _unmount(directory: str, partition: Partition) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(fd) != 0:
            raise CustomiseError(f"What was written to partition {partition.number} did not reach the disk.")
    finally:
        os.close(fd)
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            call("umount2", os.fsencode(directory), 0)
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if time.monotonic() > deadline:
                call("umount2", os.fsencode(directory), _MNT_DETACH)
                raise CustomiseError(
                    f"Partition {partition.number} is still in use by a program that a script started."
                ) from error
            time.sleep(0.05)


def _wait_until_free(device: str) -> None:
    """Copies of the mount in namespaces that just ended go a moment later; a file system in use holds its
    device exclusively."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while time.monotonic() < deadline:
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
            time.sleep(0.02)
