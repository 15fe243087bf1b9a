"""Hosts: who they are, which state and group they are in, and how they get a name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlmodel import Session

from pxeboot.services.views import HostView, Page
from pxeboot.settings import Settings


def list_hosts(
    session: Session,
    *,
    state: str | None = None,
    group: str | None = None,
    q: str = "",
    cursor: str | None = None,
    limit: int = 50,
) -> Page[HostView]:
    """Hosts by name. `group` "" means those in no group; `q` looks in name, MAC, serial, UUID, product,
    address. limit 1..500.

    NotFound(group); Invalid for a cursor that is not ours.
    """
    raise NotImplementedError


def get_host(session: Session, key: str | int) -> HostView:
    """One host by name, id, MAC (any usual spelling) or SMBIOS UUID. NotFound(host) with the nearest
    names."""
    raise NotImplementedError


def find_by_identity(session: Session, mac: str, uuid: str = "") -> HostView | None:
    """The host that has this MAC, else (network card replaced) the only one with this SMBIOS UUID, else
    None."""
    raise NotImplementedError


def create_host(
    session: Session,
    *,
    name: str,
    macs: Sequence[str],
    group: str | None = None,
    image: str | None = None,
    state: str = "approved",
    uuid: str = "",
    serial: str = "",
    actor: str = "",
) -> HostView:
    """Add a host by hand. Conflict when the name or a MAC is taken (says by whom); Invalid for a bad
    name or MAC."""
    raise NotImplementedError


def update_host(session: Session, key: str | int, *, actor: str = "", **changes: Any) -> HostView:
    """Change `name`, `group`, `image`, `state`, `macs`, `serial` (only those given; None clears group
    and image)."""
    raise NotImplementedError


def approve_hosts(session: Session, names: Sequence[str | int], *, actor: str = "") -> list[HostView]:
    """Let these hosts be given tasks; already approved ones stay so. NotFound before anything is
    changed."""
    raise NotImplementedError


def set_group(
    session: Session, names: Sequence[str | int], group: str | None, *, actor: str = ""
) -> list[HostView]:
    """Put hosts into a group, or (None) into none."""
    raise NotImplementedError


def delete_host(session: Session, key: str | int, *, actor: str = "") -> None:
    """Forget a host, its MACs, tasks and journal. Conflict while it is busy with a task."""
    raise NotImplementedError


def next_name(session: Session, template: str) -> str:
    """The first free name of a template: `B204-##` → `B204-01`; digits grow past the template's width.
    Invalid without #."""
    raise NotImplementedError


def register(
    session: Session,
    credential: str,
    *,
    name: str | None,
    group: str | None,
    image: str | None,
    settings: Settings,
    now: datetime,
) -> HostView:
    """A machine at the PXE console asks to be known (agent plane). Its identity is the credential's,
    never its word.

    Without a name the next one of the group's template (or the setting's) is allotted in this transaction.
    Unauthorized for a credential that may not register; Conflict for a taken name; NotFound(group|image).
    """
    raise NotImplementedError


def note_seen(
    session: Session, mac: str, *, address: str = "", firmware: str = "", uuid: str = "", now: datetime
) -> None:
    """Remember that a machine was seen (nothing happens for an unknown one)."""
    raise NotImplementedError
