"""What images, groups and hosts say about the time after the image: checked when said, laid over one another.

A rule that is not given inherits: a host's wins over its group's, that over the image's, that over what we
ship. Scripts and files add up, the image's first; a later one of the same name takes the place of the
earlier, with `off` it takes it away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from imaging.customise.order import MAX_SECONDS
from imaging.customise.tree import parts
from imaging.errors import CustomiseError
from pxeboot.errors import Invalid

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_LINE = re.compile(r"[^\x00-\x1f\x7f]*")


def _word(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("use letters, digits, '.', '_' and '-', at most 63")
    return value


def _variable(value: str) -> str:
    if not VARIABLE.fullmatch(value):
        raise ValueError("name a variable with letters, digits and '_'")
    return value


def _one_line(value: str) -> str:
    if not _LINE.fullmatch(value):
        raise ValueError("write one line without control characters")
    return value


def _path(value: str) -> str:
    try:
        parts(value)
    except CustomiseError as error:
        raise ValueError(str(error)) from error
    return value


def _by_name(value: Any) -> Any:
    """`"printers"` is short for `{"name": "printers"}`."""
    return {"name": value} if isinstance(value, str) else value


Word = Annotated[str, AfterValidator(_word)]
Variable = Annotated[str, AfterValidator(_variable)]
Line = Annotated[str, Field(max_length=500), AfterValidator(_one_line)]
SystemPath = Annotated[str, Field(max_length=500), AfterValidator(_path)]


class Rules(BaseModel):
    """Base: nothing unknown, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LinuxRules(Rules):
    """What a deployed Linux gets for itself."""

    machine_id: bool | None = None
    ssh_host_keys: bool | None = None
    random_seed: bool | None = None


class JoinRules(Rules):
    """A domain to join. `password` and `blob` are names of secrets; `{{ host.name }}` may stand in them."""

    domain: Line | None = None
    ou: Line | None = None
    user: Line | None = None
    password: Line | None = None
    blob: Line | None = None


class WindowsRules(Rules):
    """What a deployed Windows gets."""

    name: Literal["auto", "registry", "unattend", "keep"] | None = None
    time_zone: Line | None = None
    locale: Line | None = None
    language: Line | None = None
    keyboard: Line | None = None
    owner: Line | None = None
    organization: Line | None = None
    join: JoinRules | None = None
    drivers: bool | None = None
    drivers_path: SystemPath | None = None
    install_drivers: bool | None = None


class ScriptUse(Rules):
    """A script, and how it is called here; what is not given is as the script says."""

    name: Word
    arguments: list[Line] = Field(default_factory=list, max_length=50)
    environment: dict[Variable, Line] = Field(default_factory=dict, max_length=50)
    secrets: dict[Variable, Line] = Field(default_factory=dict, max_length=20)  # variable -> secret
    seconds: int | None = Field(default=None, ge=1, le=MAX_SECONDS)
    on_error: Literal["fail", "continue"] | None = None
    off: bool = False


class FileUse(Rules):
    """A file drop that is put there, or with `off` not."""

    name: Word
    off: bool = False


class CustomiseRules(Rules):
    """All that one image, group or host says."""

    hostname: bool | None = None  # give the systems the host's name
    linux: LinuxRules = LinuxRules()
    windows: WindowsRules = WindowsRules()
    scripts: list[Annotated[ScriptUse, BeforeValidator(_by_name)]] = Field(
        default_factory=list, max_length=100
    )
    files: list[Annotated[FileUse, BeforeValidator(_by_name)]] = Field(default_factory=list, max_length=200)
    variables: dict[Variable, Line] = Field(default_factory=dict, max_length=100)

    def said(self) -> dict[str, Any]:
        """Only what is said, as it is stored."""
        return self.model_dump(exclude_none=True, exclude_defaults=True)


SHIPPED = CustomiseRules(
    hostname=True,
    linux=LinuxRules(machine_id=True, ssh_host_keys=True, random_seed=True),
    windows=WindowsRules(name="auto", drivers=True, drivers_path="C:\\Drivers", install_drivers=True),
)


class Layer(NamedTuple):
    """Who says it (`image`, `group`, `host`), under which name, and what."""

    origin: str
    name: str
    rules: CustomiseRules


class Merged(NamedTuple):
    """What holds, and who said so: by key like `windows.join.domain`, `scripts.printers`, `files.motd`."""

    rules: CustomiseRules
    origins: dict[str, str]


def parse(value: object) -> CustomiseRules:
    """Rules from JSON. Invalid with one entry per mistake, the field named like `windows.join.domain`."""
    try:
        return CustomiseRules.model_validate(value)
    except ValidationError as error:
        errors = [
            {
                "field": ".".join(str(part) for part in item["loc"]) or "customise",
                "msg": item["msg"].removeprefix("Value error, "),
            }
            for item in error.errors()
        ]
        first = errors[0]
        raise Invalid(
            f"{first['field']}: {first['msg']}. docs/customising.md lists what can be said.",
            field=first["field"],
            errors=errors,
        ) from error


def stored(value: object) -> CustomiseRules:
    """Rules as they were stored; those of another release that we do not understand say nothing."""
    try:
        return parse(value or {})
    except Invalid:
        return CustomiseRules()


def merge(layers: Sequence[Layer]) -> Merged:
    """Lay rules over what we ship, the last one wins."""
    found: dict[str, Any] = {}
    origins: dict[str, str] = {}
    uses: dict[str, dict[str, Any]] = {"scripts": {}, "files": {}}
    for origin, _name, rules in (Layer("shipped", "", SHIPPED), *layers):
        said = rules.said()
        for kind, known in uses.items():
            for use in said.pop(kind, []):
                if use.get("off"):
                    known.pop(use["name"], None)
                    origins.pop(f"{kind}.{use['name']}", None)
                else:
                    known[use["name"]] = use
                    origins[f"{kind}.{use['name']}"] = origin
        _lay(found, said, origin, origins, "")
    found |= {kind: list(known.values()) for kind, known in uses.items()}
    return Merged(CustomiseRules.model_validate(found), origins)


def _lay(below: dict[str, Any], above: dict[str, Any], origin: str, origins: dict[str, str], at: str) -> None:
    for key, value in above.items():
        where = f"{at}{key}"
        if isinstance(value, dict):
            _lay(below.setdefault(key, {}), value, origin, origins, f"{where}.")
        else:
            below[key] = value
            origins[where] = origin


def patched(before: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A JSON merge patch (RFC 7396): null takes away, objects are merged, all else replaces."""
    made = dict(before)
    for key, value in change.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict):
            old = made.get(key)
            made[key] = patched(old if isinstance(old, dict) else {}, value)
        else:
            made[key] = value
    return made


def checked_word(name: str, kind: str) -> str:
    """A name of a script, file or secret. Invalid otherwise."""
    if not NAME.fullmatch(name):
        raise Invalid(
            f"{name[:80]!r} cannot name a {kind}: use letters, digits, '.', '_' and '-', at most 63.",
            field="name",
        )
    return name
