"""What is done with versions of an image: tags, pins, the current one, deleting, and who holds which."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, col, select, update

from pxeboot.db.models import (
    Host,
    Image,
    ImageVersion,
    Operation,
    OperationState,
    Schedule,
    Task,
)
from pxeboot.errors import AppError, Conflict, Invalid
from pxeboot.services import images, lookup
from pxeboot.services.images import WORDS
from pxeboot.services.present import image_views, version_view
from pxeboot.services.task_states import ACTIVE
from pxeboot.services.unit import changed, note
from pxeboot.services.views import ImageView, VersionView

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")


def pin(session: Session, reference: str, pinned: bool, *, actor: str = "") -> VersionView:
    """Protect a version from deletion and pruning, or stop doing so. Done twice it is done once."""
    row, version = images.find_version(session, reference)
    if version.pinned != pinned:
        version.pinned = pinned
        session.add(version)
        _tell(session, row, version, "pinned" if pinned else "unpinned", actor)
    return version_view(session, row, version)


def tag(session: Session, reference: str, name: str, *, actor: str = "") -> VersionView:
    """Give a version a name; a tag that another version of the image has moves. Invalid for a bad name."""
    row, version = images.find_version(session, reference)
    name = checked_tag(name)
    if name not in version.tags:
        before = _without(session, row, name)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        version.tags = {**version.tags, name: {"by": actor, "at": at}}
        session.add(version)
        moved = f" (before: {row.name}@{before.number})" if before is not None else ""
        _tell(session, row, version, "tagged", actor, f"tagged {name}{moved}", tag=name)
    return version_view(session, row, version)


def untag(session: Session, image: str, name: str, *, actor: str = "") -> None:
    """Take a tag away from whatever version has it; one that is gone already is fine. NotFound(image)."""
    row = lookup.image(session, image)
    version = _without(session, row, name)
    if version is not None:
        _tell(session, row, version, "untagged", actor, f"freed from the tag {name}", tag=name)


def rollback(session: Session, image: str, to: str | None, *, actor: str = "") -> ImageView:
    """Say what a deploy takes when no version is named.

    `to` is a number or tag: from now on that version, also when new ones are captured (they say so). None is
    the version before the current one, `latest` lets go: the newest version is the current one again.
    NotFound(image|version); Conflict when there is nothing before.
    """
    row = lookup.image(session, image)
    if to is None:
        current = images.resolve(session, row.name)
        earlier = before(session, current)
        if earlier.number == current.number:
            raise Conflict(f"There is no version before {current.name}.", image=row.name)
        _, version = images.find_version(session, earlier.name)
    else:
        _, version = images.find_version(session, f"{row.name}@{to}")
    wanted = None if to == "latest" else version.number
    if row.current_number != wanted:
        row.current_number = wanted
        session.add(row)
        text = (
            "made the current version, and stays it" if wanted else "made the current version, as the newest"
        )
        _tell(session, row, version, "rolled-back" if wanted else "followed", actor, text)
    return image_views(session, [row])[0]


def delete_version(session: Session, reference: str, *, actor: str = "") -> tuple[VersionView, bool]:
    """Forget one version; (what it was, whether no other version has its manifest, which may be deleted).

    Its chunks stay until a prune. Conflict with the reason when it is pinned, tagged, current or in use.
    """
    row, version = images.find_version(session, reference)
    if reason := refusal(session, row, version):
        raise Conflict(reason, version=f"{row.name}@{version.number}")
    return _forget(session, row, version, actor), orphaned(session, version.manifest)


def forget_versions(
    session: Session, numbers: Mapping[int, Collection[int]], *, actor: str = ""
) -> list[str]:
    """Delete what a retention plan names, by image id; what became protected meanwhile stays. Manifests that
    no version has any more."""
    gone = []
    for image_id, which in numbers.items():
        row = session.get(Image, image_id)
        if row is None:
            continue
        query = select(ImageVersion).where(
            ImageVersion.image_id == image_id, col(ImageVersion.number).in_(which)
        )
        for version in session.exec(query).all():
            if not refusal(session, row, version):
                _forget(session, row, version, actor)
                if orphaned(session, version.manifest):
                    gone.append(version.manifest)
    return gone


def before(session: Session, version: VersionView) -> VersionView:
    """The version of the same image before it; itself when it is the first."""
    row = lookup.image(session, version.image)
    found = session.exec(
        select(ImageVersion)
        .where(ImageVersion.image_id == row.id, ImageVersion.number < version.number)
        .order_by(col(ImageVersion.number).desc())
    ).first()
    return version_view(session, row, found) if found else version


def refusal(session: Session, row: Image, version: ImageVersion) -> str:
    """Why a version cannot be deleted, and what to do; "" when it can."""
    name = f"{row.name}@{version.number}"
    if version.pinned:
        return f"{name} is pinned; unpin it first."
    if version.tags:
        tags = " and ".join(sorted(version.tags))
        return f"{name} has the tag {tags}; take it away or give it to another version first."
    if version.number == images.current_number(session, row):
        return (
            f"{name} is what a deploy of {row.name} takes; roll back to another version first, "
            "or delete the whole image."
        )
    operation = session.exec(
        select(Operation.id).where(
            Operation.state == OperationState.RUNNING, Operation.version_id == version.id
        )
    ).first()
    operation = (
        operation
        or session.exec(
            select(Task.operation_id).where(Task.version_id == version.id, col(Task.state).in_(ACTIVE))
        ).first()
    )
    if operation:
        return f"Operation {operation} still uses {name}; cancel it or wait for its end."
    for schedule in session.exec(select(Schedule).where(col(Schedule.next_run_at).is_not(None))):
        if schedule.enabled and _means(session, str(schedule.request.get("image") or ""), version):
            return f"Schedule {schedule.name} deploys {name}; change or delete the schedule first."
    return ""


def _means(session: Session, reference: str, version: ImageVersion) -> bool:
    if "@" not in reference:
        return False
    try:
        return images.find_version(session, reference)[1].id == version.id
    except AppError:
        return False


def holders(session: Session, manifest: str) -> list[str]:
    """Names of the hosts whose disk was last proved to hold this manifest."""
    return list(
        session.exec(select(Host.name).where(Host.held_manifest == manifest).order_by(Host.name)).all()
    )


def manifests(session: Session) -> Sequence[str]:
    """Every manifest that a version has: what a prune must keep."""
    return session.exec(select(ImageVersion.manifest).distinct()).all()


def names_by_manifest(session: Session, wanted: Collection[str]) -> dict[str, list[str]]:
    """The versions (`image@number`) that have these manifests."""
    rows = session.exec(
        select(ImageVersion.manifest, Image.name, ImageVersion.number)
        .join(Image)
        .where(col(ImageVersion.manifest).in_(set(wanted)))
        .order_by(Image.name, col(ImageVersion.number))
    ).all()
    found: dict[str, list[str]] = {}
    for manifest, name, number in rows:
        found.setdefault(manifest, []).append(f"{name}@{number}")
    return found


def orphaned(session: Session, manifest: str) -> bool:
    """Whether no version has this manifest."""
    return session.exec(select(ImageVersion.id).where(ImageVersion.manifest == manifest)).first() is None


def checked_tag(name: str) -> str:
    """Invalid for what could be a number, or is a word of ours."""
    if not _TAG.fullmatch(name) or name in WORDS:
        raise Invalid(
            f"{name!r} cannot be a tag: begin with a letter, then letters, digits, '.', '_' and '-', "
            f"at most 63, and not {' or '.join(sorted(WORDS))}.",
            field="tag",
        )
    return name


def _without(session: Session, row: Image, tag: str) -> ImageVersion | None:
    """Take a tag from the version of an image that has it."""
    for version in session.exec(select(ImageVersion).where(ImageVersion.image_id == row.id)).all():
        if tag in version.tags:
            version.tags = {name: value for name, value in version.tags.items() if name != tag}
            session.add(version)
            return version
    return None


def _forget(session: Session, row: Image, version: ImageVersion, actor: str) -> VersionView:
    view = version_view(session, row, version)
    session.execute(update(Operation).where(col(Operation.version_id) == version.id).values(version_id=None))
    session.execute(update(Task).where(col(Task.version_id) == version.id).values(version_id=None))
    last = max(version.number, int(row.params.get("last_number") or 0))
    row.params = {**row.params, "last_number": last}  # no later version gets the number again
    session.add(row)
    _tell(session, row, version, "version-deleted", actor, "deleted")
    session.delete(version)
    session.flush()
    return view


def _tell(
    session: Session, row: Image, version: ImageVersion, kind: str, actor: str, text: str = "", **data: Any
) -> None:
    session.flush()
    by = f" by {actor}" if actor else ""
    name = f"{row.name}@{version.number}"
    note(session, "api", f"image.{kind}", f"{name} was {text or kind}{by}.", data={"version": name, **data})
    changed(session, "image", row.id)
