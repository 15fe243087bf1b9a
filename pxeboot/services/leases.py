"""The lease table for people and scripts: who has which address, since when and until when."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Literal, get_args

from sqlmodel import Session, select

from dhcp.leases import Lease
from pxeboot.db.models import Host, HostMac
from pxeboot.errors import Invalid
from pxeboot.services import lookup
from pxeboot.services.views import Page, View

LeaseState = Literal["offered", "bound", "expired", "released", "declined"]
STATES: Final[tuple[LeaseState, ...]] = get_args(LeaseState)
COLUMNS: Final = ("address", "mac", "host", "client_name", "state", "starts", "expires", "subnet")


class LeaseRow(View):
    """One address and the machine it was last given to.

    `host` is the registered host's name, `client_name` what the machine calls itself (option 12): that proves
    nothing. `state` `expired`: bound once, and free for others by now; `declined`: in use by a stranger.
    """

    address: str
    mac: str
    host: str | None
    client_name: str
    state: LeaseState
    starts: datetime
    expires: datetime
    subnet: str


def list_leases(
    session: Session,
    table: Sequence[Lease],
    *,
    now: datetime,
    subnet: str = "",
    state: str = "",
    mac: str = "",
    q: str = "",
    cursor: str | None = None,
    limit: int = 50,
) -> Page[LeaseRow]:
    """By address. `subnet`: in CIDR notation; `q`: part of an address, MAC, host name or client's name."""
    lookup.checked_limit(limit)
    after = lookup.read_cursor(cursor, int)[0] if cursor else -1
    found = rows(session, table, now=now, subnet=subnet, state=state, mac=mac, q=q)
    page = [row for row in found if int(IPv4Address(row.address)) > after]
    more = len(page) > limit
    page = page[:limit]
    return Page(
        items=page, next_cursor=lookup.make_cursor(int(IPv4Address(page[-1].address))) if more else None
    )


def rows(
    session: Session,
    table: Sequence[Lease],
    *,
    now: datetime,
    subnet: str = "",
    state: str = "",
    mac: str = "",
    q: str = "",
) -> list[LeaseRow]:
    """All that match, by address. Invalid for a filter that cannot be meant."""
    if state and state not in STATES:
        raise Invalid(f"{state!r} is no state of a lease; choose {', '.join(STATES)}.", field="state")
    network = _network(subnet)
    wanted = lookup.normal_mac(mac) if mac else ""
    if mac and not wanted:
        raise Invalid(f"{mac!r} is not a MAC address; write it like 52:54:00:12:34:01.", field="mac")
    query = select(HostMac.mac, Host.name).join(Host, Host.id == HostMac.host_id)  # type: ignore[arg-type]
    names: dict[str, str] = dict(session.exec(query).all())
    text = q.strip().lower()
    found = []
    for lease in table:
        row = _row(lease, names, now)
        if (state and row.state != state) or (wanted and row.mac != wanted):
            continue
        if network is not None and IPv4Address(row.address) not in network:
            continue
        if text and not any(
            text in value.lower() for value in (row.address, row.mac, row.host or "", row.client_name)
        ):
            continue
        found.append(row)
    return sorted(found, key=lambda row: int(IPv4Address(row.address)))


def as_csv(found: Iterable[LeaseRow]) -> Iterator[str]:
    """Lines of CSV (RFC 4180) with a heading."""
    yield _line(COLUMNS)
    for row in found:
        yield _line([_cell(getattr(row, name)) for name in COLUMNS])


def subnets_of(table: Iterable[Lease]) -> list[str]:
    """The subnets that have leases, in order."""
    return sorted(
        {lease.subnet for lease in table}, key=lambda name: (_network(name) or IPv4Network(0), name)
    )


def _row(lease: Lease, names: dict[str, str], now: datetime) -> LeaseRow:
    state: LeaseState = lease.state
    if state in ("bound", "offered") and not lease.active(now.timestamp()):
        state = "expired"
    elif state == "declined" and not lease.active(now.timestamp()):
        state = "released"  # out of quarantine
    return LeaseRow(
        address=lease.address,
        mac=lease.mac,
        host=names.get(lease.mac),
        client_name=lease.host_name,
        state=state,
        starts=datetime.fromtimestamp(lease.starts, UTC),
        expires=datetime.fromtimestamp(lease.expires, UTC),
        subnet=lease.subnet,
    )


def _network(text: str) -> IPv4Network | None:
    if not text:
        return None
    try:
        return IPv4Network(text)
    except ValueError:
        raise Invalid(f"{text!r} is not a subnet; write it like 10.20.0.0/24.", field="subnet") from None


def _cell(value: object) -> str:
    """A cell. Machines choose their own names: a spreadsheet must not take one for a formula."""
    text = value.isoformat(timespec="seconds") if isinstance(value, datetime) else str(value or "")
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _line(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()
