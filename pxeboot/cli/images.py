"""`pxeboot image …`."""

from __future__ import annotations

from typing import Annotated

import typer

from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show, size

app = typer.Typer(no_args_is_help=True)
Image = Annotated[str, typer.Argument(help="Name of the image.")]


@app.command("list")
def list_() -> None:
    """List images."""
    images = options.api().pages("/images")
    rows = [(i["name"], i["versions"], (i["latest"] or {}).get("name"), i["description"]) for i in images]
    show(images, options.json_output, ("name", "versions", "latest", "description"), rows)


@app.command()
def create(name: Image, description: Annotated[str, typer.Option(help="What is in it.")] = "") -> None:
    """Make an image without versions; captures add them."""
    print_json(options.api().call("POST", "/images", json={"name": name, "description": description}).json())


@app.command("show")
def show_(name: Image) -> None:
    """Show an image and its versions."""
    image = options.api().get(f"/images/{name}")
    columns = ("version", "captured", "from", "used", "stored", "chunks", "manifest")
    rows = [
        (
            v["number"],
            v["created_at"],
            v["source_host"],
            size(v["used_bytes"]),
            size(v["stored_bytes"]),
            v["chunks"],
            v["manifest"][:16],
        )
        for v in image["history"]
    ]
    show(image, options.json_output, columns, rows, title=image["name"])


@app.command()
def delete(name: Image) -> None:
    """Delete an image that has no versions."""
    options.api().call("DELETE", f"/images/{name}")
    console.print(f"{name}: deleted")


@app.command()
def verify(
    name: Annotated[str, typer.Argument(help="Image, or image@version; empty: the whole store.")] = "",
) -> None:
    """Read every chunk of this machine's store again and check its hash (run it on the server)."""
    from imaging.store import ChunkStore
    from pxeboot import settings as settings_module

    settings = settings_module.load(options.config)
    manifest = None
    if name:
        image, _, number = name.partition("@")
        versions = options.api().get(f"/images/{image}")["history"]
        chosen = [v for v in versions if not number or v["number"] == int(number)]
        manifest = max(chosen, key=lambda v: v["number"])["manifest"] if chosen else None
    bad = list(ChunkStore(settings.store_dir, readonly=True).verify(manifest))
    if not bad:
        console.print("every chunk is whole")
        return
    for item in bad:
        console.print(str(item))
    raise typer.Exit(1)
