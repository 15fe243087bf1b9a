"""Images: named lines of immutable versions."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, func, or_, select, update

from pxeboot.db.models import Group, Host, Image, ImageVersion, Operation, OperationState, Task
from pxeboot.errors import Conflict, Invalid, NotFound
from pxeboot.services import lookup, task_options
from pxeboot.services.present import image_views, version_view, version_views
from pxeboot.services.task_options import IMAGE_SECTIONS
from pxeboot.services.unit import changed, note
from pxeboot.services.views import ImageView, Page, VersionView

WORDS = frozenset({"latest", "current"})  # what may stand where a tag stands, and is none
MAX_KEEP = 1000  # versions of an image


def list_images(
    session: Session, *, q: str = "", cursor: str | None = None, limit: int = 50
) -> Page[ImageView]:
    """Images by name."""
    lookup.checked_limit(limit)
    query = select(Image).order_by(Image.name).limit(limit + 1)
    if q:
        query = query.where(col(Image.name).like(lookup.like(q), escape="\\"))
    if cursor:
        query = query.where(Image.name > lookup.read_cursor(cursor, str)[0])
    rows = session.exec(query).all()
    items = image_views(session, rows[:limit])
    return Page(items=items, next_cursor=lookup.make_cursor(items[-1].name) if len(rows) > limit else None)


def get_image(session: Session, key: str | int) -> ImageView:
    """One image by name or id. NotFound(image) with the nearest names."""
    return image_views(session, [lookup.image(session, key)])[0]


def create_image(session: Session, *, name: str, description: str = "", actor: str = "") -> ImageView:
    """An empty line of versions. Conflict when the name is taken; Invalid for a bad name."""
    row = Image(name=_free_name(session, name), description=description)
    session.add(row)
    session.flush()
    note(session, "api", "image.created", f"Image {row.name} was made" + (f" by {actor}." if actor else "."))
    changed(session, "image", row.id)
    return image_views(session, [row])[0]


def update_image(session: Session, key: str | int, *, actor: str = "", **changes: Any) -> ImageView:
    """Change `name`, `description`, and of `params` the members given (None takes one away).

    `params`: `capture` and `deploy` are defaults of these options, `keep` how many newest versions a prune
    keeps beside the tagged, pinned and current ones. Invalid with key, value and remedy.
    """
    row = lookup.image(session, key)
    unknown = set(changes) - {"name", "description", "params"}
    if unknown:
        raise Invalid(f"An image has no field {sorted(unknown)[0]!r} that can be changed.")
    if "name" in changes and changes["name"] != row.name:
        row.name = _free_name(session, str(changes["name"]), row)
    if "description" in changes:
        row.description = str(changes["description"] or "")
    if "params" in changes:
        row.params = _changed_params(row.params, changes["params"] or {})
    session.add(row)
    session.flush()
    note(
        session, "api", "image.changed", f"Image {row.name} was changed" + (f" by {actor}." if actor else ".")
    )
    changed(session, "image", row.id)
    return image_views(session, [row])[0]


def delete_image(session: Session, key: str | int, *, actor: str = "") -> None:
    """Forget an image and its versions (chunks stay until pruned). Conflict while something uses it or a
    version is pinned."""
    row = lookup.image(session, key)
    found = session.exec(select(ImageVersion).where(ImageVersion.image_id == row.id)).all()
    pinned = [version.number for version in found if version.pinned]
    if pinned:
        raise Conflict(f"{row.name}@{pinned[0]} is pinned; unpin it before deleting the image.")
    tagged = [(version.number, tag) for version in found for tag in sorted(version.tags)]
    if tagged:
        raise Conflict(
            f"{row.name}@{tagged[0][0]} has the tag {tagged[0][1]}; take it away before deleting the image."
        )
    ids = [version.id for version in found]
    running = session.exec(
        select(Operation).where(
            Operation.state == OperationState.RUNNING,
            or_(Operation.image_id == row.id, col(Operation.version_id).in_(ids)),
        )
    ).first()
    if running:
        raise Conflict(
            f"Operation {running.id} still uses {row.name}; cancel it or wait for its end.",
            operation=running.id,
        )
    user = session.exec(select(Group.name).where(Group.image_id == row.id)).first()
    if user:
        raise Conflict(
            f"{row.name} is the image of group {user}; give the group another one first.", group=user
        )
    session.execute(update(Host).where(col(Host.image_id) == row.id).values(image_id=None))
    session.execute(
        update(Operation)
        .where(or_(col(Operation.image_id) == row.id, col(Operation.version_id).in_(ids)))
        .values(image_id=None, version_id=None)
    )
    session.execute(update(Task).where(col(Task.version_id).in_(ids)).values(version_id=None))
    for version in found:
        session.delete(version)
    session.flush()
    name, id = row.name, row.id
    session.delete(row)
    session.flush()
    note(session, "api", "image.deleted", f"Image {name} was deleted" + (f" by {actor}." if actor else "."))
    changed(session, "image", id)


def _changed_params(params: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    known = {*IMAGE_SECTIONS, "keep"}
    for key, value in given.items():
        if key not in known:
            raise Invalid(
                f"An image has no parameter {key!r}; there are {', '.join(sorted(known))}.",
                field=f"params.{key}",
            )
        if value is None:
            continue
        if key in IMAGE_SECTIONS:
            task_options.checked(key, value)
        elif type(value) is not int or not 1 <= value <= MAX_KEEP:
            raise Invalid(
                f"keep = {value!r} makes no sense; say how many versions are kept, 1 to {MAX_KEEP}, "
                "or null for all.",
                field="params.keep",
            )
    return {key: value for key, value in {**params, **given}.items() if value is not None}


def _free_name(session: Session, name: str, own: Image | None = None) -> str:
    wanted = lookup.checked_name(name, "image")
    taken = session.exec(select(Image).where(Image.name == wanted)).first()
    if taken is not None and (own is None or taken.id != own.id):
        raise Conflict(f"There is an image {wanted} already; choose another name.", name=wanted)
    return wanted


def versions(session: Session, key: str | int) -> list[VersionView]:
    """The versions of an image, newest first."""
    row = lookup.image(session, key)
    found = session.exec(
        select(ImageVersion).where(ImageVersion.image_id == row.id).order_by(col(ImageVersion.number).desc())
    ).all()
    return version_views(session, row, found)


def resolve(session: Session, reference: str) -> VersionView:
    """The version that `debian@3`, `debian@golden` or `debian` (the current one) means.

    NotFound(image|version); Conflict when there is no version yet.
    """
    row, version = find_version(session, reference)
    return version_view(session, row, version)


def current_number(session: Session, row: Image) -> int | None:
    """The number of the version a deploy takes when none is named; None while there is no version."""
    if row.current_number is not None:
        return row.current_number
    return session.exec(select(func.max(ImageVersion.number)).where(ImageVersion.image_id == row.id)).one()


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
    note_text: str = "",
    summary: dict[str, Any] | None = None,
    actor: str = "",
    verb: str = "captured",
) -> VersionView:
    """Number and record a version whose manifest is complete in the store; makes the image if it is new.

    It becomes the current version, unless somebody rolled the image back: then that version stays it. `actor`
    asked for it, `verb` says how it came (captured, imported).
    """
    name = lookup.checked_name(image, "image")
    row = session.exec(select(Image).where(Image.name == name)).first()
    if row is None:
        row = Image(name=name)
        session.add(row)
        session.flush()
    last = session.exec(select(func.max(ImageVersion.number)).where(ImageVersion.image_id == row.id)).one()
    version = ImageVersion(
        image_id=row.id or 0,
        # Never a number again that a deleted version had: hosts, logs and people still speak of it.
        number=max(last or 0, int(row.params.get("last_number") or 0)) + 1,
        manifest=manifest,
        disk_bytes=disk_bytes,
        used_bytes=used_bytes,
        stored_bytes=stored_bytes,
        chunks=chunks,
        source_host=source_host,
        note=note_text,
        summary={**(summary or {}), "by": actor},
    )
    session.add(version)
    session.flush()
    origin = f" from {source_host}" if source_host else ""
    sentence = f"{name}@{version.number} was {verb}{origin}."
    if row.current_number is not None:
        sentence += (
            f" {name}@{row.current_number} stays the current version: the image was rolled back to it."
        )
    note(session, "agent", "image.added", sentence, data={"manifest": manifest})
    changed(session, "image", row.id)
    return version_view(session, row, version)


def find_version(session: Session, reference: str) -> tuple[Image, ImageVersion]:
    """The rows a reference means: `image` (its current version), `image@NUMBER`, `image@TAG`, and the words
    `image@latest` (the newest) and `image@current`.

    NotFound(image|version) with what there is; Conflict when there is no version yet.
    """
    name, _, wanted = reference.strip().partition("@")
    row = lookup.image(session, name)
    known = session.exec(
        select(ImageVersion).where(ImageVersion.image_id == row.id).order_by(col(ImageVersion.number))
    ).all()
    if wanted in ("", *WORDS):
        if not known:
            raise Conflict(f"Image {row.name} has no version yet; capture one first.", image=row.name)
        number = known[-1].number if wanted == "latest" else current_number(session, row)
        wanted = str(number)
    for version in known:
        if wanted == str(version.number) or wanted in version.tags:
            return row, version
    listed = [f"{row.name}@{item.number}" for item in known[-5:]]
    listed += [f"{row.name}@{tag}" for item in known for tag in sorted(item.tags)][:5]
    raise NotFound("version", reference, f"Known: {', '.join(listed)}." if listed else "There is none yet.")
