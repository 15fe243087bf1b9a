"""What has arrived at a socket, with one system call: recvmmsg(2), which Python's socket module lacks.

Taking datagrams one by one cost a busy DHCP server a seventh of its time. Answers still leave one by one: a
thread that gave batches of them to sendmmsg(2) was tried, and did not pay for its waits for the interpreter.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Final

_SIZE: Final = 2048  # a datagram of DHCP fits in an Ethernet frame
_PKTINFO: Final = 12
_CONTROL: Final = socket.CMSG_SPACE(_PKTINFO)
_CONTROL_START: Final = socket.CMSG_LEN(0)
_NAME: Final = struct.Struct("=H2s4s8x")  # sockaddr_in, ip(7)
_DONTWAIT: Final = 0x40  # MSG_DONTWAIT


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):  # struct mmsghdr with its struct msghdr
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iovec", ctypes.c_void_p),
        ("iovecs", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("length", ctypes.c_uint32),
    )


# msghdr ends on a word of its own, so `length` comes after its padding.
_PACKED: Final = struct.Struct("=QI4xQQQQi4xI4x")
_WORD: Final = struct.Struct("=I")
_LENGTH_AT: Final = _PACKED.size - 8
_CONTROL_LENGTH_AT: Final = _Header.control_length.offset
# The layout above is that of 64-bit Linux, where all our servers are; elsewhere datagrams go one by one.
USABLE: Final = ctypes.sizeof(ctypes.c_void_p) == 8 and ctypes.sizeof(_Header) == 56

_libc = ctypes.CDLL(None, use_errno=True)


class Inbox:
    """Takes what arrived at a non-blocking IPv4 UDP socket that asks for IP_PKTINFO."""

    COUNT: Final = 64

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._data = bytearray(self.COUNT * _SIZE)
        self._names = bytearray(self.COUNT * _NAME.size)
        self._controls = bytearray(self.COUNT * _CONTROL)
        self._iovecs = (_Iovec * self.COUNT)()
        data, names, controls = (_address(one) for one in (self._data, self._names, self._controls))
        for index in range(self.COUNT):
            self._iovecs[index].base = data + index * _SIZE
            self._iovecs[index].length = _SIZE
        first = ctypes.addressof(self._iovecs)
        each = ctypes.sizeof(_Iovec)
        # The kernel writes into the headers: each call begins with a fresh copy.
        self._fresh = b"".join(
            _PACKED.pack(
                names + index * _NAME.size, _NAME.size, first + index * each, 1,
                controls + index * _CONTROL, _CONTROL, 0, 0,
            )
            for index in range(self.COUNT)
        )  # fmt: skip
        self._headers = bytearray(self._fresh)
        self._first = _address(self._headers)

    def take(self) -> list[tuple[bytes, bytes, bytes]]:
        """Up to `COUNT` datagrams: (payload, IP_PKTINFO or b"", sender's sockaddr_in). Raises OSError."""
        self._headers[:] = self._fresh
        got = _libc.recvmmsg(self._socket.fileno(), ctypes.c_void_p(self._first), self.COUNT, _DONTWAIT, None)
        if got < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        taken = []
        data, names, controls, headers = self._data, self._names, self._controls, self._headers
        for index in range(got):
            at = index * _PACKED.size
            (length,) = _WORD.unpack_from(headers, at + _LENGTH_AT)
            start, control, name = index * _SIZE, index * _CONTROL, index * _NAME.size
            info = b""
            if headers[at + _CONTROL_LENGTH_AT]:
                info = bytes(controls[control + _CONTROL_START : control + _CONTROL_START + _PKTINFO])
            taken.append((bytes(data[start : start + length]), info, bytes(names[name : name + 8])))
        return taken


class PlainInbox:
    """`Inbox` where the structures of 64-bit Linux are not: one system call for each datagram."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def take(self) -> list[tuple[bytes, bytes, bytes]]:
        """As `Inbox.take`."""
        taken = []
        for _ in range(Inbox.COUNT):
            try:
                data, ancillary, _, (address, port) = self._socket.recvmsg(_SIZE, _CONTROL)
            except (BlockingIOError, InterruptedError):
                break
            info = ancillary[0][2] if ancillary else b""
            name = _NAME.pack(socket.AF_INET, port.to_bytes(2, "big"), socket.inet_aton(address))
            taken.append((data, info, name[:8]))
        return taken


def sender(name: bytes) -> tuple[str, int]:
    """(address, port) of a sockaddr_in."""
    return socket.inet_ntoa(name[4:8]), int.from_bytes(name[2:4], "big")


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
