"""`pxeboot script|file|secret|customise …`: what is done to a disk before and after the image."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show, size
from pxeboot.errors import AppError, Invalid

script_app = typer.Typer(no_args_is_help=True)
file_app = typer.Typer(no_args_is_help=True)
secret_app = typer.Typer(no_args_is_help=True)
app = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name, a word.")]
Names = Annotated[list[str], typer.Argument(help="Names.")]
Description = Annotated[str | None, typer.Option(help="What it is for.")]
System = Annotated[str | None, typer.Option(help='linux, windows or partition:3; "" for none (scripts).')]
Replace = Annotated[bool, typer.Option("--replace", help="Change the one of this name, if there is one.")]


def _read(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise AppError(f"{path}: {error.strerror}.") from error


def _keep(kind: str, name: str, body: dict[str, Any], replace: bool) -> dict[str, Any]:
    """POST a new thing, or PATCH the one of this name when that is wanted."""
    api = options.api()
    body = {key: value for key, value in body.items() if value is not None}
    known = replace and name in {item["name"] for item in api.get(f"/{kind}")["items"]}
    if known:
        made: dict[str, Any] = api.call("PATCH", f"/{kind}/{name}", json=body).json()
    else:
        made = api.call("POST", f"/{kind}", json={"name": name, **body}).json()
    return made


def _details(thing: dict[str, Any]) -> None:
    rows = [(key, value) for key, value in thing.items() if key != "text"]
    show(thing, options.json_output, ("what", "value"), rows)


# -- scripts


@script_app.command("list")
def list_scripts() -> None:
    """List scripts."""
    items = options.api().get("/scripts")["items"]
    rows = [
        (s["name"], s["phase"], s["system"] or "none", s["seconds"], s["on_error"], s["description"])
        for s in items
    ]
    show(items, options.json_output, ("name", "phase", "system", "seconds", "on error", "description"), rows)


@script_app.command("show")
def show_script(name: Name) -> None:
    """Print a script's text; with --json all of it."""
    script = options.api().get(f"/scripts/{name}")
    if options.json_output:
        print_json(script)
    else:
        console.out(script["text"], end="", highlight=False)


@script_app.command("add")
def add_script(
    name: Name,
    file: Annotated[Path, typer.Argument(help="The script, for /bin/sh; - reads it from a pipe.")],
    phase: Annotated[str | None, typer.Option(help="pre (before anything is written) or post.")] = None,
    system: System = None,
    seconds: Annotated[int | None, typer.Option(help="Time limit, 1 to 7200; 300 if not given.")] = None,
    on_error: Annotated[str | None, typer.Option(help="fail (the task) or continue.")] = None,
    description: Description = None,
    replace: Replace = False,
) -> None:
    """Keep a script; `pxeboot customise set` says who gets it."""
    body = {
        "text": _read(file).decode("utf-8", "replace"), "phase": phase, "system": system, "seconds": seconds,
        "on_error": on_error, "description": description,
    }  # fmt: skip
    _details(_keep("scripts", name, body, replace))


@script_app.command("rm")
def remove_scripts(names: Names) -> None:
    """Remove scripts that nobody uses."""
    _remove("scripts", names)


def _remove(kind: str, names: list[str]) -> None:
    api = options.api()
    for name in names:
        api.call("DELETE", f"/{kind}/{name}")
        console.print(f"{name}: removed")


# -- files


@file_app.command("list")
def list_files() -> None:
    """List files and templates."""
    items = options.api().get("/files")["items"]
    rows = [
        (f["name"], f["path"], f["system"], "template" if f["template"] else "file", size(f["size"]))
        for f in items
    ]
    show(items, options.json_output, ("name", "path", "system", "kind", "size"), rows)


@file_app.command("show")
def show_file(name: Name) -> None:
    """Show where a file goes."""
    _details(options.api().get(f"/files/{name}"))


