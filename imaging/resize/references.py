"""Where a system names its file systems and partitions, and how those names are exchanged.

Every name is replaced by one of the same length, so files are changed in place: their owner, mode, links
and the fixed size of grubenv stay as they are, and a FAT file keeps its clusters. No symbolic link in the
image is followed.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping

_MAX_FILE = 16 << 20

#: Files of an installed Linux that may name file systems, as shell patterns from its root.
ROOT_FILES: tuple[str, ...] = (
    "etc/fstab",
    "etc/crypttab",
    "etc/default/grub",
    "etc/default/grub.d/*.cfg",
    "etc/default/zipl2grub.conf",
    "etc/grub.d/*",
    "etc/kernel/cmdline",
    "etc/cmdline.d/*.conf",
    "etc/initramfs-tools/conf.d/*",
    "etc/initramfs-tools/initramfs.conf",
    "etc/dracut.conf",
    "etc/dracut.conf.d/*.conf",
    "etc/mkinitcpio.conf",
    "etc/mkinitcpio.conf.d/*.conf",
    "etc/systemd/system/*.mount",
    "etc/systemd/system/*.swap",
    "etc/systemd/system/*.automount",
    "etc/uuid.d/*",
)
#: Files of a boot partition, or of /boot.
BOOT_FILES: tuple[str, ...] = (
    "grub/grub.cfg",
    "grub/custom.cfg",
    "grub/menu.lst",
    "grub/grubenv",
    "grub/*/load.cfg",
    "grub2/grub.cfg",
    "grub2/custom.cfg",
    "grub2/grubenv",
    "grub2/*/load.cfg",
    "loader/entries/*.conf",
    "loader/loader.conf",
    "extlinux/extlinux.conf",
    "syslinux/*.cfg",
    "refind_linux.conf",
    "cmdline.txt",
    "efi/EFI/*/grub.cfg",
)
LINUX_FILES: tuple[str, ...] = ROOT_FILES + BOOT_FILES + tuple(f"boot/{name}" for name in BOOT_FILES)


def replacer(names: Mapping[str, str]) -> Callable[[bytes], bytes]:
    """A function that exchanges old names for new ones of the same length in any bytes.

    Names are UUIDs and GUIDs (36 characters), FAT and NTFS serial numbers and MBR PARTUUIDs. A name found in
    upper or lower case is replaced in the same case. A name inside a longer run of hexadecimal digits is
    another name.
    """
    if any(len(old) != len(new) for old, new in names.items()):
        raise ValueError("a name may only be replaced by one of the same length")
    table = {old.lower().encode(): new for old, new in names.items()}
    if not table:
        return lambda data: data
    # Short ones could be groups of a UUID: there a hyphen beside them is no border either.
    long = [re.escape(old) for old in table if len(old) == 36]
    short = [re.escape(old) for old in table if len(old) != 36]
    parts = []
    if long:
        parts.append(rb"(?<![0-9A-Fa-f])(?:" + b"|".join(long) + rb")(?![0-9A-Fa-f])")
    if short:
        parts.append(rb"(?<![0-9A-Fa-f-])(?:" + b"|".join(short) + rb")(?![0-9A-Fa-f-])")
    pattern = re.compile(b"|".join(parts), re.IGNORECASE)

    def exchanged(match: re.Match[bytes]) -> bytes:
        found, new = match[0], table[match[0].lower()]
        if found.lower() == found.upper():
            return new.encode()
        return (new.upper() if found == found.upper() else new.lower()).encode()

    return lambda data: pattern.sub(exchanged, data)


def changes(before: bytes, after: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of the 512-byte pieces in which two strings of the same length differ."""
    for at in range(0, len(before), 512):
        piece = after[at : at + 512]
        if piece != before[at : at + 512]:
            yield at, piece


def find_files(root: int, patterns: tuple[str, ...]) -> Iterator[tuple[str, int, str]]:
    """(path from the root, directory descriptor, name) of each regular file that fits a pattern.

    ``root`` is an open directory. The descriptor is valid until the next one is asked for.
    """
    for pattern in patterns:
        yield from _find(root, "", pattern.split("/"))


def _find(directory: int, path: str, parts: list[str]) -> Iterator[tuple[str, int, str]]:
    part, rest = parts[0], parts[1:]
    try:
        names = sorted(fnmatch.filter(os.listdir(directory), part)) if "*" in part else [part]
    except OSError:
        return
    for name in names:
        try:
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            if not rest:
                if stat.S_ISREG(mode):
                    yield f"{path}{name}", directory, name
                continue
            below = os.open(
                name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
            )
        except OSError:
            continue
        try:
            yield from _find(below, f"{path}{name}/", rest)
        finally:
            os.close(below)


def read_file(directory: int, name: str, limit: int = _MAX_FILE) -> bytes:
    """A regular file's bytes; empty when it cannot be read or is longer than ``limit``."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return b""
    with open(fd, "rb") as file:
        if os.fstat(fd).st_size > limit:
            return b""
        return file.read(limit)


def rewrite_tree(root: int, patterns: tuple[str, ...], change: Callable[[bytes], bytes]) -> list[str]:
    """Exchange names in all files that fit; returns the paths of those changed. Raises OSError."""
    changed = []
    for path, directory, name in find_files(root, patterns):
        before = read_file(directory, name)
        after = change(before)
        if after == before:
            continue
        try:
            fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except OSError as error:
            if error.errno == errno.EROFS:  # a read-only snapshot is what it was
                continue
            raise
        try:
            for at, piece in changes(before, after):
                os.pwrite(fd, piece, at)
            os.fsync(fd)
        finally:
            os.close(fd)
        changed.append(path)
    return changed
