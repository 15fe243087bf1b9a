"""Images: list, capture, one image with its versions and defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response
from starlette.datastructures import FormData

from pxeboot.errors import AppError, Invalid
from pxeboot.events import Change, Record
from pxeboot.services import hosts, images, operations, versions
from pxeboot.services.views import OperationRequest
from webui import forms
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import live_block, page, redirect, translate
from webui.stream import live

router = APIRouter(route_class=PageRoute)
RECENT = 5  # ended jobs that are shown
EMPTY_CAPTURE = {
    "host": "", "image": "", "partitions": "", "rule": "only", "disk": "", "exclude_windows_files": "",
    "note": "",
}  # fmt: skip


async def sent(request: Request) -> FormData:
    """The whole form: options are many, and all may be left out."""
    return await request.form()


Sent = Annotated[FormData, Depends(sent)]


def texts(form: FormData, names: dict[str, str]) -> dict[str, str]:
    """The text fields of a form that are known, with what is missing as it was."""
    return {name: str(form.get(name, default)).strip() for name, default in names.items()}


def store_values(these: ServicesDep) -> dict[str, Any]:
    """What the section about the image store shows."""
    jobs = these.jobs.list()
    shown = [job for job in jobs if job.finished_at is None] + [job for job in jobs if job.finished_at][
        :RECENT
    ]
    try:
        store = these.keeper.status()
    except AppError:  # the store has its own troubles; the images are still listed
        store = None
    return {"store": store, "jobs": shown, "now": datetime.now(UTC)}


def _images_page(
    request: Request,
    these: ServicesDep,
    form: dict[str, str],
    *,
    status: int = 200,
    error: str = "",
) -> Response:
    with these.read() as session:
        found = images.list_images(session, limit=500).items
        sources = hosts.list_hosts(session, state="approved", limit=500).items
    return page(
        request,
        "images.html",
        status=status,
        images=found,
        hosts=sources,
        form=form,
        error=error,
        exchange_view=these.exchange.view,
        **store_values(these),
    )


@router.get("/images")
def list_images(request: Request, these: ServicesDep, who: Reader) -> Response:
    """All images, the form of a capture, and the image store."""
    return _images_page(request, these, EMPTY_CAPTURE)


@router.get("/live/images")
async def images_live(request: Request, these: ServicesDep, who: Reader) -> Response:
    """The image store and its jobs, live."""

    def wants(message: Record | Change) -> bool:
        return isinstance(message, Change) and message.what in ("job", "image")

    return live(these, wants, lambda: (live_block(request, "images.html", **store_values(these)), False))


@router.post("/capture")
def capture(request: Request, these: ServicesDep, who: AdminForm, form: Sent) -> Response:
    """Capture a host's disk as the next version of an image; a mistake brings the form back."""
    values = texts(form, EMPTY_CAPTURE)
    try:
        wanted = OperationRequest(
            kind="capture",
            hosts=[values["host"]],
            image=values["image"][:140],
            disk=forms.disk_rule(values),
            capture=forms.capture_options(values, [str(kind) for kind in form.getlist("whole")]),
            note=values["note"][:500],
        )
        with these.write() as session:
            view = operations.start(
                session, wanted, actor=who.name, settings=these.settings, allow=these.keeper.check_room
            )
    except (AppError, ValueError) as error:
        sentence = (
            error.sentence if isinstance(error, AppError) else translate(request, "Please correct the form.")
        )
        status = error.status if isinstance(error, AppError) else 422
        return _images_page(request, these, values, status=status, error=sentence)
    return redirect(f"/operations/{view.id}")


def _image_page(
    request: Request,
    these: ServicesDep,
    image: str,
    *,
    form: dict[str, str] | None = None,
    status: int = 200,
    error: str = "",
) -> Response:
    with these.read() as session:
        found = images.get_image(session, image)
        history = images.versions(session, image)
    try:
        usage = these.keeper.usage([version.manifest for version in history])
    except AppError:
        usage = {}
    return page(
        request,
        "image.html",
        status=status,
        image=found,
        versions=history,
        usage=usage,
        form=form or _kept(found.params),
        error=error,
    )


def _kept(params: dict[str, Any]) -> dict[str, str]:
    """An image's parameters as its form shows them."""
    deploy = params.get("deploy") or {}
    grow = deploy.get("grow", "")

    def choice(name: str) -> str:
        return {None: "", True: "yes", False: "no"}[deploy.get(name)]

    return {
        "keep": str(params.get("keep", "")),
        "grow": ", ".join(map(str, grow)) if isinstance(grow, list) else str(grow),
        "shrink": choice("shrink"),
        "identities": str(deploy.get("identities", "")),
        "discard": choice("discard"),
        "verify": choice("verify"),
    }


@router.get("/images/{image}")
def show_image(request: Request, these: ServicesDep, who: Reader, image: str) -> Response:
    """One image, its versions and its defaults."""
    return _image_page(request, these, image)


@router.post("/images/{image}")
def change_image(request: Request, these: ServicesDep, who: AdminForm, image: str, form: Sent) -> Response:
    """Change or delete an image; a mistake brings the form back as it was filled in."""
    values = texts(form, {"name": image, "description": "", "do": "save", **_kept({})})
    try:
        if values["do"] == "delete":
            these.keeper.delete_image(image, actor=who.name)
            return redirect("/images", translate(request, "Deleted."))
        if values["keep"] and not values["keep"].isdecimal():
            raise Invalid(translate(request, "Say how many versions are kept, as a number."))
        with these.write() as session:
            before = images.get_image(session, image).params.get("deploy") or {}
            # What has no field here (disks, set over the API) stays.
            deploy = {key: value for key, value in before.items() if key not in values}
            deploy |= forms.deploy_options(values, with_partitions=False)
            view = images.update_image(
                session,
                image,
                actor=who.name,
                name=values["name"],
                description=values["description"],
                params={"keep": int(values["keep"]) if values["keep"] else None, "deploy": deploy or None},
            )
    except AppError as error:
        return _image_page(request, these, image, form=values, status=error.status, error=error.sentence)
    return redirect(f"/images/{view.name}", translate(request, "Saved."))


@router.post("/images/{image}/rollback")
def rollback(
    request: Request, these: ServicesDep, who: AdminForm, image: str, version: Annotated[str, Form()]
) -> Response:
    """Make a version the current one, or follow the newest again."""
    with these.write() as session:
        versions.rollback(session, image, version, actor=who.name)
    return redirect(f"/images/{image}", translate(request, "Saved."))
