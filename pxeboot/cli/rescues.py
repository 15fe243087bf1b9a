"""`pxeboot rescue …`: files that were copied out of machines."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show, size

app = typer.Typer(no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="Identifier, or its beginning.")]


@app.command("list")
def list_(host: Annotated[str, typer.Option(help="Of this host only.")] = "") -> None:
    """List archives, newest first."""
    found = options.api().pages("/rescues", host=host)
    rows = [
        (
            r["id"][:12], r["host"], r["created_at"], size(r["size"]), r["facts"].get("files"),
            r["facts"].get("unreadable_count"), " ".join(r["facts"].get("paths", [])), r["expires_at"],
        )
        for r in found
    ]  # fmt: skip
    columns = ("id", "host", "made", "size", "files", "unreadable", "what", "kept until")
    show(found, options.json_output, columns, rows)


@app.command("show")
def show_(rescue: Id) -> None:
    """Show what an archive holds and what could not be read."""
    found = options.api().get(f"/rescues/{rescue}")
    if options.json_output:
        print_json(found)
        return
    facts = found["facts"]
    console.print(
        f"{found['host']}: {facts.get('files')} files, {size(facts.get('bytes'))}; "
        f"archive {size(found['size'])}"
    )
    for path, reason in facts.get("unreadable", []):
        console.print(f"  {path}: {reason}", markup=False)


@app.command("get")
def get(
    rescue: Id,
    to: Annotated[
        Path | None, typer.Option("--to", help="File to write; default: HOST-ID.tar.zst here.")
    ] = None,
) -> None:
    """Fetch an archive (tar, compressed with zstd) and check it."""
    api = options.api()
    found = api.get(f"/rescues/{rescue}")
    place = to or Path(f"{found['host'] or 'rescue'}-{found['id'][:12]}.tar.zst")
    part = place.with_name(place.name + ".part")
    try:
        api.download(f"/rescues/{found['id']}/archive", part, found["blake3"])
        os.replace(part, place)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
    if options.json_output:
        print_json(found | {"file": str(place)})
    else:
        console.print(f"{place}: {size(found['size'])}. Unpack with: tar --zstd -xf {place}")


@app.command("rm")
def remove(rescue: Id) -> None:
    """Delete an archive from the server."""
    options.api().call("DELETE", f"/rescues/{rescue}")
