"""The sockets of a session: UDP_SEGMENT and UDP_GRO where the kernel has them, else plain datagrams.

Linux only. Nothing is ever bound to an interface that was not chosen by its address.
"""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from .sender import Batch

# From <linux/udp.h>, <asm-generic/socket.h>, <linux/in.h>; Python's socket module does not name them.
UDP_SEGMENT, UDP_GRO = 103, 104
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_MEMINFO = 32, 33, 26, 27, 55
IP_MULTICAST_ALL, IP_MTU_DISCOVER, IP_PMTUDISC_DO = 49, 10, 2
SIOCGIFADDR = 0x8915

# What comes while this machine does something else: 32 MiB are 0.2 s at 1 Gbit/s. Faster links are in
# machines with more memory.
RECEIVE_BUFFER = min(128 << 20, max(32 << 20, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 64))
_SHORTEST_QUEUE, _LONGEST_QUEUE = 256 << 10, 4 << 20
_MESSAGES = 64  # per recvmmsg
_SEND_TIMEOUT = struct.pack("@ll", 1, 0)


def interface_of(address: str) -> str | None:
    """The name of the interface that has this IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("16s16x", name.encode()))
            except OSError:
                continue  # it has no IPv4 address
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def link_mbit(address: str) -> int | None:
    """The speed of the link behind this address in Mbit/s; None if the kernel does not know."""
    name = interface_of(address)
    if name is None:
        return None
    try:
        speed = int(Path("/sys/class/net", name, "speed").read_text())
    except (OSError, ValueError):
        return None
    return speed if speed > 0 else None


def _force_buffer(sock: socket.socket, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        # Without CAP_NET_ADMIN the kernel cuts it to net.core.rmem_max; the price is re-requests.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


class SenderSocket:
    """Sends batches to the group and reads reports, on one port of one interface."""

    def __init__(
        self, interface: str, report_port: int, group: str, port: int, ttl: int = 1, loop: bool = False
    ) -> None:
        """`interface` is an address of ours. Raises OSError if it is not, or the port is taken."""
        self.group = (group, port)
        self.segmenting = True
        self.errors = 0  # datagrams or batches the kernel did not take
        self.last_error: OSError | None = None
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._sock.bind((interface, report_port))
            _force_buffer(self._sock, 4 << 20)
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, loop)
            # Never IP fragments: one lost fragment costs the datagram, and switches drop what they cannot
            # place.
            self._sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            # A full queue of a slower link may slow us down, but not for ever.
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
        except BaseException:
            self._sock.close()
            raise

    @property
    def port(self) -> int:
        """The port that reports come to."""
        port: int = self._sock.getsockname()[1]
        return port

    def fileno(self) -> int:
        """For select."""
        return self._sock.fileno()

    def queue(self, rate: float) -> None:
        """Let the kernel hold 40 ms of a stream of `rate` bits per second, so that we need not be on time.

        The price of a queue is that repairs wait in it; more than that would not fit a card's queue anyway.
        """
        size = min(_LONGEST_QUEUE, max(_SHORTEST_QUEUE, int(rate / 8 * 0.04)))
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, size)
        except PermissionError:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def send(self, batch: Batch) -> bool:
        """Send the batch; False if the kernel did not take all of it (counted, like a loss on the wire)."""
        if batch.segments > 1 and self.segmenting:
            try:
                option = (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("@H", batch.size))
                self._sock.sendmsg(batch.buffers, [option], 0, self.group)
                return True
            except OSError as error:
                if error.errno not in _NO_SEGMENTATION:
                    return self._failed(error)
                self.segmenting = False
        step = len(batch.buffers) // batch.segments
        for start in range(0, len(batch.buffers), step):
            try:
                self._sock.sendmsg(batch.buffers[start : start + step], [], 0, self.group)
            except OSError as error:
                return self._failed(error)
        return True

    def _failed(self, error: OSError) -> bool:
        self.errors += 1
        self.last_error = error
        return False

    def reports(self, most: int = 256) -> Iterator[tuple[bytes, tuple[str, int]]]:
        """The datagrams that are waiting, with their senders."""
        for _ in range(most):
            try:
                yield self._sock.recvfrom(65535, socket.MSG_DONTWAIT)
            except OSError as error:
                if not isinstance(error, BlockingIOError):
                    self._failed(error)
                return

    def close(self) -> None:
        """Release the port."""
        self._sock.close()


# EINVAL, EIO (no checksum offload), EMSGSIZE, EOPNOTSUPP, ENOPROTOOPT: this kernel or device does not
# segment.
_NO_SEGMENTATION = (22, 5, 90, 95, 92)


class _Many:
    """`recvmmsg` into one buffer with a fixed stride: datagrams lie there as if GRO had joined them."""

    def __init__(self, stride: int) -> None:
        self._call = ctypes.CDLL(None, use_errno=True).recvmmsg  # AttributeError on a libc without it
        self.stride = stride
        self.buffer = bytearray(stride * _MESSAGES)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        # struct iovec {base, length}; struct mmsghdr {name, namelen, iov, iovlen, control, controllen, flags,
        # len}
        vectors = b"".join(struct.pack("@PN", base + i * stride, stride) for i in range(_MESSAGES))
        self._vectors = ctypes.create_string_buffer(vectors)
        first, size = ctypes.addressof(self._vectors), struct.calcsize("@PN")
        header = "@PI0PPNPNi0PI0P"
        self._headers = bytearray(
            b"".join(struct.pack(header, 0, 0, first + i * size, 1, 0, 0, 0, 0) for i in range(_MESSAGES))
        )
        self._pointer = (ctypes.c_char * len(self._headers)).from_buffer(self._headers)
        width = struct.calcsize(header) // 4
        place = struct.calcsize("@PI0PPNPNi0P") // 4
        self._lengths = memoryview(self._headers).cast("I")[place::width]

    def receive(self, fd: int) -> list[int]:
        """The sizes of the datagrams now in `buffer`, `stride` apart; empty when none was waiting."""
        count = self._call(fd, self._pointer, _MESSAGES, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (4, 11):  # EINTR, EAGAIN
                return []
            raise OSError(number, os.strerror(number))
        return self._lengths[:count].tolist()


class ReceiverSocket:
    """Hears the group on one interface and sends reports from it."""

    def __init__(
        self, interface: str, group: str, port: int, segment: int, buffer: int = RECEIVE_BUFFER
    ) -> None:
        """`interface` is an address of ours, `segment` the size of a DATA datagram. Raises OSError."""
        self.segment = segment
        self._membership = socket.inet_aton(group) + socket.inet_aton(interface)
        self._view = memoryview(bytearray(1 << 16))
        self._many: _Many | None = None
        self._calls = self._segments = 0
        self._pausing = False
        self._drop_all = ctypes.create_string_buffer(struct.pack("@HBBI", 6, 0, 0, 0))  # BPF: ret 0
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._report = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Bound to the group, so that nothing sent to this host's own address gets in.
            self._sock.bind((group, port))
            self._sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
            _force_buffer(self._sock, buffer)
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, self._membership)
            self._sock.setblocking(False)
            self._report.bind((interface, 0))
            self._report.setblocking(False)
            try:
                self._sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            except OSError:
                self._one_by_one()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """For poll."""
        return self._sock.fileno()

    @property
    def joined_by_kernel(self) -> bool:
        """Whether datagrams come through UDP_GRO (so far)."""
        return self._many is None

    def receive(self) -> list[tuple[memoryview, int]]:
        """What is waiting, as (datagrams end to end, size of each); valid until the next call."""
        if self._many is not None:
            return self._receive_many(self._many)
        try:
            size, ancillary, _, _ = self._sock.recvmsg_into([self._view], 64)
        except BlockingIOError:
            return []
        segment = size
        for _, kind, data in ancillary:
            if kind == UDP_GRO:
                segment = struct.unpack_from("@i", data)[0]
        self._calls += 1
        self._segments += -(-size // max(1, segment))
        if self._calls == 512:
            # Most network cards hand up single datagrams: then many in one call is what spares system calls.
            if self._segments < 2 * self._calls:
                self._one_by_one()
            self._calls = self._segments = 0
        return [(self._view[:size], segment)]

    def _receive_many(self, many: _Many) -> list[tuple[memoryview, int]]:
        sizes = many.receive(self._sock.fileno())
        view, stride = memoryview(many.buffer), many.stride
        if sizes.count(stride) == len(sizes):
            return [(view[: len(sizes) * stride], stride)] if sizes else []
        found = []
        start = 0
        for i, size in enumerate(sizes):
            if size != stride:
                if i > start:
                    found.append((view[start * stride : i * stride], stride))
                found.append((view[i * stride : i * stride + size], size))
                start = i + 1
        if len(sizes) > start:
            found.append((view[start * stride : len(sizes) * stride], stride))
        return found

    def _one_by_one(self) -> None:
        try:
            self._many = _Many(self.segment)
        except AttributeError:
            return
        try:
            self._sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
        except OSError:
            return  # it was never on

    def catch_breath(self) -> bool:
        """Let nothing in while half the kernel's buffer is full, until it is empty; True meanwhile.

        A machine slower than the stream would otherwise keep a full buffer and lose datagrams here and there,
        a few of every chunk, and finish none. This way it gets long whole stretches of the stream.
        """
        used, limit = struct.unpack_from("@II", self._sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))
        if not self._pausing and used > limit // 2:
            program = struct.pack("@HP", 1, ctypes.addressof(self._drop_all))
            self._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
            self._pausing = True
        elif self._pausing and used < limit // 32:
            self._sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            self._pausing = False
        return self._pausing

    def report(self, datagram: bytes, address: tuple[str, int]) -> bool:
        """Send a report; False if the kernel did not take it (the next one follows anyway)."""
        try:
            self._report.sendto(datagram, address)
        except OSError:
            return False
        return True

    def rejoin(self) -> None:
        """Leave the group and join it again: a fresh IGMP report for switches that snoop."""
        # The interface may have lost it with its address; joining is what counts.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, self._membership)
        self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, self._membership)

    def close(self) -> None:
        """Leave the group."""
        self._sock.close()
        self._report.close()
