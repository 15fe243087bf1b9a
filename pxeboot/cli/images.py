"""`pxeboot image …`: lines of versions, and what is done with each version."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from pxeboot.cli import jobs, task_options
from pxeboot.cli.context import options
from pxeboot.cli.output import console, print_json, show, size
from pxeboot.errors import Invalid

app = typer.Typer(no_args_is_help=True)
Image = Annotated[str, typer.Argument(help="Name of the image.")]
Version = Annotated[
    str, typer.Argument(help="image@NUMBER or image@TAG; the image alone: its current version.")
]
Maybe = Annotated[str, typer.Argument(help="Image or image@version; empty: all of them.")]


@app.command("list")
def list_() -> None:
    """List images."""
    images = options.api().pages("/images")
    rows = [
        (
            i["name"],
            i["versions"],
            (i["current"] or {}).get("name"),
            "rolled back" if i["held"] else "",
            (i["latest"] or {}).get("created_at"),
            i["params"].get("keep", "all"),
            i["description"],
        )
        for i in images
    ]
    columns = ("name", "versions", "current", "", "newest from", "keeps", "description")
    show(images, options.json_output, columns, rows)


@app.command()
def create(name: Image, description: Annotated[str, typer.Option(help="What is in it.")] = "") -> None:
    """Make an image without versions; captures add them."""
    print_json(options.api().call("POST", "/images", json={"name": name, "description": description}).json())


@app.command("show")
def show_(reference: Version) -> None:
    """Show an image's current version, or the one that is named: what is in it, and who holds it."""
    version = options.api().get(_path(reference))
    usage = version["usage"] or {}
    facts = [
        ("version", version["name"] + (" (current)" if version["current"] else "")),
        ("manifest", version["manifest"]),
        ("captured", version["created_at"]),
        ("from", version["source_host"]),
        ("by", version["by"]),
        ("note", version["note"]),
        ("tags", ", ".join(version["tags"])),
        ("pinned", "yes" if version["pinned"] else ""),
        ("disk", size(version["disk_bytes"])),
        ("used", size(version["used_bytes"])),
        ("stored alone", size(usage.get("own"))),
        ("stored, shared", size(usage.get("shared"))),
        ("held by", ", ".join(version["held_by"])),
    ]
    facts += [
        (
            f"disk {at} partition {p['number']}",
            f"{p['filesystem']} {size(p['used'])} of {size(p['size'])} {p['name'] or p['label']}".strip(),
        )
        for at, disk in enumerate(version["summary"].get("disks", []))
        for p in disk["partitions"]
    ]
    show(version, options.json_output, ("what", version["name"]), [row for row in facts if row[1]])


@app.command()
def history(name: Image) -> None:
    """List an image's versions, newest first."""
    found = options.api().get(f"/images/{quote(name)}/versions", usage="true")["items"]
    rows = [
        (
            v["name"],
            " ".join(
                [*(["current"] if v["current"] else []), *(["pinned"] if v["pinned"] else []), *v["tags"]]
            ),
            v["created_at"],
            v["source_host"],
            v["by"],
            size(v["used_bytes"]),
            size((v["usage"] or {}).get("own")),
            size((v["usage"] or {}).get("shared")),
            v["hosts"],
            v["note"],
        )
        for v in found
    ]
    columns = ("version", "is", "captured", "from", "by", "used", "alone", "shared", "hosts", "note")
    show(found, options.json_output, columns, rows)


@app.command()
def diff(
    old: Annotated[
        str, typer.Argument(help="image@version, or an image: then its current version is `new`.")
    ],
    new: Annotated[str, typer.Argument(help="image@version; empty: the version before is `old`.")] = "",
) -> None:
    """Say what differs between two versions."""
    image, _, version = (new or old).partition("@")
    since = "" if not new else old if "@" in old else f"{old}@current"
    answer = options.api().get(f"/images/{quote(image)}/diff", to=version, **{"from": since})
    rows = [
        (
            f"disk {p['disk']}",
            p["number"] if p["number"] is not None else "outside partitions",
            p["filesystem"],
            p["name"],
            p["change"],
            size(p["bytes"]),
            p["note"],
        )
        for p in answer["partitions"]
    ]
    columns = ("where", "partition", "file system", "name", "change", "differs", "note")
    show(answer, options.json_output, columns, rows, title=f"{answer['a']} → {answer['b']}")
    if not options.json_output:
        console.print(
            f"{answer['added_chunks']} chunks came ({size(answer['added_bytes'])}, stored "
            f"{size(answer['added_stored'])}), {answer['removed_chunks']} went "
            f"({size(answer['removed_bytes'])}), {answer['common_chunks']} stayed."
        )


