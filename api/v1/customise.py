"""What is done before and after the image: scripts, files, secrets, drivers, and who gets what."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import FileResponse

from api.v1.customise_schemas import (
    DriverFolders,
    FileCreate,
    FileUpdate,
    ScriptCreate,
    ScriptUpdate,
    SecretValue,
)
from api.v1.deps import Admin, ServicesDep, Viewer
from pxeboot.adapters.container import Services
from pxeboot.services import customise, file_drops, scripts, secrets
from pxeboot.services.templates import MAX_TEMPLATE
from pxeboot.services.views import (
    CustomiseResult,
    CustomiseView,
    FileDropView,
    Page,
    ScriptView,
    SecretView,
)

router = APIRouter(tags=["customise"])
Rules = Annotated[dict[str, Any], Body(description="docs/customising.md lists the members.")]


@router.get("/scripts", operation_id="listScripts")
def list_scripts(these: ServicesDep, who: Viewer) -> Page[ScriptView]:
    """Scripts by name."""
    with these.read() as session:
        return Page(items=scripts.list_scripts(session))


@router.post("/scripts", status_code=201, operation_id="createScript")
def create_script(these: ServicesDep, who: Admin, body: ScriptCreate, response: Response) -> ScriptView:
    """Keep a script."""
    with these.write() as session:
        view = scripts.create_script(session, **body.model_dump(), actor=who.name)
    response.headers["Location"] = f"/api/v1/scripts/{view.name}"
    return view


@router.get("/scripts/{script}", operation_id="getScript")
def get_script(these: ServicesDep, who: Viewer, script: str) -> ScriptView:
    """One script."""
    with these.read() as session:
        return scripts.get_script(session, script)


@router.patch("/scripts/{script}", operation_id="updateScript")
def update_script(these: ServicesDep, who: Admin, script: str, body: ScriptUpdate) -> ScriptView:
    """Change a script; members that are not given stay."""
    with these.write() as session:
        return scripts.update_script(session, script, actor=who.name, **body.model_dump(exclude_unset=True))


@router.delete("/scripts/{script}", status_code=204, operation_id="deleteScript")
def delete_script(these: ServicesDep, who: Admin, script: str) -> None:
    """Delete a script that nobody uses."""
    with these.write() as session:
        scripts.delete_script(session, script, actor=who.name)


@router.get("/files", operation_id="listFiles")
def list_files(these: ServicesDep, who: Viewer) -> Page[FileDropView]:
    """File drops by name."""
    with these.read() as session:
        return Page(items=file_drops.list_drops(session))


@router.post("/files", status_code=201, operation_id="createFile")
def create_file(these: ServicesDep, who: Admin, body: FileCreate, response: Response) -> FileDropView:
    """Describe a file drop; its bytes follow by PUT."""
    with these.write() as session:
        view = file_drops.create_drop(session, **body.model_dump(), actor=who.name)
    response.headers["Location"] = f"/api/v1/files/{view.name}"
    return view


@router.get("/files/{file}", operation_id="getFile")
def get_file(these: ServicesDep, who: Viewer, file: str) -> FileDropView:
    """One file drop."""
    with these.read() as session:
        return file_drops.get_drop(session, file)


@router.patch("/files/{file}", operation_id="updateFile")
def update_file(these: ServicesDep, who: Admin, file: str, body: FileUpdate) -> FileDropView:
    """Change where a file goes; members that are not given stay."""
    with these.write() as session:
        view = file_drops.update_drop(session, file, actor=who.name, **body.model_dump(exclude_unset=True))
        if view.template and view.hash:
            file_drops.check_template(view.name, _small(these, view.hash, view.size))
        return view


@router.delete("/files/{file}", status_code=204, operation_id="deleteFile")
def delete_file(these: ServicesDep, who: Admin, file: str) -> None:
    """Delete a file drop that nobody uses."""
    with these.write() as session:
        hash = file_drops.get_drop(session, file).hash
        file_drops.delete_drop(session, file, actor=who.name)
    _tidy(these, hash)


@router.get("/files/{file}/content", operation_id="getFileContent")
def get_content(these: ServicesDep, who: Viewer, file: str) -> FileResponse:
    """A file drop's bytes."""
    with these.read() as session:
        view = file_drops.get_drop(session, file)
    return FileResponse(these.files.path(view.hash), media_type="application/octet-stream")


@router.put("/files/{file}/content", operation_id="putFileContent")
async def put_content(these: ServicesDep, who: Admin, file: str, request: Request) -> FileDropView:
    """Upload a file drop's bytes (octet-stream, not a form)."""

    def before() -> str:
        with these.read() as session:
            return file_drops.get_drop(session, file).hash

    old = await asyncio.to_thread(before)
    hash, size = await these.files.add(request.stream())

    def keep() -> FileDropView:
        try:
            with these.write() as session:
                small = _small(these, hash, size)
                return file_drops.set_content(session, file, hash, size, small, actor=who.name)
        finally:
            _tidy(these, hash)
            _tidy(these, old)

    return await asyncio.to_thread(keep)


