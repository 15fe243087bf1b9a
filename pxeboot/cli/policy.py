"""What `host set`, `group set` and `menu` share: rules and options as typed, and as a table."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pxeboot.cli.context import options
from pxeboot.cli.output import show
from pxeboot.errors import Invalid

Default = Annotated[
    str | None,
    typer.Option(help='What an idle machine boots: local, windows, linux, menu or entry:NAME; "" inherits.'),
]
LocalBoot = Annotated[
    str | None,
    typer.Option(
        help="How its own disk is started: auto, sanboot, search, firmware, windows, linux or "
        'partition:hd0,gpt3; "" inherits.'
    ),
]
Menu = Annotated[str | None, typer.Option(help='Show the menu: never or always; "" inherits.')]
MenuSeconds = Annotated[
    str | None, typer.Option(help='Seconds until the menu takes its default, 0 for ever; "" inherits.')
]
DhcpOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help='A DHCP option, e.g. ntp-servers=10.0.0.1; "ntp-servers=" removes it.'),
]


def boot_change(
    default: str | None, local_boot: str | None, menu: str | None, menu_seconds: str | None
) -> dict[str, Any]:
    """The member `boot` of a PATCH: what was given, "" as null. Invalid for seconds that are no number."""
    given = {"default": default, "local_boot": local_boot, "menu": menu}
    change: dict[str, Any] = {key: value or None for key, value in given.items() if value is not None}
    if menu_seconds is not None:
        if menu_seconds and not menu_seconds.isdecimal():
            raise Invalid(f"--menu-seconds {menu_seconds} is no number of seconds; write one like 10.")
        change["menu_seconds"] = int(menu_seconds) if menu_seconds else None
    return change


def pairs(given: list[str] | None, option: str, example: str) -> dict[str, str | None]:
    """`name=value` words as a mapping; nothing after the sign is null. Invalid without the sign."""
    found: dict[str, str | None] = {}
    for word in given or []:
        name, sign, value = word.partition("=")
        if not sign or not name.strip():
            raise Invalid(f"{option} {word} has no value; write it like {example}.")
        found[name.strip()] = value.strip() or None
    return found


def show_policy(thing: dict[str, Any]) -> None:
    """What a host or group boots and is told, and who says so."""
    rows = [(key, rule["value"], rule["origin"]) for key, rule in thing["effective_boot"].items()]
    if "reserved_address" in thing:
        rows.append(("address", thing["reserved_address"], "host" if thing["reserved_address"] else ""))
    for name, value in thing["dhcp_options"].items():
        text = ", ".join(value) if isinstance(value, list) else value
        rows.append((f"option {name}", text, "host" if "reserved_address" in thing else "group"))
    show(thing, options.json_output, ("rule", "value", "said by"), rows, title=thing["name"])