@app.command()
def pin(reference: Version) -> None:
    """Protect a version from deletion."""
    _changed(options.api().call("POST", f"{_path(reference)}:pin").json(), "pinned")


@app.command()
def unpin(reference: Version) -> None:
    """Protect a version no more."""
    _changed(options.api().call("POST", f"{_path(reference)}:unpin").json(), "unpinned")


@app.command()
def tag(reference: Version, name: Annotated[str, typer.Argument(help="The tag, a word.")]) -> None:
    """Give a version a name that may be used instead of its number; it moves from another version."""
    image, version = _parts(reference)
    path = f"/images/{quote(image)}/tags/{quote(name)}"
    _changed(options.api().call("PUT", path, json={"version": version}).json(), f"tagged {name}")


@app.command()
def untag(reference: Annotated[str, typer.Argument(help="image@TAG.")]) -> None:
    """Take a tag away from whatever version has it."""
    image, at, name = reference.partition("@")
    if not at:
        raise Invalid(f"{reference} names no tag; write it like {reference}@TAG.")
    options.api().call("DELETE", f"/images/{quote(image)}/tags/{quote(name)}")
    console.print(f"{reference}: the tag is gone")


@app.command()
def rollback(
    reference: Annotated[
        str,
        typer.Argument(help="image@version; image alone: one version back; image@latest: the newest again."),
    ],
) -> None:
    """Say which version a deploy takes when none is named; new captures do not change it."""
    image, at, version = reference.partition("@")
    body = {"version": version} if at else {}
    answer = options.api().call("POST", f"/images/{quote(image)}:rollback", json=body).json()
    current = answer["current"]["name"]
    how = "and stays it when new versions come" if answer["held"] else "and follows the newest"
    show(answer, options.json_output, ("image", "current version"), [(image, f"{current}, {how}")])


@app.command("delete", hidden=True)  # what `rm` was called first
@app.command()
def rm(
    reference: Annotated[str, typer.Argument(help="image@version, or an image that has none.")],
    all_versions: Annotated[
        bool, typer.Option("--all", help="Delete the image with all its versions.")
    ] = False,
) -> None:
    """Delete a version (`prune` frees its space), or a whole image."""
    api = options.api()
    if "@" in reference:
        api.call("DELETE", _path(reference))
    else:
        image = api.get(f"/images/{quote(reference)}")
        if image["versions"] and not all_versions:
            raise Invalid(
                f"{reference} has {image['versions']} versions; name one like {reference}@1, or add --all."
            )
        api.call("DELETE", f"/images/{quote(reference)}")
    console.print(f"{reference}: deleted")


@app.command("set")
def set_(
    name: Image,
    rename: Annotated[str | None, typer.Option(help="New name.")] = None,
    description: Annotated[str | None, typer.Option(help="What is in it.")] = None,
    keep: Annotated[
        str | None, typer.Option(help="How many newest versions a prune keeps; all keeps every one.")
    ] = None,
    whole: task_options.Whole = None,
    windows_files: task_options.WindowsFiles = None,
    grow: task_options.Grow = None,
    shrink: task_options.Shrink = None,
    identities: task_options.Identities = None,
    discard: task_options.Discard = None,
    verify: task_options.Verify = None,
) -> None:
    """Change an image, what a prune keeps of it, and how it is captured and deployed by default."""
    api = options.api()
    params: dict[str, Any] = {}
    if keep is not None:
        params["keep"] = None if keep == "all" else _number(keep, "--keep")
    given = {
        "capture": task_options.capture_options(None, whole, windows_files),
        "deploy": task_options.deploy_options(None, grow, shrink, identities, discard, verify),
    }
    before = api.get(f"/images/{quote(name)}")["params"] if any(given.values()) else {}
    params |= {section: {**before.get(section, {}), **said} for section, said in given.items() if said}
    body: dict[str, Any] = {"name": rename, "description": description, "params": params or None}
    answer = api.call(
        "PATCH",
        f"/images/{quote(name)}",
        json={key: value for key, value in body.items() if value is not None},
    ).json()
    rows = [
        (key, value) for key, value in (("description", answer["description"]), *answer["params"].items())
    ]
    show(answer, options.json_output, (answer["name"], ""), rows)


