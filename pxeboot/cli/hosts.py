"""`pxeboot host …` and `pxeboot explain HOST`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pxeboot.cli import policy
from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show
from pxeboot.errors import AppError

app = typer.Typer(no_args_is_help=True)
Names = Annotated[list[str], typer.Argument(help="Names, identifiers or MAC addresses of hosts.")]
Name = Annotated[str, typer.Argument(help="Name, identifier or MAC address of a host.")]


@app.command("list")
def list_(
    state: Annotated[str, typer.Option(help="Only pending, approved or blocked hosts.")] = "",
    group: Annotated[str, typer.Option(help="Only hosts of this group.")] = "",
    q: Annotated[str, typer.Option(help="Only hosts whose name, MAC or serial contains this.")] = "",
) -> None:
    """List hosts."""
    hosts = options.api().pages("/hosts", state=state, group=group, q=q)
    columns = ("name", "state", "group", "MAC", "firmware", "address", "seen")
    rows = [
        (h["name"], h["state"], h["group"], ", ".join(h["macs"]), h["firmware"], h["address"], h["seen_at"])
        for h in hosts
    ]
    show(hosts, options.json_output, columns, rows)


@app.command("show")
def show_(name: Name) -> None:
    """Show all that is known of a host."""
    print_json(options.api().get(f"/hosts/{name}"))


@app.command()
def approve(
    names: Annotated[list[str] | None, typer.Argument(help="Hosts to approve.")] = None,
    all_pending: Annotated[bool, typer.Option("--all-pending", help="Approve every pending host.")] = False,
) -> None:
    """Approve pending hosts, so that they may be given tasks."""
    api = options.api()
    chosen = [h["name"] for h in api.pages("/hosts", state="pending")] if all_pending else (names or [])
    if not chosen:
        raise AppError("Nobody to approve: name hosts, or use --all-pending.")
    _print_results(api.call("POST", "/hosts:approve", json={"hosts": chosen}).json())


@app.command("update", hidden=True)  # what `set` was called first
@app.command("set")
def set_(
    name: Name,
    rename: Annotated[str | None, typer.Option(help="New name.")] = None,
    group: Annotated[str | None, typer.Option(help='Group; "" takes it out of its group.')] = None,
    state: Annotated[str | None, typer.Option(help="approved, pending or blocked.")] = None,
    boot_default: policy.Default = None,
    local_boot: policy.LocalBoot = None,
    menu: policy.Menu = None,
    menu_seconds: policy.MenuSeconds = None,
    address: Annotated[str | None, typer.Option(help='The address DHCP gives it; "" for any.')] = None,
    option: policy.DhcpOptions = None,
) -> None:
    """Change a host, what it boots, and what DHCP tells it; what is not named stays."""
    given = {"name": rename, "group": group, "state": state, "reserved_address": address}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if boot := policy.boot_change(boot_default, local_boot, menu, menu_seconds):
        changes["boot"] = boot
    if told := policy.pairs(option, "--option", "ntp-servers=10.0.0.1"):
        changes["dhcp_options"] = told
    policy.show_policy(options.api().call("PATCH", f"/hosts/{name}", json=changes).json())


@app.command()
def delete(names: Names) -> None:
    """Forget hosts; they are unknown again."""
    api = options.api()
    for name in names:
        api.call("DELETE", f"/hosts/{name}")
        console.print(f"{name}: deleted")


@app.command("export")
def export_(
    group: Annotated[str, typer.Option(help="Only hosts of this group.")] = "",
    file: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
) -> None:
    """Print the hosts as CSV, as `import` reads them."""
    params = {"group": group} if group else {}
    text = options.api().call("GET", "/hosts:export", params=params).text
    if file is None:
        console.out(text.replace("\r\n", "\n").rstrip("\n"), highlight=False)
    else:
        file.write_bytes(text.encode())


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV with the columns name, macs, group, address …")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Add and change hosts from a list: every line of it, or none."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise AppError(f"{file} cannot be read: {error.strerror}.") from error
    report = options.api().call(
        "POST",
        "/hosts:import",
        params={"dry_run": str(dry_run).lower()},
        content=data,
        headers={"Content-Type": "text/csv"},
    ).json()  # fmt: skip
    rows = [(h["line"], h["host"], h["result"], h["was"]) for h in report["hosts"]]
    show(report, options.json_output, ("line", "host", "result", "was"), rows)
    if not options.json_output:
        would = "Would be" if dry_run else "Done:"
        console.print(f"{would} {report['new']} new, {report['changed']} changed, {report['same']} the same.")


@app.command()
def journal(name: Name, limit: Annotated[int, typer.Option(help="How many entries.")] = 50) -> None:
    """Show what a host asked and was told, newest last."""
    events = options.api().get(f"/hosts/{name}/events", limit=limit)["items"]
    rows = [(e["at"], e["plane"], e["kind"], e["sentence"]) for e in reversed(events)]
    show(events, options.json_output, ("at", "plane", "kind", "what"), rows)


def explain(name: Name) -> None:
    """Say what a host would boot now and why, and what it did last."""
    answer = options.api().get(f"/hosts/{name}/explain")
    if options.json_output:
        print_json(answer)
        return
    console.print(f"[bold]{answer['host']}[/bold] would now: [bold]{answer['action']}[/bold]")
    console.print(f"because: {answer['reason']}")
    if answer.get("events"):
        show(
            [],
            False,
            ("at", "plane", "what"),
            [(e["at"], e["plane"], e["sentence"]) for e in answer["events"]],
        )


def _print_results(answer: dict[str, Any]) -> None:
    results = answer["results"]
    rows = [(r["host"], "ok" if r["ok"] else "refused", r.get("reason", "")) for r in results]
    show(answer, options.json_output, ("host", "result", "reason"), rows)
    failed = sum(not r["ok"] for r in results)
    if failed:
        raise typer.Exit(1 if failed == len(results) else 3)
