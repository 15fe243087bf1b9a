"""Giving a deployed Linux its host name: the only change made to a disk after it was verified.

The file system is mounted in a private mount namespace of one thread, through a loop device that the kernel
takes away by itself: nobody else sees the mount, and nothing stays behind even after kill -9. The image's
content is not trusted: no symbolic link in it is followed.
"""

import contextlib
import ctypes
import errno
import functools
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator

from imaging.disk.device import Disk
from imaging.disk.inspect import read_layout
from imaging.disk.loop import loop_device
from imaging.errors import CustomiseError
from imaging.manifest import Partition

_EXT = ("ext2", "ext3", "ext4")
# sys/mount.h, sched.h
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_NOATIME = 1, 2, 4, 8, 1024
_MS_REC, _MS_PRIVATE = 16384, 1 << 18
_CLONE_NEWNS = 0x00020000
_MAX_FILE = 1 << 20
#: RFC 1123 §2.1, and at most 63 characters because Linux's HOST_NAME_MAX is 64.
_HOSTNAME = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII | re.IGNORECASE
)


def set_hostname(disk_path: str | os.PathLike[str], hostname: str, *, sector_size: int = 0) -> list[int]:
    """Write ``hostname`` into every installed Linux on the disk (ext2/3/4 with /etc/hostname).

    Sets /etc/hostname, and the old name's place in /etc/hosts (Debian's 127.0.1.1 line). Returns the numbers
    of the partitions changed: empty when the disk holds no Linux. Blocks for some seconds at most.

    Raises CustomiseError for a name that is not valid or a file system that cannot be changed, DiskBusy,
    DiskError.
    """
    if len(hostname) > 63 or not _HOSTNAME.fullmatch(hostname):
        raise CustomiseError(
            f"{hostname[:80]!r} is not a host name: use letters, digits and hyphens (RFC 1123)."
        )
    changed = []
    with Disk(disk_path, write=True, sector_size=sector_size) as disk:
        for partition in read_layout(disk)[1]:
            work = functools.partial(_rename, disk, partition, hostname)
            if partition.filesystem in _EXT and _in_mount_namespace(work):
                changed.append(partition.number)
        disk.sync()
    return changed


def _in_mount_namespace(work: Callable[[], bool]) -> bool:
    """Run ``work`` in a thread that has its own mount namespace; what it raises is raised here."""
    outcome: list[bool] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            # unshare(2) works on the calling thread alone, and its mounts die with it.
            _call("unshare", _CLONE_NEWNS)
            _keep_mounts_here()
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="customise")
    thread.start()
    thread.join()
    if failure:
        if isinstance(failure[0], OSError):
            raise CustomiseError(
                f"The host name could not be written ({failure[0].strerror}): check the image."
            ) from failure[0]
        raise failure[0]
    return outcome[0]


def _keep_mounts_here() -> None:
    """Stop mounts of this namespace from spreading to others (mount_namespaces(7), "Shared subtrees")."""
    try:
        _call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    except OSError as error:
        # In a chroot "/" is no mount point (EINVAL). The mount may then be seen outside while it lasts, which
        # is harmless: it is unmounted below, and its loop device goes with it.
        if error.errno != errno.EINVAL:
            raise


def _rename(disk: Disk, partition: Partition, hostname: str) -> bool:
    """Look read-only first, so that a file system without /etc/hostname is not changed by mounting it."""
    with _mounted(disk, partition, write=False) as root, _etc(root) as etc:
        if etc is None or _read(etc, "hostname") is None:
            return False
    with _mounted(disk, partition, write=True) as root, _etc(root) as etc:
        assert etc is not None
        old = (_read(etc, "hostname") or "").split("\n")[0].strip()
        _write(etc, "hostname", hostname + "\n")
        hosts = _read(etc, "hosts")
        if hosts is not None:
            _write(etc, "hosts", rename_in_hosts(hosts, old, hostname))
    return True


def rename_in_hosts(hosts: str, old: str, new: str) -> str:
    """/etc/hosts with the old host name replaced on loopback lines; 127.0.1.1 always names ``new``.

    ``old.domain`` becomes ``new.domain``. Other lines and comments stay as they are.
    """
    lines = []
    for line in hosts.splitlines():
        text, mark, comment = line.partition("#")
        fields = text.split()
        own = len(fields) > 1 and (fields[0].startswith("127.") or fields[0] == "::1")
        if own:
            names = [_renamed(name, old, new) for name in fields[1:]]
            if fields[0] == "127.0.1.1" and new not in names:
                names = [
                    new
                ]  # it named a machine this image was never called: Debian's line is the host's own
            if names != fields[1:]:
                line = "\t".join([fields[0], " ".join(dict.fromkeys(names))]) + (
                    f" #{comment}" if mark else ""
                )
        lines.append(line)
    return "\n".join(lines) + "\n"


def _renamed(name: str, old: str, new: str) -> str:
    short = old.partition(".")[0]
    if not old or name == "localhost" or name.startswith("localhost."):
        return name
    if name in (old, short):
        return new
    if name.startswith(short + ".") and "." not in new:
        return new + name[len(short) :]
    return name


@contextlib.contextmanager
def _mounted(disk: Disk, partition: Partition, *, write: bool) -> Iterator[str]:
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC | _MS_NOATIME | (0 if write else _MS_RDONLY)
    # noload: a read-only mount would still replay a journal.
    options = b"" if write else b"noload"
    if partition.filesystem == "ext2":
        options = b""
    # Not TemporaryDirectory: where umount failed, its cleaning up would delete the deployed system.
    directory = tempfile.mkdtemp(prefix="pxeboot-root-")
    target = os.fsencode(directory)
    try:
        with loop_device(
            disk.fd, offset=partition.start, size=partition.size, sector_size=disk.sector_size, write=write
        ) as device:
            _call("mount", os.fsencode(device), target, b"ext4", flags, options)
            try:
                yield directory
            finally:
                _call("umount2", target, 0)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(directory)


@contextlib.contextmanager
def _etc(root: str) -> Iterator[int | None]:
    try:
        fd = os.open(os.path.join(root, "etc"), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _read(directory: int, name: str) -> str | None:
    """A regular file's text, or None; links and devices are not opened."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    with open(fd, "rb") as file:
        return file.read(_MAX_FILE).decode("utf-8", "surrogateescape")


def _write(directory: int, name: str, text: str) -> None:
    """Replace a file whole, with its mode and owner, durably."""
    new = f".{name}.pxeboot"
    before = os.stat(name, dir_fd=directory, follow_symlinks=False)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new, dir_fd=directory)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    with open(fd, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        os.fchown(fd, before.st_uid, before.st_gid)
        os.fchmod(fd, before.st_mode & 0o777)
        file.flush()
        os.fsync(fd)
    os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    """One libc call that returns 0 or sets errno; raises OSError."""
    converted = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    if getattr(_libc, name)(*converted) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