@app.command()
def verify(reference: Maybe = "", timeout: jobs.Timeout = 86_400) -> None:
    """Read every chunk of a version, or of the whole store, again on the server and check its hash."""
    job = options.api().call("POST", "/store:verify", json={"image": reference or None}).json()
    job = jobs.finish(job, timeout)
    result = job["result"]
    if options.json_output:
        print_json(job)
    elif not result["damaged"]:
        console.print(f"every chunk is whole ({result['chunks']} read)")
    else:
        for finding in result["findings"]:
            console.print(finding["sentence"])
        hit = ", ".join(f"{name} (chunks: {count})" for name, count in result["versions"].items())
        console.print(f"{result['damaged']} damaged; they hit {hit or 'no version'}")
    if result["damaged"]:
        raise typer.Exit(1)


@app.command()
def prune(
    image: Annotated[str, typer.Argument(help="Only versions of this image; empty: of all.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it is only said.")] = False,
    timeout: jobs.Timeout = 86_400,
) -> None:
    """Delete the versions that images do not keep (`image set --keep`), and free what no version needs."""
    api = options.api()
    if not yes:
        plan = api.get("/store/prune-plan", image=image)
        rows = [(name, "delete", "") for name in plan["delete"]]
        rows += [(kept["version"], "keep", kept["reason"]) for kept in plan["keep"]]
        show(plan, options.json_output, ("version", "would", "because"), rows)
        if not options.json_output:
            console.print("Nothing was changed; --yes does it.")
        return
    job = jobs.finish(api.call("POST", "/store:prune", json={"image": image or None}).json(), timeout)
    result = job["result"]
    done = [(len(result["versions"]), result["chunks"], size(max(0, result["bytes"])), result["held"])]
    show(job, options.json_output, ("versions deleted", "chunks", "freed", "held by captures"), done)


@app.command()
def scrub(
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew instead of going on.")] = False,
) -> None:
    """Begin to read the whole store in the background, at the rate of the settings."""
    job = options.api().call("POST", "/store:scrub", json={"restart": restart}).json()
    show(job, options.json_output, ("job", "state"), [(job["id"], job["state"])])


@app.command()
def store() -> None:
    """Show the image store in numbers."""
    view = options.api().get("/store")
    scrub = view["scrub"]
    rows = [
        ("path", view["path"]),
        ("versions", view["versions"]),
        ("chunks", view["chunks"]),
        ("stored", size(view["stored"])),
        ("damaged chunks", view["damaged"]),
        ("free", f"{size(view['free'])}, of which {size(view['reserve'])} are kept in reserve"),
        ("last scrub", scrub["at"] or "never"),
        ("next scrub", scrub["next_at"] or "never"),
    ]
    show(view, options.json_output, ("what", ""), [(name, str(value)) for name, value in rows])


def _parts(reference: str) -> tuple[str, str]:
    image, _, version = reference.partition("@")
    return image, version or "current"


def _path(reference: str) -> str:
    image, version = _parts(reference)
    return f"/images/{quote(image)}/versions/{quote(version)}"


def _number(text: str, option: str) -> int:
    if not text.isdecimal():
        raise Invalid(f"{option} {text} is no number; write one like 5, or all.")
    return int(text)


def _changed(version: dict[str, Any], what: str) -> None:
    show(version, options.json_output, ("version", "is now"), [(version["name"], what)])