@file_app.command("get")
def get_file(
    name: Name, to: Annotated[Path | None, typer.Argument(help="Where to; else printed.")] = None
) -> None:
    """Fetch a file's content."""
    data = options.api().call("GET", f"/files/{name}/content").content
    if to is None:
        sys.stdout.buffer.write(data)
    else:
        to.write_bytes(data)


@file_app.command("add")
def add_file(
    name: Name,
    source: Annotated[Path, typer.Argument(help="The file here; - reads it from a pipe.")],
    to: Annotated[str | None, typer.Option("--to", help="Its path in the system, like /etc/motd.")] = None,
    system: System = None,
    mode: Annotated[str | None, typer.Option(help="Mode on Linux, like 0755.")] = None,
    owner: Annotated[str | None, typer.Option(help="Owner on Linux as numbers, like 0:0.")] = None,
    template: Annotated[
        bool | None, typer.Option("--template/--plain", help="Fill it in with each host's variables.")
    ] = None,
    description: Description = None,
    replace: Replace = False,
) -> None:
    """Keep a file for deployed systems; `pxeboot customise set` says who gets it."""
    data = _read(source)
    body = {
        "path": to, "system": system or None, "mode": mode, "owner": owner, "template": template,
        "description": description,
    }  # fmt: skip
    if not replace and to is None:
        raise Invalid("Say with --to where the file goes in the system, like --to /etc/motd.")
    _keep("files", name, body, replace)
    answer = options.api().call(
        "PUT", f"/files/{name}/content", content=data, headers={"Content-Type": "application/octet-stream"}
    )
    _details(answer.json())


@file_app.command("rm")
def remove_files(names: Names) -> None:
    """Remove files that nobody uses."""
    _remove("files", names)


# -- secrets


@secret_app.command("list")
def list_secrets() -> None:
    """List the names of secrets; their values are never shown."""
    items = options.api().get("/secrets")["items"]
    rows = [(s["name"], s["changed_at"], s["changed_by"]) for s in items]
    show(items, options.json_output, ("name", "set", "by"), rows)


@secret_app.command("set")
def set_secret(
    name: Name,
    file: Annotated[Path | None, typer.Option(help="Take the value from a file, as it is.")] = None,
) -> None:
    """Make or replace a secret; the value is asked, read from a pipe, or taken from a file."""
    if file is not None:
        data = _read(file)
        # What djoin.exe /savefile writes is UTF-16 and ends with a zero.
        utf16 = data.startswith(b"\xff\xfe")
        value = (
            data.decode("utf-16", "replace").rstrip("\0\r\n") if utf16 else data.decode("utf-8", "replace")
        )
    elif sys.stdin.isatty():
        value = typer.prompt("Value", hide_input=True, confirmation_prompt="Again")
    else:
        value = sys.stdin.readline().rstrip("\r\n")
    options.api().call("PUT", f"/secrets/{name}", json={"value": value})
    console.print(f"{name}: set")


@secret_app.command("rm")
def remove_secrets(names: Names) -> None:
    """Forget secrets that nobody uses."""
    _remove("secrets", names)


# -- who gets what


@app.command("show")
def show_rules(
    image: Annotated[str, typer.Option(help="What this image says.")] = "",
    group: Annotated[str, typer.Option(help="What this group says.")] = "",
    host: Annotated[str, typer.Option(help="What this host gets in the end, and who says so.")] = "",
) -> None:
    """Show what is done after the image: of a host the result, with --image of that image's deploy."""
    api = options.api()
    if not host:
        print_json(api.get(f"{_whose(image, group, host)}/customise")["customise"])
        return
    result = api.get(f"/hosts/{host}/customise", image=image)
    if options.json_output:
        print_json(result)
        return
    rows = [
        (key, _short(_at(result["merged"], key)), origin) for key, origin in sorted(result["origins"].items())
    ]
    rows += [
        (f"secret {name}", "set" if there else "MISSING", "") for name, there in result["secrets"].items()
    ]
    rows += [("drivers", folder, "") for folder in result["driver_folders"]]
    title = f"{result['host']} with {result['image'] or 'no image'}"
    show(result, False, ("what", "value", "said by"), rows, title=title)
    for problem in result["problems"]:
        console.print(f"PROBLEM: {problem}", markup=False)