def _small(these: Services, hash: str, size: int) -> bytes | None:
    return these.files.read(hash) if size <= MAX_TEMPLATE else None


def _tidy(these: Services, hash: str) -> None:
    """Forget bytes that no file drop has."""
    if hash:
        with these.read() as session:
            used = file_drops.hash_in_use(session, hash)
        if not used:
            these.files.forget(hash)


@router.get("/secrets", operation_id="listSecrets")
def list_secrets(these: ServicesDep, who: Viewer) -> Page[SecretView]:
    """Names of secrets; no value is ever given back."""
    with these.read() as session:
        return Page(items=secrets.list_secrets(session))


@router.put("/secrets/{secret}", operation_id="setSecret")
def set_secret(these: ServicesDep, who: Admin, secret: str, body: SecretValue) -> SecretView:
    """Make or replace a secret."""
    with these.write() as session:
        return secrets.set_secret(session, these.secrets_key, secret, body.value, actor=who.name)


@router.delete("/secrets/{secret}", status_code=204, operation_id="deleteSecret")
def delete_secret(these: ServicesDep, who: Admin, secret: str) -> None:
    """Forget a secret that nobody uses."""
    with these.write() as session:
        secrets.delete_secret(session, secret, actor=who.name)


@router.get("/drivers", operation_id="listDrivers")
def list_drivers(these: ServicesDep, who: Viewer) -> DriverFolders:
    """The driver folders in the server's data folder; they are filled by hand."""
    return DriverFolders(place=str(these.files.driver_root), folders=these.files.all_driver_folders())


@router.get("/hosts/{host}/customise", operation_id="getHostCustomise")
def host_result(
    these: ServicesDep,
    who: Viewer,
    host: str,
    image: Annotated[str | None, Query(description="debian or debian@3; default: the host's own.")] = None,
) -> CustomiseResult:
    """What a host would get with its next deploy, and who says so; secrets are named, never shown."""
    with these.read() as session:
        return customise.result(session, host, these.files, these.base_url, image)


def _get(these: Services, kind: str, name: str) -> CustomiseView:
    with these.read() as session:
        return customise.get(session, kind, name)


def _change(
    these: Services, who: str, kind: Literal["image", "group", "host"], name: str, body: Any, *, whole: bool
) -> CustomiseView:
    with these.write() as session:
        return customise.change(session, kind, name, body, whole=whole, actor=who)


@router.get("/images/{image}/customise", operation_id="getImageCustomise")
def image_rules(these: ServicesDep, who: Viewer, image: str) -> CustomiseView:
    """What an image says."""
    return _get(these, "image", image)


@router.get("/groups/{group}/customise", operation_id="getGroupCustomise")
def group_rules(these: ServicesDep, who: Viewer, group: str) -> CustomiseView:
    """What a group says."""
    return _get(these, "group", group)


@router.patch("/images/{image}/customise", operation_id="patchImageCustomise")
def patch_image(these: ServicesDep, who: Admin, image: str, body: Rules) -> CustomiseView:
    """Change what an image says, by JSON merge patch (RFC 7396)."""
    return _change(these, who.name, "image", image, body, whole=False)


@router.put("/images/{image}/customise", operation_id="putImageCustomise")
def put_image(these: ServicesDep, who: Admin, image: str, body: Rules) -> CustomiseView:
    """Replace what an image says."""
    return _change(these, who.name, "image", image, body, whole=True)


@router.patch("/groups/{group}/customise", operation_id="patchGroupCustomise")
def patch_group(these: ServicesDep, who: Admin, group: str, body: Rules) -> CustomiseView:
    """Change what a group says, by JSON merge patch (RFC 7396)."""
    return _change(these, who.name, "group", group, body, whole=False)


@router.put("/groups/{group}/customise", operation_id="putGroupCustomise")
def put_group(these: ServicesDep, who: Admin, group: str, body: Rules) -> CustomiseView:
    """Replace what a group says."""
    return _change(these, who.name, "group", group, body, whole=True)


@router.patch("/hosts/{host}/customise", operation_id="patchHostCustomise")
def patch_host(these: ServicesDep, who: Admin, host: str, body: Rules) -> CustomiseView:
    """Change what a host says, by JSON merge patch (RFC 7396)."""
    return _change(these, who.name, "host", host, body, whole=False)


@router.put("/hosts/{host}/customise", operation_id="putHostCustomise")
def put_host(these: ServicesDep, who: Admin, host: str, body: Rules) -> CustomiseView:
    """Replace what a host says."""
    return _change(these, who.name, "host", host, body, whole=True)
