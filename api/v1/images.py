"""`/api/v1/images`: lines of versions."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.v1.deps import Admin, Cursor, Limit, ServicesDep, Viewer
from api.v1.schemas import ImageCreate, ImageDetail, ImageUpdate
from pxeboot.services import images
from pxeboot.services.views import ImageView, Page

router = APIRouter(tags=["images"])


@router.get("/images", operation_id="listImages")
def list_images(
    these: ServicesDep, who: Viewer, q: str = "", limit: Limit = 50, cursor: Cursor = None
) -> Page[ImageView]:
    """Images by name."""
    with these.read() as session:
        return images.list_images(session, q=q, cursor=cursor, limit=limit)


@router.post("/images", status_code=201, operation_id="createImage")
def create_image(these: ServicesDep, who: Admin, body: ImageCreate, response: Response) -> ImageView:
    """Make an image without versions; captures add them."""
    with these.write() as session:
        view = images.create_image(session, **body.model_dump(), actor=who.name)
    response.headers["Location"] = f"/api/v1/images/{view.name}"
    return view


@router.get("/images/{image}", operation_id="getImage")
def get_image(these: ServicesDep, who: Viewer, image: str) -> ImageDetail:
    """One image with its versions."""
    with these.read() as session:
        view = images.get_image(session, image)
        return ImageDetail(**view.model_dump(), history=images.versions(session, image))


@router.patch("/images/{image}", operation_id="updateImage")
def update_image(these: ServicesDep, who: Admin, image: str, body: ImageUpdate) -> ImageView:
    """Change name or description."""
    with these.write() as session:
        return images.update_image(session, image, actor=who.name, **body.model_dump(exclude_unset=True))


@router.delete("/images/{image}", status_code=204, operation_id="deleteImage")
def delete_image(these: ServicesDep, who: Admin, image: str) -> None:
    """Forget an image and its versions, unless something uses it or a version is pinned."""
    with these.write() as session:
        images.delete_image(session, image, actor=who.name)
