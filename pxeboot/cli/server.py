"""Commands that run or describe this machine's own server: `serve`, `check`, `settings`, `password`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pxeboot import settings as settings_module
from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_table

Config = Annotated[Path | None, typer.Option(help="Settings file.", envvar="PXEBOOT_CONFIG")]


def serve(config: Config = None) -> None:
    """Run the daemon in the foreground."""
    from pxeboot import main

    path = config or options.config
    loaded = settings_module.load(path)
    raise typer.Exit(main.serve(loaded, path))


def check(config: Config = None) -> None:
    """Check the settings file; every mistake is named with its remedy."""
    settings_module.load(config or options.config)
    console.print("the settings are right")


def settings() -> None:
    """List every setting with its default and meaning."""
    rows = [((section, key), default, text) for section, key, default, text in settings_module.describe()]
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
