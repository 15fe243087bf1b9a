"""Administrators' shell scripts: kept by name, checked when they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlmodel import Session, select

from imaging.customise.order import MAX_SCRIPT, MAX_SECONDS, SYSTEM
from pxeboot.db.models import Script
from pxeboot.errors import Conflict, Invalid, NotFound
from pxeboot.services import customise_use
from pxeboot.services.customise_rules import checked_word
from pxeboot.services.lookup import nearest
from pxeboot.services.unit import changed, note
from pxeboot.services.views import ScriptView

FIELDS = ("name", "description", "phase", "system", "seconds", "on_error", "text")


def list_scripts(session: Session) -> list[ScriptView]:
    """All scripts by name."""
    return [view(row) for row in session.exec(select(Script).order_by(Script.name)).all()]


def get_script(session: Session, name: str) -> ScriptView:
    """One script. NotFound(script)."""
    return view(row(session, name))


def row(session: Session, name: str) -> Script:
    """The row of a script. NotFound(script)."""
    found = session.exec(select(Script).where(Script.name == name)).first()
    if found is None:
        raise NotFound("script", name, nearest(name, session.exec(select(Script.name)).all()))
    return found


def create_script(session: Session, *, actor: str = "", **values: Any) -> ScriptView:
    """Keep a new script, members as in `FIELDS`. Conflict for a taken name; Invalid with the field."""
    name = checked_word(str(values.get("name", "")), "script")
    if session.exec(select(Script).where(Script.name == name)).first():
        raise Conflict(f"There is a script {name} already: change it, or choose another name.", name=name)
    made = Script(name=name)
    _apply(made, values)
    session.add(made)
    session.flush()
    _tell(session, "script.created", f"Script {name} was added", actor, made)
    return view(made)


def update_script(session: Session, script: str, /, *, actor: str = "", **changes: Any) -> ScriptView:
    """Change the members given (not the name). Errors as `create_script`."""
    found = row(session, script)
    if changes.get("name") not in (None, found.name):
        raise Invalid(
            "A script keeps its name, by which others use it: add one of the new name.", field="name"
        )
    _apply(found, changes)
    session.add(found)
    session.flush()
    what = ", ".join(name for name in FIELDS if name in changes and name != "name")
    _tell(session, "script.changed", f"Script {found.name} was changed ({what})", actor, found)
    return view(found)


def delete_script(session: Session, name: str, *, actor: str = "") -> None:
    """Forget a script. Conflict while an image, group or host uses it."""
    found = row(session, name)
    if users := customise_use.users_of(session, "scripts", name):
        raise Conflict(f"{', '.join(users[:5])} still use the script {name}: change that first.", users=users)
    session.delete(found)
    session.flush()
    _tell(session, "script.deleted", f"Script {name} was deleted", actor, found)


def _apply(script: Script, values: Mapping[str, Any]) -> None:
    unknown = set(values) - set(FIELDS)
    if unknown:
        raise Invalid(f"A script has no field {sorted(unknown)[0]!r}.")
    given = {key: value for key, value in values.items() if value is not None}
    for key in ("description", "phase", "system", "on_error"):
        if key in given:
            setattr(script, key, str(given[key]).strip())
    if "seconds" in given:
        script.seconds = int(given["seconds"])
    if "text" in given:
        script.text = checked_text(str(given["text"]))
    elif not script.text:
        raise Invalid("A script has at least one line.", field="text")
    if script.phase not in ("pre", "post"):
        raise Invalid(f"{script.phase!r} is no phase: write pre or post.", field="phase")
    if script.system:
        checked_system(script.system)
    if script.phase == "pre" and script.system:
        raise Invalid(
            "Before the image there is no system to be mounted: leave the system empty.", field="system"
        )
    if script.on_error not in ("fail", "continue"):
        raise Invalid(f"on_error is fail or continue, not {script.on_error!r}.", field="on_error")
    if not 1 <= script.seconds <= MAX_SECONDS:
        raise Invalid(f"A script has 1 to {MAX_SECONDS} seconds.", field="seconds")
    script.changed_at = datetime.now(UTC)


def checked_system(text: str) -> str:
    """`linux`, `windows` or `partition:N`. Invalid otherwise."""
    if not SYSTEM.fullmatch(text):
        raise Invalid(f"{text!r} is no system: write linux, windows or partition:3.", field="system")
    return text


def checked_text(text: str) -> str:
    """A script's text with the line ends /bin/sh wants. Invalid when it is for another program."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip() or len(text) > MAX_SCRIPT or "\0" in text:
        raise Invalid(f"A script has 1 to {MAX_SCRIPT >> 10} KiB of text.", field="text")
    first = text.split("\n", 1)[0].strip()
    if first.startswith("#!") and not first.removeprefix("#!").strip().split()[0:1] == ["/bin/sh"]:
        raise Invalid(
            f"Scripts are run by /bin/sh of the boot environment, so {first[:60]!r} cannot be: "
            "begin with #!/bin/sh and keep to the POSIX shell.",
            field="text",
        )
    return text if text.endswith("\n") else text + "\n"


def view(script: Script) -> ScriptView:
    """View of a script."""
    return ScriptView(**script.model_dump(exclude={"id"}))


def _tell(session: Session, kind: str, sentence: str, actor: str, script: Script) -> None:
    note(session, "api", kind, sentence + (f" by {actor}." if actor else "."), data={"script": script.name})
    changed(session, "script", script.name)
