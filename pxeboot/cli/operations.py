"""`pxeboot operation …`, and the verbs people type: `capture`, `deploy`, `reset`."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import typer

from pxeboot.cli import task_options
from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, print_table, show, size
from pxeboot.errors import Invalid

app = typer.Typer(no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="Identifier of the operation.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Follow it to its end; exit 1 when all hosts failed, 3 when some.")
]
Timeout = Annotated[float, typer.Option(help="Longest wait in seconds.")]
Transport = Annotated[str, typer.Option(help="multicast, peers or http.")]


@app.command("list")
def list_() -> None:
    """List operations, newest first."""
    operations = options.api().get("/operations", limit=50)["items"]
    rows = [(o["id"], o["created_at"], o["title"], o["state"], o["created_by"]) for o in operations]
    show(operations, options.json_output, ("id", "started", "what", "state", "by"), rows)


@app.command("show")
def show_(operation_id: Id) -> None:
    """Show an operation and the outcome of each host."""
    _print_operation(options.api().get(f"/operations/{operation_id}"))


@app.command()
def watch(operation_id: Id, timeout: Timeout = 3600) -> None:
    """Follow an operation to its end."""
    _follow(operation_id, timeout)


@app.command()
def transfer(operation_id: Id) -> None:
    """Show what an operation sends now: its streams, and a line for each machine."""
    found = options.api().get(f"/operations/{operation_id}/transfer")
    if options.json_output:
        print_json(found)
        return
    for s in found["streams"]:
        console.print(
            f"{s['way']} on {s['interface']}: {s['rate_mbit']:.0f} of {s['granted_mbit']:.0f} Mbit/s "
            f"({s['bound']})"
            + (
                f", receivers: {s['receivers']}, parity: {s['parity']} datagrams, "
                f"beyond the image: {s['overhead_percent']:.1f} %"
                if s["way"] == "multicast"
                else ""
            )
        )
    if found["eta_seconds"] is not None:
        console.print(f"All have received it in about {found['eta_seconds']} s.")
    rows = [
        (
            h["host"],
            h["way"],
            h["rate_mbit"],
            h["loss_percent"] or "",
            h["backlog_percent"] or "",
            h["class"],
            "" if h["eta_seconds"] is None else h["eta_seconds"],
            " ".join(part for part in (h["reason"] and h["reason"]["sentence"], h["way_reason"]) if part),
        )
        for h in found["hosts"]
    ]
    print_table(("host", "by", "Mbit/s", "lost %", "buffers %", "class", "seconds left", "why"), rows)


@app.command()
def why(operation_id: Id) -> None:
    """Tell why an operation takes, or took, as long as it does."""
    found = options.api().get(f"/operations/{operation_id}/why")
    if options.json_output:
        print_json(found)
        return
    for reason in found["reasons"]:
        console.print(reason["sentence"])
    if not found["reasons"]:
        console.print("Nothing was sent, so there is nothing to explain.")


@app.command()
def limit(
    operation_id: Id,
    mbit: Annotated[
        float | None, typer.Option(help="Most it may send, in Mbit/s on the wire.", min=0.1)
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Lift the limit.")] = False,
    priority: Annotated[str, typer.Option(help="low, normal or high.")] = "",
) -> None:
    """Slow an operation down, or let it go; also while it runs."""
    if (mbit is not None and none) or not (mbit is not None or none or priority):
        raise Invalid("Say what to change: --mbit 100, --none or --priority low.")
    body: dict[str, Any] = {"limit_mbit": mbit} if mbit is not None or none else {}
    if priority:
        body["priority"] = priority
    _print_operation(options.api().call("PATCH", f"/operations/{operation_id}", json=body).json())


@app.command()
def cancel(operation_id: Id) -> None:
    """Stop an operation: hosts that have not finished are cancelled."""
    _print_operation(options.api().call("POST", f"/operations/{operation_id}:cancel").json())


def capture(
    host: Annotated[str, typer.Argument(help="Host whose disk becomes the next version.")],
    image: Annotated[str, typer.Argument(help="Image that gets the version; made when it does not exist.")],
    partition: task_options.Partitions = None,
    disk: task_options.Disks = None,
    whole: task_options.Whole = None,
    windows_files: task_options.WindowsFiles = None,
    note: Annotated[str, typer.Option(help="Kept with the version.")] = "",
    wait: Wait = False,
    timeout: Timeout = 3600,
) -> None:
    """Capture a host's disk as a new version of an image."""
    said = task_options.capture_options(partition, whole, windows_files)
    body = {"kind": "capture", "hosts": [host], "image": image, "note": note, "capture": said}
    begin(task_options.with_disks(body, "capture", disk), wait, timeout)


