"""A router's voice: answers IPv6 router solicitations with "there is no IPv6 here", as a site's router would.

Without it, the iPXE in QEMU's network cards (2019) waits 16 s for a router each time before it goes on with
what DHCP gave it long ago (measured). The answer gives no prefix, no default route (lifetime 0) and no
DHCPv6 (flags 0).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from pxeboot.lab import netns

ROUTER_SOLICITATION = 133  # RFC 4861 §4.1
# RFC 4861 §4.2: type 134, code, checksum (the kernel's), hop limit, flags, router lifetime, reachable and
# retrans times.
ADVERTISEMENT = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0)
ALL_NODES, ALL_ROUTERS = "ff02::1", "ff02::2"


class Advertiser:
    """Answers on one interface of a namespace until closed."""

    def __init__(self, namespace: str, interface: str) -> None:
        self._index = netns.index_of(namespace, interface)
        self._socket = netns.socket_in(namespace, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        group = socket.inet_pton(socket.AF_INET6, ALL_ROUTERS) + struct.pack("@I", self._index)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self._index)
        # RFC 4861 §6.1.2: an advertisement that a router could have forwarded is not believed.
        self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="router-advertiser", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._socket.settimeout(0.5)
        while not self._closed.is_set():
            try:
                message = self._socket.recv(2048)
            except TimeoutError:
                continue
            except OSError:
                return
            if message[:1] == bytes([ROUTER_SOLICITATION]):
                # The bridge may have no link-local address yet (duplicate address detection): they ask again.
                with contextlib.suppress(OSError):
                    self._socket.sendto(ADVERTISEMENT, (ALL_NODES, 0, 0, self._index))

    def close(self) -> None:
        """Stop answering."""
        self._closed.set()
        self._thread.join(2)
        self._socket.close()
