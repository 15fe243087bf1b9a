"""`pxeboot schedule …`."""

from __future__ import annotations

from typing import Annotated

import typer

from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """List schedules."""
    schedules = options.api().pages("/schedules")
    rows = [
        (s["id"], s["name"], s["at"] or s["cron"], s["zone"], s["next_run_at"], s["enabled"])
        for s in schedules
    ]
    show(schedules, options.json_output, ("id", "name", "when", "zone", "next", "on"), rows)


@app.command()
def create(
    image: Annotated[str, typer.Argument(help="Image or image@version.")],
    group: Annotated[str, typer.Option(help="Group to deploy to.")],
    at: Annotated[str, typer.Option(help="Once, e.g. 2026-11-24T06:30 (in --zone).")] = "",
    cron: Annotated[str, typer.Option(help='Again and again, e.g. "30 6 * * 1-5".')] = "",
    zone: Annotated[str, typer.Option(help="IANA time zone.")] = "Europe/Paris",
    transport: Annotated[str, typer.Option(help="multicast or http.")] = "multicast",
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
) -> None:
    """Schedule a deploy of an image to a group."""
    request = {"kind": "deploy", "image": image, "group": group, "transport": transport}
    body = {"name": name, "operation": request, "at": at or None, "cron": cron or None, "zone": zone}
    print_json(options.api().call("POST", "/schedules", json=body).json())


@app.command()
def delete(schedule_id: Annotated[int, typer.Argument(help="Number of the schedule.")]) -> None:
    """Delete a schedule."""
    options.api().call("DELETE", f"/schedules/{schedule_id}")
    console.print(f"{schedule_id}: deleted")
