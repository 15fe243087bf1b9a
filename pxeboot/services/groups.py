"""Groups: sets of hosts, with the template that names their newcomers and the image a reset gives them."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session

from pxeboot.services.views import GroupView, Page


def list_groups(
    session: Session, *, q: str = "", cursor: str | None = None, limit: int = 50
) -> Page[GroupView]:
    """Groups by name."""
    raise NotImplementedError


def get_group(session: Session, key: str | int) -> GroupView:
    """One group by name or id. NotFound(group) with the nearest names."""
    raise NotImplementedError


def create_group(
    session: Session,
    *,
    name: str,
    description: str = "",
    name_template: str = "",
    image: str | None = None,
    actor: str = "",
) -> GroupView:
    """Conflict when the name is taken; Invalid for a template without #; NotFound(image)."""
    raise NotImplementedError


def update_group(session: Session, key: str | int, *, actor: str = "", **changes: Any) -> GroupView:
    """Change `name`, `description`, `name_template`, `image` (only those given)."""
    raise NotImplementedError


def delete_group(session: Session, key: str | int, *, actor: str = "") -> None:
    """Remove a group; its hosts stay, in no group. Conflict while an operation on it runs."""
    raise NotImplementedError
