"""The methods themselves: writing over, discarding, and the commands that make a disk erase itself.

``progress`` gets bytes done since its last call (an estimate where the disk does not tell), ``check`` raises
when the task must end. A disk that has begun to erase itself cannot be stopped; it is waited for.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
import subprocess
import time
from collections.abc import Callable

from imaging.disk.device import Disk
from imaging.errors import DiskError, ToolMissing
from imaging.wipe.abilities import Abilities, WipeRefused, parse_sanitize_log

Progress = Callable[[int], None]
Check = Callable[[], None]
#: What locks an ATA disk while it is erased: needed again if power fails in between.
ATA_PASSWORD = "pxeboot"
_PIECE = 4 << 20
_DISCARD_PIECE = 1 << 30
_FLUSH_EVERY = 64 << 20
_MAX_BAD = 1000
_BLKDISCARD = 0x1277  # linux/fs.h
_PUNCH = 0x01 | 0x02  # linux/falloc.h: FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_POLL = 1.0
_MARGIN = 1800.0
_NVME_SECONDS = 4 * 3600.0


class WipeFailed(DiskError):
    """A method did not come to its end; ``str()`` says how far and what to do."""

    code = "wipe-failed"


def overwrite(disk: Disk, passes: int, progress: Progress, check: Check) -> list[tuple[int, int]]:
    """Write every byte ``passes`` times, zeros at last; returns (offset, length) of what could not be.

    Raises WipeFailed when the disk refuses more than a few places, or is gone.
    """
    bad: list[tuple[int, int]] = []
    for number in range(passes):
        zeros = number == passes - 1
        with mmap.mmap(-1, _PIECE) as buffer:
            since = 0
            for at in range(0, disk.size, _PIECE):
                check()
                length = min(_PIECE, disk.size - at)
                if not zeros:
                    buffer[:] = os.urandom(_PIECE)
                _write(disk, memoryview(buffer)[:length], at, bad)
                progress(length)
                since += length
                if since >= _FLUSH_EVERY:
                    # Errors come out here; and the cache of a large disk must not fill the memory.
                    _flush(disk, at + length - since, since, bad, buffer)
                    since = 0
            _flush(disk, disk.size - since, since, bad, buffer)
    return sorted(set(bad))


def _write(disk: Disk, data: memoryview, at: int, bad: list[tuple[int, int]]) -> None:
    done = 0
    while done < len(data):
        try:
            done += os.pwrite(disk.fd, data[done:], at + done)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EREMOTEIO, errno.ENODATA):
                raise WipeFailed(
                    f"Writing to {disk.path} failed at byte {at + done}: {error.strerror}."
                ) from error
            _one_by_one(disk, data[done:], at + done, bad)
            return


def _flush(disk: Disk, start: int, length: int, bad: list[tuple[int, int]], buffer: mmap.mmap) -> None:
    try:
        os.fsync(disk.fd)
    except OSError:
        # Somewhere in this stretch: write it again, sector by sector and each to the medium.
        for at in range(start, start + length, _PIECE):
            size = min(_PIECE, start + length - at)
            _one_by_one(disk, memoryview(buffer)[:size], at, bad)
    os.posix_fadvise(disk.fd, start, length, os.POSIX_FADV_DONTNEED)


def _one_by_one(disk: Disk, data: memoryview, at: int, bad: list[tuple[int, int]]) -> None:
    """Write through (O_DSYNC) in halves until what fails is one block."""
    fd = os.open(f"/proc/self/fd/{disk.fd}", os.O_WRONLY | os.O_DSYNC | os.O_CLOEXEC)
    try:
        _halves(fd, data, at, max(disk.physical_sector_size, 512), bad)
    finally:
        os.close(fd)
    if len(bad) > _MAX_BAD:
        raise WipeFailed(
            f"More than {_MAX_BAD} blocks of {disk.path} cannot be written: it cannot be wiped, destroy it."
        )


def _halves(fd: int, data: memoryview, at: int, least: int, bad: list[tuple[int, int]]) -> None:
    try:
        if os.pwrite(fd, data, at) == len(data):
            return
    except OSError:
        pass
    if len(data) <= least or len(bad) > _MAX_BAD:
        bad.append((at, len(data)))
        return
    half = (len(data) // 2 + least - 1) // least * least
    _halves(fd, data[:half], at, least, bad)
    if half < len(data):
        _halves(fd, data[half:], at + half, least, bad)


def discard(disk: Disk, progress: Progress, check: Check) -> None:
    """Tell the disk that none of its blocks is used (TRIM, UNMAP, Deallocate). Raises WipeFailed."""
    block = stat.S_ISBLK(os.fstat(disk.fd).st_mode)
    for at in range(0, disk.size, _DISCARD_PIECE):
        check()
        length = min(_DISCARD_PIECE, disk.size - at)
        try:
            if block:
                fcntl.ioctl(disk.fd, _BLKDISCARD, struct.pack("QQ", at, length))
            else:
                _punch(disk.fd, at, length)
        except OSError as error:
            raise WipeFailed(
                f"{disk.path} refused a discard ({error.strerror}): choose overwrite."
            ) from error
        progress(length)
    disk.sync()


def _punch(fd: int, at: int, length: int) -> None:
    """A hole in a file that stands for a disk."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, _PUNCH, ctypes.c_long(at), ctypes.c_long(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def ata_secure_erase(path: str, size: int, able: Abilities, progress: Progress) -> None:
    """SECURITY ERASE UNIT, normal mode: the disk writes zeros everywhere, reserved sectors included.

    A disk that a power cut left locked with our password is taken up again. Raises WipeRefused, WipeFailed.
    """
    security = able.ata
    if security is None:
        raise WipeRefused(f"{path} has no ATA security: choose overwrite.")
    user = ("hdparm", "--user-master", "u")
    if not security.enabled:
        _tool(*user, "--security-set-pass", ATA_PASSWORD, path)
    estimate = max(60.0, security.minutes * 60.0)
    try:
        watched(
            [*user, "--security-erase", ATA_PASSWORD, path], size, estimate, estimate * 3 + _MARGIN, progress
        )
    except WipeFailed as error:
        if security.enabled:
            raise WipeRefused(
                f"{path} is locked with a password that is not ours ({error}): unlock it, or destroy it."
            ) from error
        # Not left locked: the next one who uses this disk does not know the password.
        subprocess.run([*user, "--security-disable", ATA_PASSWORD, path], capture_output=True, check=False)
        raise


