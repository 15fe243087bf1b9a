"""HTTP's listening sockets, made by us so that a taken port is one clear sentence; and who has a port."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from pxeboot.adapters.interfaces import InterfaceFacts
from pxeboot.doctor import ports
from pxeboot.errors import AppError
from pxeboot.settings import Settings

_BACKLOG: Final = 1024


class ServiceFailed(AppError):
    """A part of the daemon could not start or has died."""

    code: ClassVar[str] = "service-failed"
    title: ClassVar[str] = "Service failed"


def url_of(address: str, port: int) -> str:
    """Our URL at an address of ours."""
    return f"http://{address}" + (f":{port}" if port != 80 else "")


def http_addresses(settings: Settings, interfaces: Sequence[InterfaceFacts]) -> list[str]:
    """Where HTTP listens: http.host, else our address of each interface, else loopback."""
    if settings.http.host:
        return [settings.http.host]
    return [one.address for one in interfaces] or ["127.0.0.1"]


def http_sockets(settings: Settings, interfaces: Sequence[InterfaceFacts]) -> list[socket.socket]:
    """All of them. Raises ServiceFailed; then none is left open."""
    found: list[socket.socket] = []
    try:
        for address in http_addresses(settings, interfaces):
            found.append(_tcp(address, settings.http.port))
        if interfaces and not settings.http.host:
            # For the commands on this machine, which need not know our address. Not ours alone to have.
            with contextlib.suppress(ServiceFailed):
                found.append(_tcp("127.0.0.1", settings.http.port))
        if settings.http.unix_socket:
            found.append(_unix(settings.http.unix_socket))
    except BaseException:
        for one in found:
            one.close()
        raise
    return found


def _tcp(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((address, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise ServiceFailed(
            f"HTTP cannot listen on {address}:{port}: {error.strerror}.{holder('tcp', port)} "
            "Stop what uses it, or set http.host or http.port."
        ) from error
    return made


def _unix(name: str) -> socket.socket:
    path = Path(name)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        made.bind(name)
        os.chmod(path, 0o660)
        made.listen(256)
    except OSError as error:
        made.close()
        raise ServiceFailed(f"http.unix_socket = {name!r} cannot be made: {error.strerror}.") from error
    return made


def is_taken(interface: str, port: int) -> bool:
    """Whether another program has this UDP port where broadcasts of `interface` arrive.

    Asked without SO_REUSEADDR: two DHCP servers that both set it can bind one port, and then unicast
    renewals go to the wrong one.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            probe.bind(("", port))
        except OSError as error:
            return error.errno == 98  # EADDRINUSE; whatever else it is, opening the port will tell
    return False


def holder(protocol: str, port: int) -> str:
    """ " NAME (pid N) has it." as far as we may look, else ""."""
    try:
        held = [one for one in ports.read_sockets() if (one.protocol, one.port) == (protocol, port)]
        found = ports.read_holders({one.inode for one in held})
    except (OSError, ValueError):
        return ""
    names = {
        f"{one.name} (pid {one.pid})" for many in found.values() for one in many if one.pid != os.getpid()
    }
    return f" {' and '.join(sorted(names))} has it." if names else ""
