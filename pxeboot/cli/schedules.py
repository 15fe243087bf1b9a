"""`pxeboot schedule …`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pxeboot.cli import task_options
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
    transport: Annotated[str, typer.Option(help="multicast, peers or http.")] = "multicast",
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    partition: task_options.Partitions = None,
    disk: task_options.Disks = None,
    grow: task_options.Grow = None,
    shrink: task_options.Shrink = None,
    identities: task_options.Identities = None,
    discard: task_options.Discard = None,
    verify: task_options.Verify = None,
    limit: task_options.Limit = None,
    priority: task_options.Priority = "normal",
) -> None:
    """Schedule a deploy of an image to a group."""
    said = task_options.deploy_options(partition, grow, shrink, identities, discard, verify)
    request: dict[str, Any] = {
        "kind": "deploy",
        "image": image,
        "group": group,
        "transport": transport,
        "deploy": said,
        "limit_mbit": limit,
        "priority": priority,
    }
    task_options.with_disks(request, "deploy", disk)
    body = {"name": name, "operation": request, "at": at or None, "cron": cron or None, "zone": zone}
    print_json(options.api().call("POST", "/schedules", json=body).json())


@app.command()
def delete(schedule_id: Annotated[int, typer.Argument(help="Number of the schedule.")]) -> None:
    """Delete a schedule."""
    options.api().call("DELETE", f"/schedules/{schedule_id}")
    console.print(f"{schedule_id}: deleted")