def nvme_format(path: str, size: int, progress: Progress) -> None:
    """Format NVM with Secure Erase Settings 1 (user data erase), in the sector format it has."""
    command = ["nvme", "format", path, "--ses=1", "--force", f"--timeout={int(_NVME_SECONDS * 1000)}"]
    watched(command, size, 60.0, _NVME_SECONDS, progress)


def nvme_sanitize(path: str, size: int, able: Abilities, progress: Progress) -> None:
    """Sanitize, by block erase if the controller can, else by a new media key; waits for its end."""
    controller = controller_of(path)
    action = "2" if able.nvme is not None and able.nvme.sanitize_block else "4"
    _tool("nvme", "sanitize", controller, f"--sanact={action}")
    told, deadline = 0, time.monotonic() + _NVME_SECONDS
    while True:
        state = parse_sanitize_log(_tool("nvme", "sanitize-log", controller, "-o", "json"))
        if state.failed:
            raise WipeFailed(f"{path} could not sanitize itself: try again, or destroy the disk.")
        if not state.running:
            break
        done = int(size * state.share)
        progress(max(0, done - told))
        told = max(told, done)
        if time.monotonic() > deadline:
            raise WipeFailed(
                f"{path} has been sanitizing for {_NVME_SECONDS / 3600:.0f} hours: destroy the disk."
            )
        time.sleep(_POLL)
    progress(size - told)


def controller_of(path: str) -> str:
    """``/dev/nvme0n1`` → ``/dev/nvme0``."""
    name = os.path.basename(path)
    head, sign, tail = name.rpartition("n")
    return os.path.join(os.path.dirname(path), head) if sign and tail.isdecimal() and head != "nvme" else path


def watched(command: list[str], size: int, estimate: float, limit: float, progress: Progress) -> None:
    """Run a command that erases; tell an estimate of how far it is. Raises WipeFailed, ToolMissing."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except FileNotFoundError as error:
        raise ToolMissing(f"The program {command[0]} is not installed.") from error
    began, told = time.monotonic(), 0
    while True:
        try:
            said = process.communicate(timeout=_POLL)[0].decode("utf-8", "replace")
            break
        except subprocess.TimeoutExpired:
            passed = time.monotonic() - began
            done = int(size * min(0.99, passed / estimate))
            progress(done - told)
            told = done
            if passed > limit:
                process.kill()
                process.communicate()
                raise WipeFailed(
                    f"{command[0]} was not done after {passed / 60:.0f} minutes: switch the machine off "
                    "and on, then wipe again or destroy the disk."
                ) from None
    if process.returncode != 0:
        raise WipeFailed(f"{command[0]}: {_last(said) or f'status {process.returncode}'}.")
    progress(size - told)


def _tool(*command: str, seconds: float = 120.0) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ToolMissing(f"The program {command[0]} is not installed.") from error
    except subprocess.TimeoutExpired as error:
        raise WipeFailed(f"{command[0]} {command[1]} did not answer within {seconds:.0f} s.") from error
    said = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        reason = _last(done.stderr.decode("utf-8", "replace")) or _last(said) or f"status {done.returncode}"
        raise WipeFailed(f"{command[0]} {command[1]}: {reason}.")
    return said


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300].rstrip(".") if lines else ""
