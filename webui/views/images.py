"""Images: list, versions, capture."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from pxeboot.services import hosts, images, operations
from pxeboot.services.views import OperationRequest
from webui.guard import AdminForm, PageRoute, Reader, ServicesDep
from webui.render import page, redirect

router = APIRouter(route_class=PageRoute)


@router.get("/images")
def list_images(request: Request, these: ServicesDep, who: Reader) -> Response:
    """All images."""
    with these.read() as session:
        found = images.list_images(session, limit=500).items
        sources = hosts.list_hosts(session, state="approved", limit=500).items
    return page(request, "images.html", images=found, hosts=sources)


@router.get("/images/{image}")
def show_image(request: Request, these: ServicesDep, who: Reader, image: str) -> Response:
    """One image and its versions."""
    with these.read() as session:
        found = images.get_image(session, image)
        versions = images.versions(session, image)
    return page(request, "image.html", image=found, versions=versions)


@router.post("/capture")
def capture(
    these: ServicesDep, who: AdminForm, host: Annotated[str, Form()], image: Annotated[str, Form()]
) -> Response:
    """Capture a host's disk as the next version of an image."""
    with these.write() as session:
        view = operations.start(
            session,
            OperationRequest(kind="capture", hosts=[host], image=image.strip()),
            actor=who.name,
            settings=these.settings,
        )
    return redirect(f"/operations/{view.id}")
