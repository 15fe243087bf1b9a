"""One version of an image: what it is, who holds it, its tags, and what differs from another."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from pxeboot.errors import AppError
from pxeboot.services import images, versions
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import page, redirect, translate

router = APIRouter(route_class=PageRoute)


@router.get("/images/{image}/diff")
def show_diff(
    request: Request,
    these: ServicesDep,
    who: Reader,
    image: str,
    since: Annotated[str, Query(alias="from")],
    to: str,
) -> Response:
    """What differs between two versions."""
    diff = these.keeper.diff(f"{image}@{since}", f"{image}@{to}")
    disks = len({partition.disk for partition in diff.partitions})
    return page(request, "diff.html", image=image, diff=diff, disks=disks)


@router.get("/images/{image}/versions/{version}")
def show_version(request: Request, these: ServicesDep, who: Reader, image: str, version: str) -> Response:
    """One version by number or tag."""
    with these.read() as session:
        found = images.resolve(session, f"{image}@{version}")
        held = versions.holders(session, found.manifest)
        before = versions.before(session, found).number
    try:
        usage = these.keeper.usage([found.manifest]).get(found.manifest)
    except AppError:
        usage = None
    return page(request, "version.html", version=found, held_by=held, before=before, usage=usage)


@router.post("/images/{image}/untag")
def untag(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    image: str,
    tag: Annotated[str, Form()],
    version: Annotated[str, Form()],
) -> Response:
    """Take a tag away."""
    with these.write() as session:
        versions.untag(session, image, tag, actor=who.name)
    return redirect(f"/images/{image}/versions/{version}", translate(request, "Saved."))


@router.post("/images/{image}/versions/{version}/{do}")
def act(
    request: Request,
    these: ServicesDep,
    who: AdminForm,
    image: str,
    version: str,
    do: str,
    tag: Annotated[str, Form()] = "",
) -> Response:
    """Pin, unpin, tag or delete a version; what refuses says why on the page."""
    here, reference = f"/images/{image}/versions/{version}", f"{image}@{version}"
    try:
        if do == "delete":
            these.keeper.delete_version(reference, actor=who.name)
            return redirect(f"/images/{image}", translate(request, "Deleted."))
        with these.write() as session:
            if do in ("pin", "unpin"):
                versions.pin(session, reference, do == "pin", actor=who.name)
            elif do == "tag":
                versions.tag(session, reference, tag.strip(), actor=who.name)
    except AppError as error:
        return redirect(here, error.sentence, "error")
    return redirect(here, translate(request, "Saved."))
