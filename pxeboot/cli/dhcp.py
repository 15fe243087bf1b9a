"""`pxeboot dhcp …`: leases, and what another DHCP server must say to send machines to us."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from dhcp.pxe import ARCHITECTURES, PxeClient
from dhcp.snippets import KINDS, SnippetFacts, snippet
from pxeboot import settings as settings_module
from pxeboot.boot.chain import NoBootFile, boot_file
from pxeboot.cli.context import options
from pxeboot.cli.output import console, show
from pxeboot.errors import ConfigError, Invalid
from pxeboot.settings import Settings

app = typer.Typer(no_args_is_help=True)
_EXPECTED = frozenset({"undionly.kpxe", "shimx64.efi", "grubx64.efi"})  # of `pxeboot bootenv build`


@app.command()
def leases(
    subnet: Annotated[str, typer.Option(help="Only of this subnet, e.g. 10.20.0.0/24.")] = "",
    state: Annotated[str, typer.Option(help="Only offered, bound, expired, released or declined.")] = "",
    mac: Annotated[str, typer.Option(help="Only of this machine.")] = "",
    q: Annotated[str, typer.Option(help="Only where address, MAC or a name contains this.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show who has which address."""
    wanted = {"subnet": subnet, "state": state, "mac": mac, "q": q}
    api = options.api()
    if as_csv:
        text = api.call("GET", "/leases.csv", params={k: v for k, v in wanted.items() if v}).text
        typer.echo(text, nl=False)
        return
    found = api.pages("/leases", **wanted)
    columns = ("address", "MAC", "host", "calls itself", "state", "since", "until", "subnet")
    rows = [
        (
            one["address"],
            one["mac"],
            one["host"],
            one["client_name"],
            one["state"],
            one["starts"],
            one["expires"],
            one["subnet"],
        )
        for one in found
    ]
    show(found, json_output or options.json_output, columns, rows)


@app.command("snippet")
def snippet_(
    kind: Annotated[str, typer.Argument(help=f"The other server: {', '.join(KINDS)}.")],
    address: Annotated[str, typer.Option(help="Our address as machines reach it.")] = "",
    config: Annotated[Path | None, typer.Option(help="Settings file.", envvar="PXEBOOT_CONFIG")] = None,
) -> None:
    """Print what to put into another DHCP server, so that it sends machines to us (dhcp.mode = off)."""
    settings = settings_module.load(config or options.config)
    if kind not in KINDS:
        raise Invalid(f"{kind!r} is no server we know; choose {', '.join(KINDS)}.")
    try:
        text = snippet(kind, snippet_facts(settings, address or _own_address(settings)))  # type: ignore[arg-type]
    except ValueError as error:
        raise Invalid(f"This cannot be written down: {error}.") from error
    console.out(text.rstrip("\n"), highlight=False)


def snippet_facts(settings: Settings, address: str) -> SnippetFacts:
    """Our files as the boot folder has them (as a built one would, while it is empty)."""
    base = f"http://{address}" + ("" if settings.http.port == 80 else f":{settings.http.port}")
    try:
        available = frozenset(entry.name for entry in settings.boot_dir.iterdir()) or _EXPECTED
    except OSError:
        available = _EXPECTED
    files: dict[str, str] = {}
    urls: dict[str, str] = {}
    for row in ARCHITECTURES.values():
        found = boot_file(
            PxeClient(mac="52:54:00:00:00:00", architecture=row, http=row.http), base, available
        )
        if not isinstance(found, NoBootFile):
            (urls if row.http else files)[row.name] = found.uri or found.file
    script = f"{base}/boot/ipxe?mac=${{net0/mac}}&uuid=${{uuid}}&platform=${{platform}}"
    return SnippetFacts(server=address, files=files, http_files=urls, script_url=script)


def _own_address(settings: Settings) -> str:
    from pxeboot.adapters.interfaces import InterfaceFacts, look_up

    network = settings.network
    if network.address or not network.interface:
        if network.address:
            return network.address
        raise ConfigError("Our address is not known: set network.interface, or give --address.")
    found = asyncio.run(look_up(network.interface))
    if not isinstance(found, InterfaceFacts):
        raise ConfigError(f"network.interface = {network.interface!r} {found.what}; {found.remedy}.")
    return found.address
