"""What forms send, as services take it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from pxeboot.errors import Invalid
from pxeboot.services.customise_rules import CustomiseRules
from pxeboot.transfer.arbiter import PRIORITIES


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


def number(text: str, field: str) -> int:
    """A number; Invalid for anything else."""
    if not (text.strip().isascii() and text.strip().isdecimal()):
        raise Invalid(f"{text.strip()!r} is no number.", field=field)
    return int(text)


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


def mbit(text: str) -> float | None:
    """A limit in Mbit/s; None for an empty field. Invalid for anything but a number above 0."""
    text = text.strip().replace(",", ".")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1_000_000:
        raise Invalid(f"{text!r} is no limit; write a number of Mbit/s like 100.", field="limit_mbit")
    return value


def priority(text: str) -> str:
    """One of the three. Invalid for another."""
    if text not in PRIORITIES:
        raise Invalid(f"{text!r} is no priority; choose low, normal or high.", field="priority")
    return text


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


#: The fields of the form "after the image": yes/no/inherit, texts, and lists of one a line.
CUSTOMISE_FLAGS = (
    "hostname", "linux.machine_id", "linux.ssh_host_keys", "linux.random_seed",
    "windows.drivers", "windows.install_drivers",
)  # fmt: skip
CUSTOMISE_TEXTS = (
    "windows.name", "windows.time_zone", "windows.locale", "windows.language", "windows.keyboard",
    "windows.owner", "windows.organization", "windows.drivers_path",
    "windows.join.domain", "windows.join.ou", "windows.join.user", "windows.join.password",
    "windows.join.blob",
)  # fmt: skip
EMPTY_CUSTOMISE = dict.fromkeys((*CUSTOMISE_FLAGS, *CUSTOMISE_TEXTS, "scripts", "files", "variables"), "")


def customise_form(rules: CustomiseRules) -> dict[str, str]:
    """Rules as the fields of a form; "" inherits."""
    said = rules.said()
    words = {True: "yes", False: "no"}
    found = dict(EMPTY_CUSTOMISE)
    for key in (*CUSTOMISE_FLAGS, *CUSTOMISE_TEXTS):
        value: Any = said
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        found[key] = words[value] if isinstance(value, bool) else str(value or "")
    found["scripts"] = "\n".join(
        ("!" if use.off else "") + shlex.join([use.name, *use.arguments]) for use in rules.scripts
    )
    found["files"] = "\n".join(("!" if use.off else "") + use.name for use in rules.files)
    found["variables"] = "\n".join(f"{key} = {value}" for key, value in rules.variables.items())
    return found


def customise_rules(form: Mapping[str, str], before: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of a form; what a form cannot say of a script (its environment, limit) stays as it was.

    Invalid for a line that makes no sense.
    """
    made: dict[str, Any] = {}
    words: dict[str, Any] = {"yes": True, "no": False}
    for key in (*CUSTOMISE_FLAGS, *CUSTOMISE_TEXTS):
        text = form.get(key, "").strip()
        if text:
            *above, last = key.split(".")
            place = made
            for part in above:
                place = place.setdefault(part, {})
            place[last] = words.get(text, text) if key in CUSTOMISE_FLAGS else text
    known = {use["name"]: use for use in before.get("scripts", [])}
    made["scripts"] = [_script_use(line, known) for line in _lines(form, "scripts")]
    made["files"] = [
        {"name": line.removeprefix("!").strip(), "off": line.startswith("!")}
        for line in _lines(form, "files")
    ]
    made["variables"] = {}
    for line in _lines(form, "variables"):
        name, sign, value = line.partition("=")
        if not sign:
            raise Invalid(f"{line!r} is no variable; write one a line, like room = 204.", field="variables")
        made["variables"][name.strip()] = value.strip()
    return made


def _lines(form: Mapping[str, str], key: str) -> list[str]:
    return [line.strip() for line in form.get(key, "").splitlines() if line.strip()]


def _script_use(line: str, known: Mapping[str, Any]) -> dict[str, Any]:
    try:
        words = shlex.split(line.removeprefix("!"))
    except ValueError as error:
        raise Invalid(f"{line!r}: {error}. Close the quotes.", field="scripts") from error
    name = words[0] if words else ""
    return {**known.get(name, {}), "name": name, "arguments": words[1:], "off": line.startswith("!")}
