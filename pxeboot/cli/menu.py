"""`pxeboot menu …`: the entries of the boot menus."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from pxeboot.boot.rules import ENTRY_KINDS
from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show
from pxeboot.cli.policy import pairs
from pxeboot.errors import Invalid

app = typer.Typer(no_args_is_help=True)
Entry = Annotated[str, typer.Argument(help="Name of the entry, a word.")]
Kind = Annotated[str | None, typer.Option(help=f"What it starts: {', '.join(ENTRY_KINDS)}.")]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", help="What its kind needs, e.g. kernel=rescue/vmlinuz; may be given again."),
]
Group = Annotated[str | None, typer.Option(help='Whose machines see it; "" for all machines.')]
Firmware = Annotated[str | None, typer.Option(help='bios or uefi; "" for both.')]
Position = Annotated[int | None, typer.Option(help="Place in the menu, 0 to 100000.")]
Key = Annotated[str | None, typer.Option(help='A letter or digit that starts it at once; "" for none.')]
Hidden = Annotated[
    bool | None, typer.Option("--hidden/--listed", help="Reached by its key alone, or listed.")
]
On = Annotated[bool | None, typer.Option("--on/--off", help="In the menus, or kept out of them.")]


@app.command("list")
def list_(group: Annotated[str, typer.Option(help="Only what this group's machines see.")] = "") -> None:
    """List the entries in the order of the menus."""
    entries = options.api().pages("/boot-entries", group=group)
    columns = ("name", "title", "kind", "for", "firmware", "key", "notes")
    rows = [
        (
            e["name"],
            e["title"],
            e["kind"],
            e["group"] or "all machines",
            e["firmware"] or "both",
            e["key"],
            _notes(e),
        )
        for e in entries
    ]
    show(entries, options.json_output, columns, rows)


@app.command("show")
def show_(name: Entry) -> None:
    """Show all of an entry but its password."""
    print_json(options.api().get(f"/boot-entries/{name}"))


@app.command()
def add(
    name: Entry,
    title: Annotated[str, typer.Argument(help="What people read.")],
    kind: Annotated[str, typer.Option(help=f"What it starts: {', '.join(ENTRY_KINDS)}.")],
    param: Params = None,
    group: Group = None,
    firmware: Firmware = None,
    position: Position = None,
    key: Key = None,
    hidden: Hidden = None,
    on: On = None,
    password: Annotated[bool, typer.Option("--password", help="Protect it; the password is asked.")] = False,
) -> None:
    """Add an entry; it goes last unless --position says otherwise."""
    body = _changes(kind, param, group, firmware, position, key, hidden, on)
    body |= {"name": name, "title": title}
    if password:
        body["password"] = _ask_password()
    _show(options.api().call("POST", "/boot-entries", json=body).json())


@app.command()
def change(
    name: Entry,
    rename: Annotated[str | None, typer.Option(help="New name.")] = None,
    title: Annotated[str | None, typer.Option(help="What people read.")] = None,
    kind: Kind = None,
    param: Params = None,
    group: Group = None,
    firmware: Firmware = None,
    position: Position = None,
    key: Key = None,
    hidden: Hidden = None,
    on: On = None,
) -> None:
    """Change an entry; what is not named stays. A parameter without a value is removed."""
    api = options.api()
    body = _changes(kind, param, group, firmware, position, key, hidden, on)
    body |= {k: v for k, v in {"name": rename, "title": title}.items() if v is not None}
    if param:
        kept = {} if kind else api.get(f"/boot-entries/{name}")["params"]
        body["params"] = {k: v for k, v in {**kept, **pairs(param, "--param", "file=x.efi")}.items() if v}
    _show(api.call("PATCH", f"/boot-entries/{name}", json=body).json())


@app.command()
def password(
    name: Entry,
    clear: Annotated[bool, typer.Option("--clear", help="Take the password away.")] = False,
) -> None:
    """Protect an entry by a password, asked or read from a pipe."""
    body = {"password": None if clear else _ask_password()}
    _show(options.api().call("PATCH", f"/boot-entries/{name}", json=body).json())


@app.command()
def remove(names: Annotated[list[str], typer.Argument(help="Names of entries.")]) -> None:
    """Remove entries."""
    api = options.api()
    for name in names:
        api.call("DELETE", f"/boot-entries/{name}")
        console.print(f"{name}: removed")


@app.command()
def preview(
    group: Annotated[str, typer.Option(help="Of this group's machines; else of machines in no group.")] = "",
    firmware: Annotated[str, typer.Option(help="bios or uefi.")] = "uefi",
) -> None:
    """Print what a machine's menu looks like."""
    menu = options.api().get("/boot-menu", group=group, firmware=firmware)
    if options.json_output:
        print_json(menu)
        return
    console.out(menu["text"], highlight=False)
    if not menu["shown"]:
        console.print(f"\nIdle machines do not show it: {menu['reason']}", markup=False)


def _changes(
    kind: str | None,
    param: list[str] | None,
    group: str | None,
    firmware: str | None,
    position: int | None,
    key: str | None,
    hidden: bool | None,
    on: bool | None,
) -> dict[str, Any]:
    params = {k: v for k, v in pairs(param, "--param", "kernel=rescue/vmlinuz").items() if v}
    given = {
        "kind": kind,
        "params": params or None,
        "firmware": firmware,
        "position": position,
        "key": key,
        "hidden": hidden,
        "enabled": on,
    }
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if group is not None:
        body["group"] = group or None
    return body


def _ask_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first: str = typer.prompt("Password", hide_input=True)
    if typer.prompt("Again", hide_input=True) != first:
        raise Invalid("The two passwords differ; nothing was changed.")
    return first


def _notes(entry: dict[str, Any]) -> str:
    said = (
        ("off", not entry["enabled"]),
        ("hidden", entry["hidden"]),
        ("password", entry["protected"]),
    )
    return ", ".join(word for word, holds in said if holds)


def _show(entry: dict[str, Any]) -> None:
    rows = [(name, value) for name, value in entry.items() if name not in ("id", "params", "created_at")]
    rows += [(f"param {name}", value) for name, value in entry["params"].items()]
    show(entry, options.json_output, ("what", "value"), rows)
