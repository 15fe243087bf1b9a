"""Options of captures and deploys as they are typed, and as the API takes them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pxeboot.errors import Invalid

Partitions = Annotated[
    list[int] | None,
    typer.Option("--partition", help="Only this partition, by number; may be given again.", min=1),
]
Disks = Annotated[
    list[str] | None,
    typer.Option(
        "--disk",
        help="Which disk: only, smallest, largest, serial=…, wwn=…, path=…, size=…, model=…; "
        "one for each disk of the image.",
    ),
]
Whole = Annotated[
    list[str] | None,
    typer.Option(
        help="Take what has no readable map of its used blocks byte for byte: bitlocker, luks, unknown, "
        "dirty …; may be given again."
    ),
]
WindowsFiles = Annotated[
    bool | None,
    typer.Option(
        "--windows-files/--no-windows-files",
        help="Take the content of Windows' page and hibernation files too.",
    ),
]
Grow = Annotated[
    str | None,
    typer.Option(help="On a larger disk: none, last, or the partitions that share the room, like 2,3."),
]
Shrink = Annotated[
    bool | None, typer.Option("--shrink/--no-shrink", help="Shrink file systems to fit a smaller disk.")
]
Identities = Annotated[str | None, typer.Option(help="keep or renew GUIDs and UUIDs.")]
Discard = Annotated[
    bool | None, typer.Option("--discard/--no-discard", help="Tell the disk which of its blocks are unused.")
]
Verify = Annotated[
    bool | None, typer.Option("--verify/--no-verify", help="Read everything back after writing.")
]

Limit = Annotated[
    float | None, typer.Option("--limit", help="Most it may send, in Mbit/s on the wire.", min=0.1)
]
Priority = Annotated[str, typer.Option(help="Its part beside other transfers: low, normal or high.")]


def capture_options(
    partitions: list[int] | None, whole: list[str] | None, windows_files: bool | None
) -> dict[str, Any]:
    """What was given, as the member `capture` of a request."""
    given = {
        "partitions": partitions or None,
        "whole": whole or None,
        "exclude_windows_files": None if windows_files is None else not windows_files,
    }
    return {key: value for key, value in given.items() if value is not None}


def deploy_options(
    partitions: list[int] | None,
    grow: str | None,
    shrink: bool | None,
    identities: str | None,
    discard: bool | None,
    verify: bool | None,
) -> dict[str, Any]:
    """What was given, as the member `deploy` of a request."""
    given = {
        "partitions": partitions or None,
        "grow": _grow(grow) if grow is not None else None,
        "shrink": shrink,
        "identities": identities,
        "discard": discard,
        "verify": verify,
    }
    return {key: value for key, value in given.items() if value is not None}


def with_disks(body: dict[str, Any], section: str, disks: list[str] | None) -> dict[str, Any]:
    """A request with the disks it means: one is the task's own rule, several are the image's disks."""
    rules = [rule(text) for text in disks or []]
    if len(rules) == 1:
        body["disk"] = rules[0]
    elif rules:
        body.setdefault(section, {})["disks"] = rules
    return body


def rule(text: str) -> dict[str, str]:
    """`serial=…` as a rule of a request. Invalid."""
    name, sign, value = text.partition("=")
    if sign and not value:
        raise Invalid(f"--disk {text} says no {name}; write it like {name}=VALUE.")
    return {"rule": name, "value": value} if sign else {"rule": name}


def _grow(text: str) -> str | list[int]:
    parts = text.split(",")
    return [int(part) for part in parts] if all(part.strip().isdecimal() for part in parts) else text
