"""Opening a disk, be it a block device or a plain file, and knowing its size, sectors and caches."""

import contextlib
import errno
import fcntl
import os
import random
import stat
import struct
import time
from collections.abc import Iterator
from types import TracebackType

from imaging.chunks import read_exactly
from imaging.errors import DiskBusy, DiskError, UnsupportedDisk

# linux/fs.h
_BLKRRPART = 0x125F
_BLKFLSBUF = 0x1261
_BLKSSZGET = 0x1268
_BLKPBSZGET = 0x127B
_BLKGETSIZE64 = 0x80081272
_PATIENCE = 2.0  # seconds


class Disk:
    """An open disk. Sizes are bytes; ``fd`` is read-only unless opened for writing.

    ``sector_size`` is what the disk is addressed by, ``physical_sector_size`` what it writes at a time: the
    two differ on 512e disks (512 and 4096). A file has no physical one of its own. ``emulated`` is the
    physical size where it is larger and sane, else 0: what an image keeps of it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        write: bool = False,
        sector_size: int = 0,
        shared: bool = False,
    ) -> None:
        """Open ``path``; for a plain file ``sector_size`` is assumed (0 = look for a table, else 512).

        ``shared``: beside whoever else has it, to read only. Raises DiskBusy when a partition is mounted or
        another program holds the disk, DiskError, UnsupportedDisk.
        """
        self.path = os.fspath(path)
        try:
            self.is_block = stat.S_ISBLK(os.stat(self.path).st_mode)
            alone = self.is_block and not shared
            flags = (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC | (os.O_EXCL if alone else 0)
            self.fd = _open_patiently(self.path, flags)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise DiskBusy(
                    f"The disk {self.path} is in use: unmount its partitions, then try again."
                ) from error
            raise DiskError(f"The disk {self.path} cannot be opened: {error.strerror}.") from error
        try:
            self._measure(sector_size)
        except BaseException:
            os.close(self.fd)
            raise

    def _measure(self, sector_size: int) -> None:
        if self.is_block:
            try:
                self.size: int = struct.unpack("Q", fcntl.ioctl(self.fd, _BLKGETSIZE64, bytes(8)))[0]
                self.sector_size: int = struct.unpack("i", fcntl.ioctl(self.fd, _BLKSSZGET, bytes(4)))[0]
                physical: int = struct.unpack("I", fcntl.ioctl(self.fd, _BLKPBSZGET, bytes(4)))[0]
            except OSError as error:
                raise DiskError(f"The disk {self.path} does not tell its size: {error.strerror}.") from error
        else:
            self.size = os.fstat(self.fd).st_size
            self.sector_size = physical = sector_size or self._guess_sector_size()
        self.physical_sector_size = max(physical, self.sector_size)
        larger = self.sector_size < self.physical_sector_size <= 1 << 20
        sane = not self.physical_sector_size & (self.physical_sector_size - 1)
        self.emulated = self.physical_sector_size if larger and sane else 0
        if self.size == 0 or self.size % self.sector_size:
            raise UnsupportedDisk(
                f"The disk {self.path} has {self.size} bytes: not a whole number of sectors."
            )

    def _guess_sector_size(self) -> int:
        # In a file nothing tells the sector size but the place of the GPT header, which is LBA 1.
        for size in (512, 4096):
            if os.pread(self.fd, 8, size) == b"EFI PART":
                return size
        return 512

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes; raises DiskError."""
        data = bytearray(length)
        read_exactly(self.fd, memoryview(data), offset)
        return bytes(data)

    def sync(self) -> None:
        """Wait until everything written is on the medium; raises DiskError when some of it is not."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise DiskError(
                f"The disk {self.path} did not take what was written ({error.strerror}): replace it."
            ) from error

    def drop_caches(self) -> None:
        """Forget cached pages, so that what is read next comes from the medium. Call sync() before."""
        if self.is_block:
            fcntl.ioctl(self.fd, _BLKFLSBUF)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    @contextlib.contextmanager
    def past_the_cache(self) -> Iterator[int]:
        """A descriptor that reads the medium (open(2), O_DIRECT): aligned memory, whole sectors.

        Where that cannot be had it is the disk's own, its cache dropped.
        """
        try:
            fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self.drop_caches()
            yield self.fd
            return
        try:
            yield fd
        finally:
            os.close(fd)

    def reread_table(self) -> bool:
        """Ask the kernel to look at the new partition table; False when it will only after a reboot."""
        if not self.is_block:
            return True
        try:
            fcntl.ioctl(self.fd, _BLKRRPART)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> "Disk":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_patiently(path: str, flags: int) -> int:
    """Open; on EBUSY try again for two seconds.

    O_EXCL on a block device refuses one that is mounted, in use by LVM or md, or opened so by others. But for
    a moment it also refuses one whose loop device (ours, of the step before) udev or blkid is still looking
    at.
    """
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.open(path, flags)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() >= give_up:
                raise
        time.sleep(random.uniform(0.05, 0.15))
