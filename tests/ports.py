"""A TCP port for a server that is about to start, or to start again: nobody else takes it meanwhile."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

_turns = itertools.count()


def free_port() -> int:
    """A port of loopback that is free now, below those that the kernel gives to whoever asks for any.

    Such a port may be somebody else's a moment later. Tests of other processes begin at other places.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    begin = end // 2
    while True:
        port = begin + (os.getpid() * 97 + next(_turns)) % (end - begin)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
