"""`pxeboot image export|import|files`: images from and for other programs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pxeboot.cli import jobs
from pxeboot.cli.context import options
from pxeboot.cli.output import console, show, size


def add_to(app: typer.Typer) -> None:
    """Put these commands among those of `pxeboot image`."""
    app.command("files")(files)
    app.command("export")(export)
    app.command("import")(import_)


def files() -> None:
    """List the files of the server's exchange folder that could be imported, and this server's key."""
    view = options.api().get("/exchange")
    rows = [(f["name"], f["format"] or "?", size(f["bytes"]), f["modified"]) for f in view["files"]]
    show(view, options.json_output, ("name", "format", "size", "changed"), rows, title=view["folder"])
    if not options.json_output:
        console.print(f"key on bundles of this server: {view['key']}", soft_wrap=True)


def export(
    reference: Annotated[str, typer.Argument(help="image@NUMBER, image@TAG, or image: its current version.")],
    to: Annotated[
        str, typer.Option("--to", help="File, or folder ending in /, inside the server's exchange folder.")
    ],
    format: Annotated[
        str, typer.Option(help="raw, qcow2, vmdk, vmdk-sparse, vhdx or bundle (for another pxeboot server).")
    ] = "qcow2",
    timeout: jobs.Timeout = 86_400,
) -> None:
    """Write a version as disk files for virtual machines, or as a bundle, and read it back."""
    body = {"image": reference, "to": to, "format": format}
    job = jobs.finish(options.api().call("POST", "/exchange:export", json=body).json(), timeout)
    result = job["result"]
    show(
        job, options.json_output, ("file", "version"), [(name, result["version"]) for name in result["files"]]
    )


def import_(
    path: Annotated[str, typer.Argument(help="File or folder inside the server's exchange folder.")],
    name: Annotated[str, typer.Option("--as", help="Image that gets the new version.")],
    format: Annotated[
        str,
        typer.Option(help="auto (by name), raw, qcow2, vmdk, vdi, vhd, vhdx, fog, clonezilla or bundle."),
    ] = "auto",
    note: Annotated[str, typer.Option(help="What people should know about it.")] = "",
    whole: Annotated[
        list[str] | None,
        typer.Option(
            help="Take this kind of content (luks, bitlocker, unknown …) byte for byte; repeatable."
        ),
    ] = None,
    places: Annotated[
        str,
        typer.Option(help="FOG's resizable images: minimum (as FOG shrank them), or original places."),
    ] = "minimum",
    trust: Annotated[
        str, typer.Option(help="Key of the server that signed a bundle, once you have compared it.")
    ] = "",
    timeout: jobs.Timeout = 86_400,
) -> None:
    """Make a version of a disk file, of an image folder of FOG or Clonezilla, or of a bundle."""
    body: dict[str, Any] = {
        "path": path,
        "image": name,
        "format": format,
        "note": note,
        "whole": whole or [],
        "places": places,
        "trust": trust,
    }
    job = jobs.finish(options.api().call("POST", "/exchange:import", json=body).json(), timeout)
    result = job["result"]
    for line in result["notes"] if not options.json_output else ():
        console.print(line)
    row = (result["version"], result["chunks"], size(result["new_bytes"]))
    show(job, options.json_output, ("version", "chunks", "new in the store"), [row])
