"""Which versions a prune may delete: everything an image's parameter `keep` does not keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlmodel import Session, col, select

from pxeboot.db.models import Image, ImageVersion
from pxeboot.services import images, lookup, versions
from pxeboot.services.views import KeptVersion, RetentionPlan


def plan(session: Session, image: str | None = None) -> RetentionPlan:
    """What would be deleted and kept, of one image or of all. NotFound(image).

    An image without `keep` keeps all. With it the newest so many stay, and whatever is pinned, tagged,
    current, or in use by an operation or schedule.
    """
    rows: Sequence[Image] = (
        [lookup.image(session, image)] if image else session.exec(select(Image).order_by(Image.name)).all()
    )
    found: dict[int, list[ImageVersion]] = defaultdict(list)
    query = select(ImageVersion).where(col(ImageVersion.image_id).in_([row.id for row in rows]))
    for version in session.exec(query.order_by(col(ImageVersion.number).desc())):
        found[version.image_id].append(version)
    delete: list[str] = []
    keep: list[KeptVersion] = []
    numbers: dict[int, list[int]] = {}
    for row in rows:
        limit = row.params.get("keep")
        for place, version in enumerate(found[row.id or 0]):
            name = f"{row.name}@{version.number}"
            reason = _kept(session, row, version, place, limit)
            if reason:
                keep.append(KeptVersion(version=name, reason=reason))
            else:
                delete.append(name)
                numbers.setdefault(row.id or 0, []).append(version.number)
    return RetentionPlan(delete=delete, keep=keep, numbers=numbers)


def _kept(session: Session, row: Image, version: ImageVersion, place: int, limit: int | None) -> str:
    if limit is None:
        return "the image keeps all its versions"
    if place < limit:
        return f"one of the {limit} newest" if limit > 1 else "the newest"
    if version.pinned:
        return "pinned"
    if version.tags:
        return f"tagged {', '.join(sorted(version.tags))}"
    if version.number == images.current_number(session, row):
        return "current"
    return versions.refusal(session, row, version)
