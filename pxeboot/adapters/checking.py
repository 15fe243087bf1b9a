"""`pxeboot check`: the whole configuration against this machine, without binding anything.

Reading and judging the file is the settings' work, fitting it to the interfaces the plan's; here it is put
together, with the directories, boot files and ports that the daemon will want.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from pxeboot.adapters.interfaces import InterfaceFacts, key_of, look
from pxeboot.adapters.plan import make_plan, together, with_source
from pxeboot.doctor import ports
from pxeboot.doctor.site import BOOT_ENVIRONMENT, FIRST_FILES, site_of
from pxeboot.errors import ConfigError
from pxeboot.settings import Mistake, Settings, read


@dataclass(frozen=True)
class Checked:
    """Every mistake that was found, errors before warnings; `file`: what was read, None: only defaults."""

    file: Path | None
    mistakes: tuple[Mistake, ...]

    @property
    def ok(self) -> bool:
        """Whether the daemon would start."""
        return not any(one.level == "error" for one in self.mistakes)

    def to_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "file": str(self.file) if self.file else None,
            "ok": self.ok,
            "mistakes": [one.to_dict() for one in self.mistakes],
        }


async def check(path: Path | None = None) -> Checked:
    """Look at everything. A file that is no TOML is the one mistake told."""
    try:
        reading = await asyncio.to_thread(read, path)
    except ConfigError as error:
        return Checked(path, (Mistake("", None, error.sentence.rstrip("."), "then check again"),))
    settings = reading.settings
    interfaces, absent = await look(settings)
    found = [
        *together([*reading.mistakes, *absent], make_plan(settings, interfaces), reading.file),
        *with_source(
            [
                *_links(settings, interfaces),
                *_folders(settings),
                *_boot_files(settings),
                *await asyncio.to_thread(lambda: list(_ports(settings, interfaces))),
            ],
            reading.file,
        ),
    ]
    return Checked(reading.file, tuple(sorted(found, key=lambda one: one.level != "error")))


def _links(settings: Settings, interfaces: Sequence[InterfaceFacts]) -> Iterator[Mistake]:
    for one in interfaces:
        key, value = key_of(settings, one.name)
        if not one.up:
            yield Mistake(key, value, "is down", f"switch it on: `ip link set {one.name} up`", "warning")
        elif not one.running:
            yield Mistake(key, value, "has no link", "look at cable and switch", "warning")


def _folders(settings: Settings) -> Iterator[Mistake]:
    for key, path in (
        ("server.data_dir", settings.server.data_dir),
        ("images.store_dir", settings.store_dir),
    ):
        if key == "images.store_dir" and settings.images.store_dir is None:
            continue
        if trouble := _not_writable(path):
            yield Mistake(key, str(path), trouble, "make it writable for us, or name another directory")
    socket = settings.http.unix_socket
    if socket and (trouble := _not_writable(Path(socket).parent)):
        yield Mistake(
            "http.unix_socket", socket, trouble, "name a socket in a directory that we may write to"
        )


def _not_writable(path: Path) -> str:
    """Why a directory cannot be used or made, "" when it can."""
    try:
        here = path
        while not here.exists():
            if here == here.parent:
                return "cannot be made"
            here = here.parent
        if not here.is_dir():
            return f"cannot be a directory: {here} is a file"
        if not os.access(here, os.W_OK | os.X_OK):
            return "is not writable" if here == path else f"cannot be made: {here} is not writable"
    except (OSError, ValueError) as error:
        return f"cannot be looked at: {error}"
    return ""


def _boot_files(settings: Settings) -> Iterator[Mistake]:
    if not settings.network.interface:
        return
    for firmware, names in {**FIRST_FILES, "": BOOT_ENVIRONMENT}.items():
        try:
            lacking = [name for name in names if not (settings.boot_dir / name).is_file()]
        except (OSError, ValueError):
            return  # told by the directory's own check
        if lacking:
            who = f"{firmware} machines cannot boot" if firmware else "no machine can run a task"
            yield Mistake(
                "server.data_dir",
                str(settings.server.data_dir),
                f"has no {' and '.join(f'boot/{name}' for name in lacking)}: {who}",
                "run `pxeboot bootenv build`",
                "warning",
            )


_PORT_KEYS = {"DHCP": "dhcp.mode", "PXE": "dhcp.mode", "TFTP": "tftp.port", "HTTP": "http.port"}


def _ports(settings: Settings, interfaces: Sequence[InterfaceFacts]) -> Iterator[Mistake]:
    """Ports that another program has. Our own daemon, running already, is no mistake."""
    own = [(one.name, IPv4Interface(f"{one.address}/{one.network.prefixlen}")) for one in interfaces]
    wanted = ports.needs(site_of(settings, own), [one.address for one in interfaces])
    held = ports.read_sockets()
    try:
        holders = ports.read_holders({one.inode for one in held})
    except OSError:
        holders = {}
    by_key = {
        "dhcp.mode": settings.dhcp.mode,
        "tftp.port": settings.tftp.port,
        "http.port": settings.http.port,
    }
    for need in wanted:
        for found in ports.judge([need], held, holders, True):
            if found.level not in ("error", "warning") or not found.data.get("addresses"):
                continue  # free, or our own
            key = _PORT_KEYS[need.what]
            # A proxy on port 4011 alone is less, but it works.
            shared = need.what == "DHCP" and settings.dhcp.mode == "proxy"
            who = found.data.get("holders") or ["another program"]
            what = f"needs {need.protocol.upper()} port {need.port}, which {' and '.join(who)} has"
            remedy = found.remedy.rstrip(".") or "stop it, or have it listen on another interface"
            yield Mistake(key, by_key[key], what, remedy, "warning" if shared else "error")
