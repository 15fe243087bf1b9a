"""`pxeboot job …`, and how commands follow a job they started."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show
from pxeboot.errors import AppError

app = typer.Typer(no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="Identifier of the job.")]
Timeout = Annotated[float, typer.Option(help="Longest wait in seconds.")]


@app.command("list")
def list_() -> None:
    """List jobs of the server, newest first."""
    jobs = options.api().get("/jobs")["items"]
    rows = [(j["id"], j["created_at"], j["title"], j["state"], _percent(j), j["error"]) for j in jobs]
    show(jobs, options.json_output, ("id", "started", "what", "state", "done", "reason"), rows)


@app.command("show")
def show_(job_id: Id) -> None:
    """Show a job and its result."""
    print_json(options.api().get(f"/jobs/{job_id}"))


@app.command()
def watch(job_id: Id, timeout: Timeout = 86_400) -> None:
    """Follow a job to its end."""
    finish(options.api().get(f"/jobs/{job_id}"), timeout)


@app.command()
def cancel(job_id: Id) -> None:
    """Ask a job to end."""
    job = options.api().call("DELETE", f"/jobs/{job_id}").json()
    show(job, options.json_output, ("job", "state"), [(job["title"], job["state"])])


def finish(job: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Follow a job to its end and return it; exit 1 when it failed or was cancelled."""
    end, told = time.monotonic() + timeout, ""
    while job["finished_at"] is None:
        line = f"{job['title']}: {job['state']} {_percent(job)}".rstrip()
        if line != told and not options.json_output:
            console.print(line)
            told = line
        if time.monotonic() > end:
            raise AppError(f"Job {job['id']} is still running after {timeout:.0f} s; it goes on.")
        time.sleep(0.5)
        job = options.api().get(f"/jobs/{job['id']}")
    if job["state"] != "done":
        if options.json_output:
            print_json(job)
        raise AppError(f"{job['title']}: {job['state']}. {job['error']}")
    return job


def _percent(job: dict[str, Any]) -> str:
    return "" if job["percent"] is None else f"{job['percent']} %"
