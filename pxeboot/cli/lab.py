"""`pxeboot lab …`: the virtual room."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pxeboot.cli.output import console

app = typer.Typer(no_args_is_help=True)

Var = Annotated[
    Path, typer.Option(help="Where boot files, caches and the room's disks live.", envvar="PXEBOOT_VAR")
]


@app.command()
def demo(
    var: Var = Path("var"),
    out: Annotated[Path, typer.Option(help="Where the table goes as JSON.")] = Path("demo.json"),
    simulated: Annotated[int, typer.Option(help="How many simulated hosts.", min=0, max=32)] = 3,
) -> None:
    """Run the main job in a virtual room: register, capture, multicast deploy, verify, boot."""
    from pxeboot.lab.demo import run

    raise typer.Exit(run(var.absolute(), out, simulated=simulated))


@app.command()
def serve(
    var: Var = Path("var"),
    port: Annotated[int, typer.Option(help="Port of the pages on 127.0.0.1.")] = 8080,
    simulated: Annotated[
        int, typer.Option(help="How many simulated hosts are registered.", min=0, max=32)
    ] = 3,
) -> None:
    """Keep a virtual room with the daemon running until Ctrl-C; pages on 127.0.0.1."""
    from pxeboot.lab.serve import run

    raise typer.Exit(run(var.absolute(), port=port, simulated=simulated))


@app.command()
def clean() -> None:
    """Remove namespaces, processes and loop devices that a killed room left behind."""
    from pxeboot.lab.ledger import clean as clean_up

    for line in clean_up():
        console.print(line)
