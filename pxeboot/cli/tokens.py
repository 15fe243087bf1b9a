"""`pxeboot token …`."""

from __future__ import annotations

from typing import Annotated

import typer

from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List tokens (never their secrets)."""
    tokens = options.api().pages("/tokens")
    rows = [(t["prefix"], t["name"], t["role"], t["expires_at"], t["last_used_at"]) for t in tokens]
    show(tokens, options.json_output, ("prefix", "name", "role", "expires", "last used"), rows)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    role: Annotated[str, typer.Option(help="admin, technician, teacher or viewer.")] = "admin",
    days: Annotated[int | None, typer.Option(help="Expires after so many days.")] = None,
) -> None:
    """Make a token; its secret is shown this once."""
    answer = options.api().call("POST", "/tokens", json={"name": name, "role": role, "days": days}).json()
    if options.json_output:
        print_json(answer)
    else:
        console.out(answer["token"], highlight=False)


@app.command()
def revoke(prefix: Annotated[str, typer.Argument(help="Prefix of the token.")]) -> None:
    """Make a token worthless at once."""
    options.api().call("DELETE", f"/tokens/{prefix}")
    console.print(f"{prefix}: revoked")
