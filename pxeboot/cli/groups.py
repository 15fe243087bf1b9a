"""`pxeboot group …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pxeboot.cli import policy
from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show

app = typer.Typer(no_args_is_help=True)
Group = Annotated[str, typer.Argument(help="Name of the group.")]


@app.command("list")
def list_() -> None:
    """List groups."""
    groups = options.api().pages("/groups")
    rows = [(g["name"], g["hosts"], g["image"], g["description"]) for g in groups]
    show(groups, options.json_output, ("name", "hosts", "image", "description"), rows)


@app.command()
def create(
    name: Group,
    description: Annotated[str, typer.Option(help="What the group is.")] = "",
    name_template: Annotated[str, typer.Option(help='Names of its new hosts, e.g. "B204-##".')] = "",
    image: Annotated[str, typer.Option(help="Image that a reset deploys.")] = "",
) -> None:
    """Make a group."""
    body = {"name": name, "description": description, "name_template": name_template, "image": image or None}
    print_json(options.api().call("POST", "/groups", json=body).json())


@app.command("show")
def show_(name: Group) -> None:
    """Show a group and its hosts."""
    print_json(options.api().get(f"/groups/{name}"))


@app.command("set")
def set_(
    name: Group,
    rename: Annotated[str | None, typer.Option(help="New name.")] = None,
    description: Annotated[str | None, typer.Option(help="What the group is.")] = None,
    name_template: Annotated[str | None, typer.Option(help="Names of its new hosts.")] = None,
    image: Annotated[str | None, typer.Option(help='Image that a reset deploys; "" for none.')] = None,
    boot_default: policy.Default = None,
    local_boot: policy.LocalBoot = None,
    menu: policy.Menu = None,
    menu_seconds: policy.MenuSeconds = None,
    option: policy.DhcpOptions = None,
) -> None:
    """Change a group, what its hosts boot, and what DHCP tells them; what is not named stays."""
    given = {"name": rename, "description": description, "name_template": name_template, "image": image}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if boot := policy.boot_change(boot_default, local_boot, menu, menu_seconds):
        changes["boot"] = boot
    if told := policy.pairs(option, "--option", "ntp-servers=10.0.0.1"):
        changes["dhcp_options"] = told
    policy.show_policy(options.api().call("PATCH", f"/groups/{name}", json=changes).json())


@app.command()
def add(
    name: Group, hosts: Annotated[list[str], typer.Argument(help="Hosts to put into the group.")]
) -> None:
    """Put hosts into a group."""
    api = options.api()
    for host in hosts:
        api.call("PATCH", f"/hosts/{host}", json={"group": name})
        console.print(f"{host}: in {name}")


@app.command()
def delete(name: Group) -> None:
    """Delete a group; its hosts stay, without a group."""
    options.api().call("DELETE", f"/groups/{name}")
    console.print(f"{name}: deleted")
