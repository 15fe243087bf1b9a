"""`pxeboot task …`: what else the boot environment does: inventory, wipe, test, debug shell, rescue."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pxeboot.cli import operations, task_options
from pxeboot.cli.context import options
from pxeboot.cli.operations import Timeout, Wait
from pxeboot.cli.output import console, print_json, show
from pxeboot.errors import AppError, Invalid

app = typer.Typer(no_args_is_help=True)
Hosts = Annotated[list[str] | None, typer.Argument(help="Names of hosts.")]
Group = Annotated[str, typer.Option(help="Every host of this group.")]
OneHost = Annotated[str, typer.Argument(help="Name of the host.")]
Then = Annotated[str, typer.Option(help="Afterwards: reboot or poweroff; default: as set on the server.")]
Disks = Annotated[
    list[str] | None,
    typer.Option(
        "--disk", help="Which disk: all, only, smallest, largest, serial=…, model=… …; may be given again."
    ),
]


@app.command()
def inventory(
    hosts: Hosts = None, group: Group = "", then: Then = "", wait: Wait = False, timeout: Timeout = 3600
) -> None:
    """Have hosts tell what they are."""
    operations.begin(_body("inventory", hosts, group, then), wait, timeout)


@app.command()
def wipe(
    hosts: Hosts = None,
    group: Group = "",
    disk: Disks = None,
    method: Annotated[
        str, typer.Option(help="auto, overwrite, discard, ata-secure-erase, nvme-format or nvme-sanitize.")
    ] = "auto",
    passes: Annotated[int, typer.Option(help="Of overwrite: how often.")] = 1,
    fallback: Annotated[bool, typer.Option(help="Overwrite where the method cannot be used.")] = False,
    full_verify: Annotated[bool, typer.Option(help="Read the whole disk again, not samples.")] = False,
    unattended: Annotated[bool, typer.Option(help="No countdown at the machine's console.")] = False,
    yes_wipe: Annotated[
        str, typer.Option(help="The host's name, or how many hosts; asked for when left out.")
    ] = "",
    then: Then = "",
    wait: Wait = False,
    timeout: Timeout = 86_400,
) -> None:
    """Destroy all data on disks, and prove it. Without --disk: the only internal disk."""
    said: dict[str, Any] = {"method": method, "passes": passes, "fallback": fallback}
    said["verify"] = "full" if full_verify else "samples"
    if unattended:
        said["countdown"] = 0
    body = _body("wipe", hosts, group, then, wipe=said)
    _disks(body, "wipe", disk)
    body["confirm"] = yes_wipe or _ask_twice(hosts or [], group)
    operations.begin(body, wait, timeout)


def _ask_twice(hosts: list[str], group: str) -> str:
    """What the person types: the host's name, or how many hosts."""
    names = {host["name"] for host in options.api().pages("/hosts", group=group)} if group else set()
    names |= {options.api().get(f"/hosts/{name}")["name"] for name in hosts}
    if not names:
        raise Invalid("Name a group or at least one host.")
    console.print(f"ALL DATA on the disks of {', '.join(sorted(names))} will be destroyed.")
    wanted = next(iter(names)) if len(names) == 1 else str(len(names))
    what = "the name of the host" if len(names) == 1 else "how many hosts these are"
    typed = str(typer.prompt(f"Type {what} to go on", default="", show_default=False)).strip()
    if typed != wanted:
        raise Invalid("That was something else; nothing is wiped.")
    return typed


@app.command("test")
def health(
    hosts: Hosts = None,
    group: Group = "",
    disk: Disks = None,
    memory: Annotated[int, typer.Option(help="Passes over the memory; 0: none.")] = 1,
    memory_mb: Annotated[int, typer.Option(help="MiB of memory; 0: what is free.")] = 0,
    smart: Annotated[str, typer.Option(help="none, health, short or long (the disk's own test).")] = "short",
    surface: Annotated[str, typer.Option(help="none, quick or full (reading the disk).")] = "quick",
    then: Then = "",
    wait: Wait = False,
    timeout: Timeout = 86_400,
) -> None:
    """Test memory and disks; nothing is written to them."""
    said = {"memory": memory, "memory_mb": memory_mb, "smart": smart, "surface": surface}
    body = _body("test", hosts, group, then, test=said)
    _disks(body, "test", disk)
    operations.begin(body, wait, timeout)


