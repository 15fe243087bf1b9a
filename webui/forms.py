"""What forms send, as services take it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pxeboot.errors import Invalid


def boot_rules(default: str, local_boot: str, menu: str, menu_seconds: str) -> dict[str, Any]:
    """All four rules of a form; an empty field inherits. Invalid for seconds that are no number."""
    seconds = menu_seconds.strip()
    if seconds and not (seconds.isascii() and seconds.isdecimal()):
        raise Invalid(f"{seconds!r} is no number of seconds; write one like 10.", field="boot.menu_seconds")
    return {
        "default": default or None,
        "local_boot": local_boot.strip() or None,
        "menu": menu or None,
        "menu_seconds": int(seconds) if seconds else None,
    }


def dhcp_options(text: str, known: Iterable[str]) -> dict[str, Any]:
    """The options of a text area, one `name = value` a line; those `known` that are gone become None.

    Invalid for a line without a sign.
    """
    found: dict[str, Any] = dict.fromkeys(known)
    for line in text.splitlines():
        if not line.strip():
            continue
        name, sign, value = line.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise Invalid(
                f"{line.strip()!r} is no option; write one a line, like ntp-servers = 10.0.0.1.",
                field="dhcp_options",
            )
        found[name.strip()] = value.strip()
    return found