def _at(rules: dict[str, Any], key: str) -> Any:
    kind, _, name = key.partition(".")
    if kind in ("scripts", "files"):
        return next((item for item in rules.get(kind, []) if item["name"] == name), "")
    value: Any = rules
    for part in key.split("."):
        value = value.get(part, "") if isinstance(value, dict) else ""
    return value


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join([*value.get("arguments", []), *(f"{k}={v}" for k, v in value.items()
                         if k not in ("name", "arguments"))]) or "yes"  # fmt: skip
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


@app.command("set")
def set_rules(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="KEY=VALUE, like windows.locale=fr-FR or linux.ssh_host_keys=false; KEY= inherits."
        ),
    ] = None,
    image: Annotated[str, typer.Option(help="Say it for this image.")] = "",
    group: Annotated[str, typer.Option(help="Say it for this group.")] = "",
    host: Annotated[str, typer.Option(help="Say it for this host.")] = "",
    script: Annotated[
        list[str] | None,
        typer.Option(help='A script to run, with its arguments: "printers {{ host.group }}"; in this order.'),
    ] = None,
    file: Annotated[list[str] | None, typer.Option(help="A file to put there; may be given again.")] = None,
    no_scripts: Annotated[bool, typer.Option("--no-scripts", help="Name no script any more.")] = False,
    no_files: Annotated[bool, typer.Option("--no-files", help="Name no file any more.")] = False,
    rules: Annotated[Path | None, typer.Option("--json-file", help="Replace all by this JSON.")] = None,
) -> None:
    """Say what is done after the image; what is not named stays."""
    where = _whose(image, group, host)
    if rules is not None:
        try:
            whole = json.loads(_read(rules))
        except ValueError as error:
            raise Invalid(f"{rules} is no JSON: {error}.") from error
        print_json(options.api().call("PUT", f"{where}/customise", json=whole).json()["customise"])
        return
    change: dict[str, Any] = {}
    for word in settings or []:
        _put(change, word)
    if script or no_scripts:
        change["scripts"] = [_use(text) for text in script or []]
    if file or no_files:
        change["files"] = list(file or [])
    print_json(options.api().call("PATCH", f"{where}/customise", json=change).json()["customise"])


def _whose(image: str, group: str, host: str) -> str:
    given = [(kind, name) for kind, name in (("images", image), ("groups", group), ("hosts", host)) if name]
    if len(given) != 1:
        raise Invalid("Name one of --image, --group and --host.")
    kind, name = given[0]
    return f"/{kind}/{name}"


def _put(change: dict[str, Any], word: str) -> None:
    """`a.b=value` into a merge patch; true, false and nothing are what they look like."""
    key, sign, text = word.partition("=")
    if not sign or not key.strip():
        raise Invalid(f"{word!r} has no value; write it like windows.locale=fr-FR.")
    *above, last = key.strip().split(".")
    words = {} if above[:1] == ["variables"] else {"true": True, "false": False}
    for name in above:
        change = change.setdefault(name, {})
    change[last] = words.get(text.strip(), text) if text.strip() else None


def _use(text: str) -> dict[str, Any]:
    """`name arguments…`, quoted as in a shell."""
    import re
    import shlex

    # What stands between braces is one piece, though it has spaces.
    held = re.sub(r"\{\{.*?\}\}", lambda match: match[0].replace(" ", "\0"), text)
    try:
        words = [word.replace("\0", " ") for word in shlex.split(held)]
    except ValueError as error:
        raise Invalid(f"--script {text!r}: {error}.") from error
    if not words:
        raise Invalid("--script wants the name of a script.")
    return {"name": words[0], "arguments": words[1:]} if words[1:] else {"name": words[0]}
