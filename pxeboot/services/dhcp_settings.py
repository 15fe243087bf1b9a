"""What DHCP tells one machine or one group: its reserved address, and options by name."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address

from sqlmodel import Session, col, select

from dhcp.catalog import OPTION_NAMES, OptionError, format_option, parse_option
from pxeboot.db.models import Group, Host
from pxeboot.errors import Conflict, Invalid


def reserve(session: Session, row: Host, address: str | None) -> str:
    """Give a host an address of its own, or (None, "") none. Returns what was done, for the journal.

    Whether the address lies in a subnet that we serve is known where the subnets are: elsewhere it has no
    effect. Invalid for what is no machine's address; Conflict when another host has it.
    """
    wanted = _checked_address(address.strip()) if address and address.strip() else ""
    if wanted == row.reserved_address:
        return ""
    if wanted:
        with session.no_autoflush:
            query = select(Host).where(col(Host.reserved_address) == wanted, Host.id != row.id)
            other = session.exec(query).first()
        if other is not None:
            raise Conflict(
                f"{wanted} is reserved for {other.name} already; choose another address.",
                field="reserved_address",
                host=other.name,
            )
    row.reserved_address = wanted
    return f"reserved address {wanted}" if wanted else "no reserved address"


def change_options(row: Host | Group, wanted: Mapping[str, object] | None) -> str:
    """Set the options that are given; None or "" removes one, no mapping at all removes all of them.

    An option is named by name or number and kept by name, with its value as the catalogue writes it. Returns
    what was done, for the journal. Invalid with the field and the remedy.
    """
    before = dict(row.dhcp_options)
    after = dict(before) if wanted is not None else {}
    for key, value in (wanted or {}).items():
        if value is None or value == "":
            after.pop(_our_name(key), None)
            continue
        name, clean = checked_option(key, value)
        after[name] = clean
    row.dhcp_options = after
    done = [
        f"option {name} {option_text(after[name])}" if name in after else f"no option {name}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return ", ".join(done)


def checked_option(key: str, value: object) -> tuple[str, object]:
    """An option's name and value as we keep them. Invalid with the field and the remedy."""
    try:
        return format_option(*parse_option(key, value))
    except OptionError as error:
        raise Invalid(str(error), field=f"dhcp_options.{key}") from error


def option_text(value: object) -> str:
    """An option's value on one line, as people write it and `checked_option` takes it."""
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _our_name(key: str) -> str:
    known = key.strip().lower().replace("_", "-")
    rows = OPTION_NAMES.values()
    return next((row.name for row in rows if known in (str(row.code), *row.aliases)), known)


def _checked_address(text: str) -> str:
    try:
        address = IPv4Address(text)
    except ValueError:
        raise Invalid(
            f"{text!r} is not an IPv4 address; write it like 10.20.0.31.", field="reserved_address"
        ) from None
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_reserved:
        raise Invalid(f"{address} is not the address of one machine.", field="reserved_address")
    return str(address)
