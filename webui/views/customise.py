"""After the image: scripts, files, secrets and drivers, and what an image, a group or a host gets of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from starlette.datastructures import FormData

from pxeboot.errors import AppError, Conflict, Invalid, NotFound
from pxeboot.services import (
    customise,
    customise_use,
    file_drops,
    groups,
    images,
    scripts,
    secrets,
)
from pxeboot.services.customise_rules import stored
from pxeboot.services.templates import MAX_TEMPLATE
from webui import forms
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import page, redirect, translate

router = APIRouter(route_class=PageRoute)
NEW_SCRIPT = {
    "name": "", "description": "", "phase": "post", "system": "", "seconds": 300, "on_error": "fail",
    "text": "#!/bin/sh\n",
}  # fmt: skip


async def sent(request: Request) -> FormData:
    """The whole form: it has many fields."""
    return await request.form()


@router.get("/customise")
def overview(request: Request, these: ServicesDep, who: Reader) -> Response:
    """Everything there is, and who uses it."""
    return _overview(request, these)


def _overview(request: Request, these: ServicesDep, *, status: int = 200, error: str = "") -> Response:
    with these.read() as session:
        values = {
            "scripts": scripts.list_scripts(session),
            "files": file_drops.list_drops(session),
            "secrets": secrets.list_secrets(session),
            "users": [(user.kind, user.row.name) for user in customise_use.users(session)],
            "groups": groups.list_groups(session, limit=500).items,
            "images": images.list_images(session, limit=500).items,
        }
    return page(
        request, "customise.html", status=status, error=error,
        folders=these.files.all_driver_folders(), driver_root=str(these.files.driver_root), **values,
    )  # fmt: skip


# -- scripts


@router.get("/customise/script")
def new_script(request: Request, these: ServicesDep, who: Reader) -> Response:
    """The form of a new script."""
    who.require("admin")
    return page(request, "script.html", script=NEW_SCRIPT, original="", error="")


@router.get("/customise/script/{name}")
def show_script(request: Request, these: ServicesDep, who: Reader, name: str) -> Response:
    """A script and its form."""
    with these.read() as session:
        found = scripts.get_script(session, name)
    return page(request, "script.html", script=found.model_dump(), original=name, error="")


@router.post("/customise/script")
@router.post("/customise/script/{original}")
def save_script(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    text: Annotated[str, Form()],
    original: str = "",
    name: Annotated[str, Form()] = "",
    description: Annotated[str, Form()] = "",
    phase: Annotated[str, Form()] = "post",
    system: Annotated[str, Form()] = "",
    seconds: Annotated[str, Form()] = "300",
    on_error: Annotated[str, Form()] = "fail",
    do: Annotated[str, Form()] = "save",
) -> Response:
    """Keep, change or remove a script; a mistake brings the form back as it was filled in."""
    values: dict[str, Any] = {
        "description": description, "phase": phase, "system": system, "on_error": on_error, "text": text,
    }  # fmt: skip
    try:
        if not (seconds.isascii() and seconds.isdecimal()):
            raise Invalid(f"{seconds!r} is no number of seconds; write one like 300.", field="seconds")
        with these.write() as session:
            if do == "delete":
                scripts.delete_script(session, original, actor=who.name)
            elif original:
                scripts.update_script(session, original, actor=who.name, seconds=int(seconds), **values)
            else:
                scripts.create_script(
                    session, actor=who.name, name=name.strip(), seconds=int(seconds), **values
                )
    except (Invalid, Conflict, NotFound) as error:
        filled = {**values, "name": original or name, "seconds": seconds}
        return page(
            request,
            "script.html",
            status=error.status,
            script=filled,
            original=original,
            error=error.sentence,
        )
    return redirect("/customise", translate(request, "Saved."))


# -- files and secrets


async def _pieces(upload: UploadFile) -> AsyncIterator[bytes]:
    while data := await upload.read(1 << 20):
        yield data


@router.post("/customise/file")
async def save_file(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    name: Annotated[str, Form()],
    path: Annotated[str, Form()],
    upload: Annotated[UploadFile, File()],
    system: Annotated[str, Form()] = "linux",
    mode: Annotated[str, Form()] = "",
    template: Annotated[bool, Form()] = False,
) -> Response:
    """Upload a file or template, new or in the place of the one of this name."""
    import asyncio

    hash, size = await these.files.add(_pieces(upload))
    values = {"path": path, "system": system, "mode": mode, "template": template}

    def keep() -> None:
        old = ""
        try:
            with these.write() as session:
                known = {drop.name: drop.hash for drop in file_drops.list_drops(session)}
                old = known.get(name, "")
                if name in known:
                    file_drops.update_drop(session, name, actor=who.name, **values)
                else:
                    file_drops.create_drop(session, actor=who.name, name=name.strip(), **values)
                small = these.files.read(hash) if size <= MAX_TEMPLATE else None
                file_drops.set_content(session, name.strip(), hash, size, small, actor=who.name)
        finally:
            with these.read() as session:
                for each in {hash, old} - {""}:
                    if not file_drops.hash_in_use(session, each):
                        these.files.forget(each)

    try:
        await asyncio.to_thread(keep)
    except (Invalid, Conflict) as error:
        return _overview(request, these, status=error.status, error=error.sentence)
    return redirect("/customise#files", translate(request, "Saved."))


@router.post("/customise/file/{name}/delete")
def delete_file(request: Request, these: ServicesDep, who: AdminForm, name: str) -> Response:
    """Remove a file that nobody uses."""
    with these.write() as session:
        hash = file_drops.get_drop(session, name).hash
        file_drops.delete_drop(session, name, actor=who.name)
        used = file_drops.hash_in_use(session, hash)
    if hash and not used:
        these.files.forget(hash)
    return redirect("/customise#files", translate(request, "Saved."))


@router.post("/customise/secret")
def save_secret(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    name: Annotated[str, Form()],
    value: Annotated[str, Form()],
) -> Response:
    """Make or replace a secret."""
    try:
        with these.write() as session:
            secrets.set_secret(session, these.secrets_key, name.strip(), value, actor=who.name)
    except Invalid as error:
        return _overview(request, these, status=error.status, error=error.sentence)
    return redirect("/customise#secrets", translate(request, "Saved."))


@router.post("/customise/secret/{name}/delete")
def delete_secret(request: Request, these: ServicesDep, who: AdminForm, name: str) -> Response:
    """Forget a secret that nobody uses."""
    with these.write() as session:
        secrets.delete_secret(session, name, actor=who.name)
    return redirect("/customise#secrets", translate(request, "Saved."))


# -- who gets what


@router.get("/customise/of/{kind}/{name}")
def show_rules(request: Request, these: ServicesDep, who: Reader, kind: str, name: str) -> Response:
    """What an image, group or host says; of a host also the result."""
    return _rules_page(request, these, kind, name)


def _rules_page(
    request: Request, these: ServicesDep, kind: str, name: str, *, status: int = 200, error: str = "",
    form: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    result = None
    with these.read() as session:
        row = customise_use.row(session, kind, name)
        rules = stored(row.customise)
        if kind == "host":
            try:
                result = customise.result(session, row.name, these.files, these.base_url)
            except AppError as problem:
                error = error or problem.sentence
        known = {
            "scripts": [item.name for item in scripts.list_scripts(session)],
            "files": [item.name for item in file_drops.list_drops(session)],
            "secrets": [item.name for item in secrets.list_secrets(session)],
        }
        name = row.name
    return page(
        request, "customise_of.html", status=status, error=error, kind=kind, name=name, known=known,
        result=result, form=form if form is not None else forms.customise_form(rules),
    )  # fmt: skip


@router.post("/customise/of/{kind}/{name}")
def save_rules(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    kind: str,
    name: str,
    form: Annotated[FormData, Depends(sent)],
) -> Response:
    """Say what an image, group or host gets; a mistake brings the form back as it was filled in."""
    given = {key: str(value) for key, value in form.items() if key != "csrf"}
    try:
        with these.write() as session:
            before = customise.get(session, kind, name).customise
            rules = forms.customise_rules(given, before)
            customise.change(session, kind, name, rules, whole=True, actor=who.name)
    except Invalid as error:
        filled = {**forms.EMPTY_CUSTOMISE, **given}
        return _rules_page(request, these, kind, name, status=error.status, error=error.sentence, form=filled)
    return redirect(f"/customise/of/{kind}/{quote(name)}", translate(request, "Saved."))
