"""Commands that run or describe this machine's own server: `serve`, `check`, `reload`, `settings`,
`password`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from pxeboot import settings as settings_module
from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, print_table

Config = Annotated[Path | None, typer.Option(help="Settings file.", envvar="PXEBOOT_CONFIG")]


def serve(config: Config = None) -> None:
    """Run the daemon in the foreground."""
    from pxeboot import main

    path = config or options.config
    loaded = settings_module.load(path)
    raise typer.Exit(main.serve(loaded, path))


def check(
    config: Config = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of sentences.")] = False,
) -> None:
    """Check the whole configuration; every mistake is named with file, key, value and remedy.

    Looks at this machine (interfaces, directories, boot files, ports) and binds nothing. Exit status 2:
    the daemon would not start.
    """
    from pxeboot.adapters.checking import check as look

    found = asyncio.run(look(config or options.config))
    if json_output or options.json_output:
        print_json(found.to_dict())
    else:
        for one in found.mistakes:
            where = f"{one.source}: " if one.source else ""
            console.out(f"{one.level}: {where}{one.sentence}", highlight=False)
        errors = sum(one.level == "error" for one in found.mistakes)
        warnings = len(found.mistakes) - errors
        console.print("the settings are right" if found.ok else f"{errors} to correct", end="")
        console.print(f", {warnings} to think about" if warnings else "")
    raise typer.Exit(0 if found.ok else 2)


def reload() -> None:
    """Have the running daemon read its settings again (as SIGHUP does); a bad file changes nothing."""
    answer = options.api().call("POST", "/settings:reload").json()
    if options.json_output:
        print_json(answer)
        return
    console.print(f"changed: {', '.join(answer['changed']) or 'nothing'}")
    if answer["kept"]:
        console.print(f"only a restart changes: {', '.join(answer['kept'])}")
    for warning in answer["warnings"]:
        console.out(f"warning: {warning}", highlight=False)


def settings() -> None:
    """List every setting with its default and meaning."""
    rows = [
        (f"{section[1:-1]}[].{key}" if section.startswith("[") else f"{section}.{key}", default, text)
        for section, key, default, text in settings_module.describe()
    ]
    print_table(("setting", "default", "meaning"), rows)


def password(
    name: Annotated[str, typer.Argument(help="Person who forgot the password.")] = "admin",
    config: Config = None,
) -> None:
    """Give a person of this machine's server a new random password and print it."""
    from pxeboot.db.engine import open_database
    from pxeboot.services import auth

    engine = open_database(settings_module.load(config or options.config))
    console.out(auth.reset_password(engine, name), highlight=False)
