"""File drops: files and templates that deployed systems get; the bytes are kept elsewhere, by their hash."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, select

from pxeboot.db.models import FileDrop
from pxeboot.errors import Conflict, Invalid, NotFound
from pxeboot.services import customise_use, templates
from pxeboot.services.customise_rules import SystemPath, checked_word
from pxeboot.services.lookup import nearest
from pxeboot.services.scripts import checked_system
from pxeboot.services.unit import changed, note
from pxeboot.services.views import FileDropView

FIELDS = ("name", "description", "path", "system", "mode", "owner", "template")
_MODE = re.compile(r"0?[0-7]{3,4}")
_OWNER = re.compile(r"[0-9]{1,9}:[0-9]{1,9}")


def list_drops(session: Session) -> list[FileDropView]:
    """All file drops by name."""
    return [view(row) for row in session.exec(select(FileDrop).order_by(FileDrop.name)).all()]


def get_drop(session: Session, name: str) -> FileDropView:
    """One file drop. NotFound(file)."""
    return view(row(session, name))


def row(session: Session, name: str) -> FileDrop:
    """The row of a file drop. NotFound(file)."""
    found = session.exec(select(FileDrop).where(FileDrop.name == name)).first()
    if found is None:
        raise NotFound("file", name, nearest(name, session.exec(select(FileDrop.name)).all()))
    return found


def create_drop(session: Session, *, actor: str = "", **values: Any) -> FileDropView:
    """Describe a new file drop (members as in `FIELDS`); its bytes follow. Conflict, Invalid."""
    name = checked_word(str(values.get("name", "")), "file")
    if session.exec(select(FileDrop).where(FileDrop.name == name)).first():
        raise Conflict(f"There is a file {name} already: change it, or choose another name.", name=name)
    made = FileDrop(name=name, path="")
    _apply(made, values)
    session.add(made)
    session.flush()
    _tell(session, "file.created", f"File {name} was added", actor, made)
    return view(made)


def update_drop(session: Session, drop: str, /, *, actor: str = "", **changes: Any) -> FileDropView:
    """Change the members given (not the name). Invalid with the field."""
    found = row(session, drop)
    if changes.get("name") not in (None, found.name):
        raise Invalid("A file keeps its name, by which others use it.", field="name")
    _apply(found, changes)
    session.add(found)
    session.flush()
    what = ", ".join(name for name in FIELDS if name in changes and name != "name")
    _tell(session, "file.changed", f"File {found.name} was changed ({what})", actor, found)
    return view(found)


def set_content(
    session: Session, drop: str, hash: str, size: int, text: bytes | None, *, actor: str = ""
) -> FileDropView:
    """Say what its bytes are; `text` for a template, which is checked. Invalid, NotFound."""
    found = row(session, drop)
    if found.template:
        check_template(found.name, text)
    found.hash, found.size, found.changed_at = hash, size, datetime.now(UTC)
    session.add(found)
    session.flush()
    _tell(session, "file.changed", f"File {found.name} was uploaded ({size} bytes)", actor, found)
    return view(found)


def check_template(name: str, data: bytes | None) -> None:
    """Invalid when the bytes are no template."""
    if data is None or len(data) > templates.MAX_TEMPLATE:
        raise Invalid(f"A template has at most {templates.MAX_TEMPLATE >> 10} KiB.", field="content")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Invalid(
            f"{name} is a template, but no UTF-8 text: save it as UTF-8.", field="content"
        ) from error
    templates.check(text, f"Template {name}")


def delete_drop(session: Session, name: str, *, actor: str = "") -> None:
    """Forget a file drop. Conflict while an image, group or host uses it."""
    found = row(session, name)
    if users := customise_use.users_of(session, "files", name):
        raise Conflict(f"{', '.join(users[:5])} still use the file {name}: change that first.", users=users)
    session.delete(found)
    session.flush()
    _tell(session, "file.deleted", f"File {name} was deleted", actor, found)


def hash_in_use(session: Session, hash: str) -> bool:
    """Does any file drop have these bytes?"""
    return session.exec(select(FileDrop.id).where(FileDrop.hash == hash)).first() is not None


def _apply(drop: FileDrop, values: Mapping[str, Any]) -> None:
    unknown = set(values) - set(FIELDS)
    if unknown:
        raise Invalid(f"A file has no field {sorted(unknown)[0]!r}.")
    for key, value in values.items():
        if value is not None and key != "name":
            setattr(drop, key, bool(value) if key == "template" else str(value).strip())
    if "{" in drop.path:
        templates.check(drop.path, f"Path of {drop.name}")
    _checked_path(drop.path)
    checked_system(drop.system)
    if drop.mode and not _MODE.fullmatch(drop.mode):
        raise Invalid(f"{drop.mode!r} is no mode: write one like 0644.", field="mode")
    if drop.owner and not _OWNER.fullmatch(drop.owner):
        raise Invalid(f"{drop.owner!r} is no owner: write numbers, like 0:0 or 1000:1000.", field="owner")
    drop.changed_at = datetime.now(UTC)


def _checked_path(path: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(SystemPath).validate_python(path)
    except ValidationError as error:
        raise Invalid(error.errors()[0]["msg"].removeprefix("Value error, "), field="path") from error


def view(drop: FileDrop) -> FileDropView:
    """View of a file drop."""
    return FileDropView(**drop.model_dump(exclude={"id"}))


def _tell(session: Session, kind: str, sentence: str, actor: str, drop: FileDrop) -> None:
    note(session, "api", kind, sentence + (f" by {actor}." if actor else "."), data={"file": drop.name})
    changed(session, "file", drop.name)
