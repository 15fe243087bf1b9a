"""Images: named lines of immutable versions."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from pxeboot.services.views import ImageView, Page, VersionView


def list_images(
    session: Session, *, q: str = "", cursor: str | None = None, limit: int = 50
) -> Page[ImageView]:
    """Images by name."""
    raise NotImplementedError


def get_image(session: Session, key: str | int) -> ImageView:
    """One image by name or id. NotFound(image) with the nearest names."""
    raise NotImplementedError


def create_image(session: Session, *, name: str, description: str = "", actor: str = "") -> ImageView:
    """An empty line of versions. Conflict when the name is taken; Invalid for a bad name."""
    raise NotImplementedError


def update_image(session: Session, key: str | int, *, actor: str = "", **changes: Any) -> ImageView:
    """Change `name`, `description` (only those given)."""
    raise NotImplementedError


def delete_image(session: Session, key: str | int, *, actor: str = "") -> None:
    """Forget an image and its versions (chunks stay until pruned). Conflict while something uses it or a
    version is pinned."""
    raise NotImplementedError


def versions(session: Session, key: str | int) -> list[VersionView]:
    """The versions of an image, newest first."""
    raise NotImplementedError


def resolve(session: Session, reference: str) -> VersionView:
    """The version that `debian@3` or `debian` (the latest) means. NotFound(image|version); Conflict when
    there is no version yet."""
    raise NotImplementedError


def pin(session: Session, reference: str, pinned: bool, *, actor: str = "") -> VersionView:
    """Protect a version from deletion, or stop doing so."""
    raise NotImplementedError


def add_version(
    session: Session,
    image: str,
    *,
    manifest: str,
    disk_bytes: int,
    used_bytes: int,
    stored_bytes: int,
    chunks: int,
    source_host: str = "",
    note: str = "",
) -> VersionView:
    """Number and record a version whose manifest is complete in the store; makes the image if it is new."""
    raise NotImplementedError
