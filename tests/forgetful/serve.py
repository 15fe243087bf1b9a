"""The process that is a forgetful disk: one regular file, served to the kernel through FUSE.

``python -m tests.forgetful.serve MEDIUM STATE SEED STOP FILE``. FILE becomes the disk. At the request number
STOP to write or to flush (0 = never) it stops answering: there it waits for the end.

libfuse's servers flush when a file is closed, which a drive does not, so the few requests of a single file
are answered here. Numbers and structures: linux/fuse.h, protocol 7.31.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import sys

from tests.forgetful.cache import BLOCK, Cache

_FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE = 2, 3, 4, 14, 15, 16, 17, 18
_FSYNC, _INIT, _INTERRUPT, _DESTROY, _BATCH_FORGET = 20, 26, 36, 38, 42
_HEADER = struct.Struct("<IIQQIIIHH")  # len, opcode, unique, node, uid, gid, pid, extensions
_UNANSWERED = (_FORGET, _INTERRUPT, _BATCH_FORGET)
_LARGEST = 1 << 20
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22
_SIZE_CHANGES = 1 << 3  # FATTR_SIZE
_NOSUID, _NODEV = 2, 4


class Refused(Exception):
    """The error number that the kernel gets."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class Server:
    """Answers requests; the file's size is the medium's and never changes."""

    def __init__(self, cache: Cache, size: int, state: int, stop: int) -> None:
        self._cache, self._size, self._state, self._stop = cache, size, state, stop
        self._requests = 0

    def answer(self, opcode: int, body: bytes) -> bytes:
        """The answer to a request. Raises Refused."""
        if opcode in (_WRITE, _FSYNC):
            self._requests += 1
            os.pwrite(self._state, self._requests.to_bytes(8, "little"), 8)
            while self._requests == self._stop:
                signal.pause()
        if opcode == _READ:
            _, offset, length = struct.unpack_from("<QQI", body)
            return self._cache.read(offset, length)
        if opcode == _WRITE:
            _, offset, length = struct.unpack_from("<QQI", body)
            if offset + length > self._size:
                raise Refused(errno.ENOSPC)
            self._cache.write(offset, body[40 : 40 + length])
            return struct.pack("<II", length, 0)
        if opcode == _FSYNC:
            self._cache.flush()
            return b""
        if opcode == _GETATTR or (opcode == _SETATTR and not body[0] & _SIZE_CHANGES):
            return self._attributes()
        if opcode == _OPEN:
            return struct.pack("<QII", 0, 0, 0)
        if opcode == _STATFS:
            return struct.pack("<5Q4I24x", 0, 0, 0, 1, 0, BLOCK, 255, BLOCK, 0)
        if opcode == _INIT:
            major, _, readahead = struct.unpack_from("<III", body)
            flags = _BIG_WRITES | _MAX_PAGES
            return struct.pack(
                "<IIIIHHIIHH32x", major, 31, readahead, flags, 16, 12, _LARGEST, 1, _LARGEST // 4096, 0
            )
        if opcode in (_RELEASE, _DESTROY):
            return b""  # closing a file is no reason for a drive to write anything
        raise Refused(errno.ENOSYS)

    def _attributes(self) -> bytes:
        attributes = struct.pack("<6Q", 1, self._size, self._size // 512, 0, 0, 0)
        attributes += struct.pack("<10I", 0, 0, 0, stat.S_IFREG | 0o600, 1, 0, 0, 0, BLOCK, 0)
        return struct.pack("<QII", 3600, 0, 0) + attributes


def main(medium: str, state: str, seed: str, stop: str, place: str) -> None:
    fd, told = os.open(medium, os.O_RDWR), os.open(state, os.O_RDWR)
    server = Server(Cache(fd, told, int(seed)), os.fstat(fd).st_size, told, int(stop))
    kernel = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={kernel},rootmode={stat.S_IFREG | 0o600:o},user_id=0,group_id=0"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"forgetful", place.encode(), b"fuse", _NOSUID | _NODEV, options.encode()):
        raise OSError(ctypes.get_errno(), "mounting a FUSE file")
    while True:
        try:
            request = os.read(kernel, _LARGEST + (64 << 10))
        except OSError as error:
            if error.errno == errno.ENODEV:  # unmounted
                return
            if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                continue
            raise
        length, opcode, unique = _HEADER.unpack_from(request)[:3]
        if opcode in _UNANSWERED:
            continue
        try:
            number, body = 0, server.answer(opcode, request[_HEADER.size : length])
        except Refused as refused:
            number, body = refused.number, b""
        os.write(kernel, struct.pack("<IiQ", 16 + len(body), -number, unique) + body)


if __name__ == "__main__":
    main(*sys.argv[1:])