def deploy(
    image: Annotated[str, typer.Argument(help="Image, image@version or image@TAG.")],
    group: Annotated[str, typer.Option(help="Deploy to this group.")] = "",
    host: Annotated[list[str] | None, typer.Option(help="Deploy to this host; may be given again.")] = None,
    transport: Transport = "multicast",
    partition: task_options.Partitions = None,
    disk: task_options.Disks = None,
    grow: task_options.Grow = None,
    shrink: task_options.Shrink = None,
    identities: task_options.Identities = None,
    discard: task_options.Discard = None,
    verify: task_options.Verify = None,
    limit: task_options.Limit = None,
    priority: task_options.Priority = "normal",
    wait: Wait = False,
    timeout: Timeout = 3600,
) -> None:
    """Deploy an image to a group or to hosts."""
    body = {
        "kind": "deploy",
        "image": image,
        "group": group or None,
        "hosts": host or [],
        "transport": transport,
        "limit_mbit": limit,
        "priority": priority,
        "deploy": task_options.deploy_options(partition, grow, shrink, identities, discard, verify),
    }
    begin(task_options.with_disks(body, "deploy", disk), wait, timeout)


def reset(
    group: Annotated[str, typer.Argument(help="Group to reset.")],
    image: Annotated[str, typer.Option(help="Image or image@version; default: the group's image.")] = "",
    grow: task_options.Grow = None,
    shrink: task_options.Shrink = None,
    identities: task_options.Identities = None,
    discard: task_options.Discard = None,
    verify: task_options.Verify = None,
    limit: task_options.Limit = None,
    priority: task_options.Priority = "normal",
    key: Annotated[str, typer.Option(help="Idempotency key: the same key runs once.")] = "",
    wait: Wait = False,
    timeout: Timeout = 3600,
) -> None:
    """Bring every host of a group back to an image version."""
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    said = task_options.deploy_options(None, grow, shrink, identities, discard, verify)
    body: dict[str, Any] = ({"image": image} if image else {}) | ({"deploy": said} if said else {})
    body |= {"limit_mbit": limit, "priority": priority}
    answer = options.api().call("POST", f"/groups/{group}:reset", json=body, headers=headers).json()
    _finish(answer, wait, timeout)


def post(body: dict[str, Any]) -> dict[str, Any]:
    """Start an operation; the answer."""
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    answer: dict[str, Any] = options.api().call("POST", "/operations", json=body, headers=headers).json()
    return answer


def begin(body: dict[str, Any], wait: bool, timeout: float) -> None:
    """Start an operation and print it, at once or when it is over."""
    _finish(post(body), wait, timeout)


def _finish(operation: dict[str, Any], wait: bool, timeout: float) -> None:
    if wait:
        _follow(operation["id"], timeout)
    else:
        _print_operation(operation)


def _follow(operation_id: str, timeout: float) -> None:
    operation: dict[str, Any] = {}
    for operation in options.api().operation_changes(operation_id, timeout):
        if not options.json_output:
            states = ", ".join(f"{t['host']} {_progress(t)}" for t in operation["tasks"])
            console.print(f"{operation['state']}: {states}")
    _print_operation(operation)
    if operation["state"] != "done":
        raise typer.Exit(3 if operation["state"] == "partly" else 1)


def _progress(task: dict[str, Any]) -> str:
    if task["state"] in ("running", "verifying") and task["total"]:
        return f"{task['stage']} {100 * task['done'] // task['total']} %"
    return str(task["state"])


def _print_operation(operation: dict[str, Any]) -> None:
    if options.json_output:
        print_json(operation)
        return
    columns = ("host", "state", "verified", "way", "multicast", "peers", "HTTP", "seconds", "reason")
    rows = [
        (
            t["host"],
            t["state"],
            "yes" if t["verified"] else "",
            t["way"],
            size(t["bytes_multicast"]),
            size(t["bytes_peers"]),
            size(t["bytes_http"]),
            round(sum(t["seconds"].values())) if t["seconds"] else "",
            t["reason"] or (t["way_reason"] if t["way"] != "multicast" else ""),
        )
        for t in operation["tasks"]
    ]
    print_table(columns, rows, title=f"{operation['title']}: {operation['state']} ({operation['id']})")
    for task in operation["tasks"]:
        where = task["result"].get("shell")
        if where and task["state"] == "running":
            port = "" if where["port"] == 22 else f" -p {where['port']}"
            console.print(
                f"{task['host']}: ssh{port} root@{where['address']}, host key {where['fingerprint']}"
            )
