"""What forms send, as services take it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def numbers(text: str, field: str) -> list[int] | None:
    """Partitions like `2, 3`; None for an empty field. Invalid for anything else."""
    parts = text.replace(",", " ").split()
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise Invalid(f"{text.strip()!r} names no partitions; write their numbers, like 2, 3.", field=field)
    return [int(part) for part in parts] or None


def grow(text: str) -> str | list[int] | None:
    """`none`, `last`, or partitions; None for an empty field. Invalid for anything else."""
    text = text.strip()
    return text or None if text in ("", "none", "last") else numbers(text, "deploy.grow")


def _choice(text: str) -> bool | None:
    return {"yes": True, "no": False}.get(text)


def deploy_options(form: Mapping[str, str], *, with_partitions: bool = True) -> dict[str, Any]:
    """What the fields of `deploy_options.html` say; an empty one leaves it to the image. Invalid."""
    said = {
        "partitions": numbers(form.get("partitions", ""), "deploy.partitions") if with_partitions else None,
        "grow": grow(form.get("grow", "")),
        "shrink": _choice(form.get("shrink", "")),
        "identities": form.get("identities") or None,
        "discard": _choice(form.get("discard", "")),
        "verify": _choice(form.get("verify", "")),
    }
    return {key: value for key, value in said.items() if value is not None}


def capture_options(form: Mapping[str, str], whole: Iterable[str]) -> dict[str, Any]:
    """What the fields of `capture_options.html` say. Invalid."""
    said: dict[str, Any] = {
        "partitions": numbers(form.get("partitions", ""), "capture.partitions"),
        "whole": list(whole) or None,
        "exclude_windows_files": _choice(form.get("exclude_windows_files", "")),
    }
    return {key: value for key, value in said.items() if value is not None}


def disk_rule(form: Mapping[str, str]) -> dict[str, str]:
    """Which disk; the only one unless the form says another."""
    rule = form.get("rule") or "only"
    value = form.get("disk", "").strip()
    return {"rule": rule, "value": value} if value else {"rule": rule}


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
