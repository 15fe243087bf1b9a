"""The querier's shell: a raw socket and a timer for each interface that faces machines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Iterable

from imaging.multicast.querier import (
    ALL_SYSTEMS,
    IGMP,
    QUERY_SECONDS,
    RESPONSE_SECONDS,
    ROUTER_ALERT,
    BecameQuerier,
    Querier,
)

log = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0  # after the kernel refused
_INTERNETWORK_CONTROL = 0xC0  # type of service of IGMP (RFC 3376 §4)
_IP_OPTIONS = 4  # linux/in.h; Python's socket module has it on some systems only

Note = Callable[[str, str, dict[str, object]], None]


async def run_queriers(
    interfaces: Iterable[tuple[str, str]],
    wanted: Callable[[], bool],
    note: Note,
    *,
    query_seconds: float = QUERY_SECONDS,
    response_seconds: float = RESPONSE_SECONDS,
) -> None:
    """Ask on each (interface, address) while `wanted`, for ever; `note(kind, sentence, data)` is told."""
    async with asyncio.TaskGroup() as group:
        for name, address in interfaces:
            group.create_task(_keep(name, address, wanted, note, query_seconds, response_seconds))


async def _keep(
    interface: str, address: str, wanted: Callable[[], bool], note: Note, every: float, response: float
) -> None:
    refused = ""
    while True:
        if wanted():
            try:
                await _ask(interface, address, wanted, note, every, response)
                refused = ""
            except OSError as error:
                if str(error) != refused:  # told once, tried again
                    refused = str(error)
                    log.warning("no IGMP queries on %s: %s", interface, error.strerror or error)
                    sentence = f"IGMP queries cannot be sent on {interface}: {error.strerror or error}."
                    note("multicast.querier-failed", sentence, {"interface": interface})
        await asyncio.sleep(AGAIN_SECONDS)


async def _ask(
    interface: str, address: str, wanted: Callable[[], bool], note: Note, every: float, response: float
) -> None:
    """Until it is not wanted any more. Raises OSError."""
    loop = asyncio.get_running_loop()
    querier = Querier(address, loop.time(), query_seconds=every, response_seconds=response)
    with _open(interface, address) as line:
        while wanted():
            now = loop.time()
            querier.handle_timer(now)
            for message in querier.datagrams_to_send(now):
                line.sendto(message, (ALL_SYSTEMS, 0))
            for event in querier.events():
                if isinstance(event, BecameQuerier):
                    sentence = f"We ask for IGMP memberships on {interface}."
                    note("multicast.querier-started", sentence, {"interface": interface})
                else:
                    sentence = f"{event.address} asks for IGMP memberships on {interface}; we are silent."
                    data: dict[str, object] = {"interface": interface, "querier": event.address}
                    note("multicast.querier-silent", sentence, data)
            # At least now and then: the setting may have been changed.
            pause = min(max(0.0, querier.next_timer() - loop.time()), AGAIN_SECONDS)
            with contextlib.suppress(TimeoutError):
                packet = await asyncio.wait_for(loop.sock_recv(line, 2048), pause)
                querier.receive(packet, loop.time())


def _open(interface: str, address: str) -> socket.socket:
    """Raises OSError: not root, no such interface."""
    line = socket.socket(socket.AF_INET, socket.SOCK_RAW, IGMP)
    try:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        line.setsockopt(socket.IPPROTO_IP, _IP_OPTIONS, ROUTER_ALERT)
        line.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _INTERNETWORK_CONTROL)
        line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        index = socket.if_nametoindex(interface)
        request = struct.pack("=4s4si", bytes(4), socket.inet_aton(address), index)
        line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
        line.setblocking(False)
    except BaseException:
        line.close()
        raise
    return line
