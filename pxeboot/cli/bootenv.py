"""`pxeboot bootenv …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pxeboot import settings as settings_module
from pxeboot.cli.context import options
from pxeboot.cli.output import console, size

app = typer.Typer(no_args_is_help=True)


@app.command()
def build(
    dest: Annotated[Path | None, typer.Option(help="Where boot files go; default: data_dir/boot.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Where packages are kept; default: data_dir/cache.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build again although nothing changed.")] = False,
) -> None:
    """Build kernel, initramfs and loaders from Debian 13 packages; does nothing when all is up to date."""
    from pxeboot.bootenv.build import build as build_bootenv

    if dest is None or cache is None:
        settings = settings_module.load(options.config)
        dest = dest or settings.boot_dir
        cache = cache or settings.server.data_dir / "cache"
    built = build_bootenv(dest, cache, progress=console.print, refresh=force)
    total = sum(built.files[name].size for name in ("vmlinuz", "initrd.img"))
    console.print(f"boot environment in {dest}: kernel {built.kernel_release}, {size(total)} to load")