@app.command()
def shell(
    host: OneHost,
    key: Annotated[
        list[Path] | None, typer.Option(help="Public key file; default: what ssh would use, ~/.ssh/id_*.pub.")
    ] = None,
    minutes: Annotated[int, typer.Option(help="How long it stays open.")] = 60,
    connect: Annotated[bool, typer.Option(help="Run ssh as soon as it is open.")] = False,
    then: Then = "",
    timeout: Timeout = 900,
) -> None:
    """Open a debug shell on a host, wait for it, and print the ssh command."""
    keys = [_public_key(path) for path in (key if key is not None else _own_keys())]
    body = _body("shell", [host], "", then, shell={"keys": keys, "minutes": minutes})
    operation = operations.post(body)
    if not options.json_output:
        console.print(f"Waiting for {host} to boot from the network ({operation['id']}) …")
    where, name = _wait_for_shell(operation["id"], timeout)
    if options.json_output:
        print_json(where)
        return
    console.print(f"{name}: host key {where['fingerprint']}")
    if not connect:
        console.print(f"echo '{known_hosts(where)}' > known_hosts-{name}")
        console.print(" ".join(ssh_command(where, f"known_hosts-{name}")))
        return
    with tempfile.TemporaryDirectory(prefix="pxeboot-") as folder:
        known = Path(folder, "known_hosts")
        known.write_text(known_hosts(where) + "\n", encoding="ascii")
        raise typer.Exit(subprocess.run(ssh_command(where, str(known)), check=False).returncode)


def _wait_for_shell(operation_id: str, timeout: float) -> tuple[dict[str, Any], str]:
    deadline = time.monotonic() + timeout
    while True:
        task = options.api().get(f"/operations/{operation_id}")["tasks"][0]
        where = task["result"].get("shell") or {}
        if task["state"] == "running" and where.get("attempt") == task["attempt"]:
            return where, str(task["host"])
        if task["state"] in ("failed", "cancelled", "done"):
            raise AppError(task["reason"] or "The debug shell is over already.")
        if time.monotonic() > deadline:
            raise AppError(
                f"{task['host']} has not opened its shell after {timeout:.0f} s; "
                f"`pxeboot operation show {operation_id}` tells when it has."
            )
        time.sleep(1.0)


def known_hosts(where: dict[str, Any]) -> str:
    """The line of known_hosts for an open shell (sshd(8))."""
    address, port = where["address"], where["port"]
    name = address if port == 22 else f"[{address}]:{port}"
    return f"{name} {where['host_key']}"


def ssh_command(where: dict[str, Any], known: str) -> list[str]:
    """The command that connects to this machine and to no other."""
    return [
        "ssh", "-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes",
        *(["-p", str(where["port"])] if where["port"] != 22 else []), f"root@{where['address']}",
    ]  # fmt: skip


def _own_keys() -> list[Path]:
    """The public keys of whoever types; none is fine where the server has keys of its own."""
    return sorted(Path("~/.ssh").expanduser().glob("id_*.pub"))


def _public_key(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read as a public key: {error}.") from error


@app.command()
def rescue(
    host: OneHost,
    paths: Annotated[
        list[str],
        typer.Argument(help="What to copy, from the root of a file system: home, 'Users/*/Documents' …"),
    ],
    exclude: Annotated[
        list[str] | None, typer.Option(help="What to leave out, like *.iso or Users/*/AppData; repeatable.")
    ] = None,
    disk: Disks = None,
    limit_mb: Annotated[int, typer.Option(help="Refuse more than so many MB.")] = 100_000,
    then: Then = "",
    wait: Wait = False,
    timeout: Timeout = 86_400,
) -> None:
    """Copy files of a host to the server; `pxeboot rescue get` fetches them. Its disks are only read."""
    said: dict[str, Any] = {"paths": paths, "limit_mb": limit_mb}
    if exclude:
        said["exclude"] = exclude
    body = _body("rescue", [host], "", then, rescue=said)
    _disks(body, "rescue", disk)
    operations.begin(body, wait, timeout)


@app.command()
def certificate(
    task: Annotated[str, typer.Argument(help="Identifier of the task, or of an operation with one.")],
) -> None:
    """Print the record of a wipe: which disks, how, and how it was verified."""
    api = options.api()
    with contextlib.suppress(AppError):
        tasks = api.get(f"/operations/{task}")["tasks"]
        if len(tasks) > 1:
            rows = [(item["host"], item["state"], item["id"]) for item in tasks]
            show(tasks, options.json_output, ("host", "state", "task"), rows)
            return
        task = tasks[0]["id"]
    if options.json_output:
        print_json(api.get(f"/tasks/{task}/certificate"))
    else:
        text = api.call("GET", f"/tasks/{task}/certificate", params={"format": "text"}).text
        console.out(text, end="", highlight=False)


def _body(kind: str, hosts: list[str] | None, group: str, then: str, **sections: Any) -> dict[str, Any]:
    return {"kind": kind, "hosts": hosts or [], "group": group or None, "then": then or None, **sections}


def _disks(body: dict[str, Any], section: str, disks: list[str] | None) -> None:
    rules = [task_options.rule(text) for text in disks or []]
    if rules:
        body[section]["disks"] = rules
