"""The tree of commands, and the options every API command shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pxeboot import __version__
from pxeboot.cli import (
    bootenv,
    customise,
    dhcp,
    doctor,
    exchange,
    groups,
    hosts,
    images,
    jobs,
    lab,
    menu,
    operations,
    rescues,
    schedules,
    server,
    tasks,
    tokens,
)
from pxeboot.cli.context import options

app = typer.Typer(
    name="pxeboot",
    help="Network boot and imaging: DHCP, TFTP, multicast images and a REST service in one daemon.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pxeboot {__version__}")
        raise typer.Exit


@app.callback()
def common(
    url: Annotated[str, typer.Option(help="Address of the server.", envvar="PXEBOOT_URL")] = "",
    token: Annotated[str, typer.Option(help="API token.", envvar="PXEBOOT_TOKEN")] = "",
    socket: Annotated[str, typer.Option(help="Unix socket of the server.", envvar="PXEBOOT_SOCKET")] = "",
    config: Annotated[
        Path | None, typer.Option(help="Settings file of this machine's server.", envvar="PXEBOOT_CONFIG")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Options of every command."""
    options.set(url=url, token=token, socket=socket, config=config, json_output=json_output)


app.add_typer(hosts.app, name="host", help="Machines: list, approve, change, journal.")
app.add_typer(groups.app, name="group", help="Groups and rooms.")
app.add_typer(menu.app, name="menu", help="Entries of the boot menus.")
exchange.add_to(images.app)
app.add_typer(images.app, name="image", help="Images and their versions.")
app.add_typer(customise.app, name="customise", help="What is done to a disk after the image.")
app.add_typer(customise.script_app, name="script", help="Scripts that run before or after an image.")
app.add_typer(customise.file_app, name="file", help="Files and templates that deployed systems get.")
app.add_typer(customise.secret_app, name="secret", help="Passwords and keys for these.")
app.add_typer(operations.app, name="operation", help="What was asked of many hosts, and its outcome.")
app.add_typer(tasks.app, name="task", help="Inventory, wipe, test, debug shell, rescue of files.")
app.add_typer(rescues.app, name="rescue", help="Files that were copied out of machines.")
app.add_typer(jobs.app, name="job", help="Long work of the server itself.")
app.add_typer(schedules.app, name="schedule", help="When operations start.")
app.add_typer(tokens.app, name="token", help="API tokens.")
app.add_typer(dhcp.app, name="dhcp", help="Leases, and words for another DHCP server.")
app.add_typer(bootenv.app, name="bootenv", help="The boot environment.")
app.add_typer(lab.app, name="lab", help="The virtual room.")
TOP_LEVEL: tuple[Callable[..., None], ...] = (
    server.serve,
    server.check,
    server.reload,
    server.settings,
    server.password,
    doctor.doctor,
    hosts.explain,
    operations.capture,
    operations.deploy,
    operations.reset,
)
for command in TOP_LEVEL:
    app.command()(command)


def _commands() -> Any:
    """The click command behind the tree, for documentation and tests."""
    return typer.main.get_command(app)
