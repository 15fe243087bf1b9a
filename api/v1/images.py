"""`/api/v1/images`: lines of versions, and what is done with each version."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.v1.deps import Admin, Cursor, Limit, ServicesDep, Viewer
from api.v1.schemas import ImageCreate, ImageDetail, ImageUpdate, Rollback, TagSet
from pxeboot.services import images, versions
from pxeboot.services.store_views import DiffView, VersionDetail
from pxeboot.services.views import ImageView, Page, VersionView

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
    """Change name, description, default options, or how many versions are kept."""
    with these.write() as session:
        return images.update_image(session, image, actor=who.name, **body.model_dump(exclude_unset=True))


@router.delete("/images/{image}", status_code=204, operation_id="deleteImage")
def delete_image(these: ServicesDep, who: Admin, image: str) -> None:
    """Forget an image and its versions, unless something uses it or a version is pinned or tagged."""
    these.keeper.delete_image(image, actor=who.name)


@router.post("/images/{image}:rollback", operation_id="rollbackImage")
def rollback_image(these: ServicesDep, who: Admin, image: str, body: Rollback | None = None) -> ImageView:
    """Say which version a deploy takes when none is named; `latest` follows the newest again."""
    with these.write() as session:
        return versions.rollback(session, image, body.version if body else None, actor=who.name)


@router.get("/images/{image}/versions", operation_id="listVersions")
def list_versions(these: ServicesDep, who: Viewer, image: str, usage: bool = False) -> Page[VersionDetail]:
    """Its history, newest first; with `usage` what each takes in the store, alone and shared."""
    with these.read() as session:
        found = images.versions(session, image)
        held = {view.id: versions.holders(session, view.manifest) for view in found if view.hosts}
    taken = these.keeper.usage([view.manifest for view in found]) if usage else {}
    return Page(
        items=[
            VersionDetail(**dict(view), usage=taken.get(view.manifest), held_by=held.get(view.id, []))
            for view in found
        ]
    )


@router.get("/images/{image}/diff", operation_id="diffVersions")
def diff_versions(
    these: ServicesDep,
    who: Viewer,
    image: str,
    to: Annotated[str, Query(max_length=70, description="Number or tag; default: the current one.")] = "",
    since: Annotated[
        str,
        Query(alias="from", max_length=140, description="Number, tag, or image@version; default: `to` - 1."),
    ] = "",
) -> DiffView:
    """What came and went between two versions: chunks, bytes, and in which partitions."""
    with these.read() as session:
        new = images.resolve(session, f"{image}@{to}" if to else image)
        if since:
            old = images.resolve(session, since if "@" in since else f"{image}@{since}")
        else:
            old = versions.before(session, new)
    return these.keeper.diff(old.name, new.name)


@router.get("/images/{image}/versions/{version}", operation_id="getVersion")
def get_version(these: ServicesDep, who: Viewer, image: str, version: str) -> VersionDetail:
    """One version by number or tag: what is in it, what it takes, which hosts hold it."""
    with these.read() as session:
        view = images.resolve(session, f"{image}@{version}")
        held = versions.holders(session, view.manifest)
    usage = these.keeper.usage([view.manifest])
    return VersionDetail(**dict(view), usage=usage.get(view.manifest), held_by=held)


@router.delete("/images/{image}/versions/{version}", status_code=204, operation_id="deleteVersion")
def delete_version(these: ServicesDep, who: Admin, image: str, version: str) -> None:
    """Forget a version that is not pinned, tagged, current or in use; a prune frees its chunks."""
    these.keeper.delete_version(f"{image}@{version}", actor=who.name)


@router.post("/images/{image}/versions/{version}:pin", operation_id="pinVersion")
def pin_version(these: ServicesDep, who: Admin, image: str, version: str) -> VersionView:
    """Protect a version from deletion."""
    with these.write() as session:
        return versions.pin(session, f"{image}@{version}", True, actor=who.name)


@router.post("/images/{image}/versions/{version}:unpin", operation_id="unpinVersion")
def unpin_version(these: ServicesDep, who: Admin, image: str, version: str) -> VersionView:
    """Protect it no more."""
    with these.write() as session:
        return versions.pin(session, f"{image}@{version}", False, actor=who.name)


@router.put("/images/{image}/tags/{tag}", operation_id="tagVersion")
def tag_version(these: ServicesDep, who: Admin, image: str, tag: str, body: TagSet) -> VersionView:
    """Give a version a name; the image's version that has it loses it."""
    with these.write() as session:
        return versions.tag(session, f"{image}@{body.version}", tag, actor=who.name)


@router.delete("/images/{image}/tags/{tag}", status_code=204, operation_id="untagVersion")
def untag_version(these: ServicesDep, who: Admin, image: str, tag: str) -> None:
    """Take a tag away."""
    with these.write() as session:
        versions.untag(session, image, tag, actor=who.name)
