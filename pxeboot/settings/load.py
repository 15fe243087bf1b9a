"""Reading the settings: TOML file, then environment `PXEBOOT_SECTION__KEY` (lists and tables as JSON).

Every mistake is collected, not only the first: what has a wrong type is told, taken out, and the rest judged.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pxeboot.errors import ConfigError
from pxeboot.settings.judge import judge
from pxeboot.settings.mistake import Mistake, nearest, refuse
from pxeboot.settings.sections import Settings

DEFAULT_FILE: Final = Path("/etc/pxeboot/pxeboot.toml")
_PREFIX: Final = "PXEBOOT_"
_ROUNDS: Final = 50  # a mistake taken out may uncover another one

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Reading:
    """What came of reading: settings (defaults where a mistake was), every mistake, and the file (None:
    there was none to read)."""

    settings: Settings
    mistakes: tuple[Mistake, ...]
    file: Path | None


def load(path: Path | None = None) -> Settings:
    """Read the settings file and the environment.

    `path` None: `PXEBOOT_CONFIG`, else `/etc/pxeboot/pxeboot.toml` if it exists, else defaults.
    Raises ConfigError with file, key, value and remedy for each mistake, one a line.
    """
    found = read(path)
    refuse(found.mistakes)
    return found.settings


def read(path: Path | None = None) -> Reading:
    """As `load`, but tells mistakes instead of raising them. ConfigError when there is no TOML to read."""
    named = path or (Path(os.environ["PXEBOOT_CONFIG"]) if os.environ.get("PXEBOOT_CONFIG") else None)
    file = named or DEFAULT_FILE
    values: dict[str, Any] = {}
    there = _exists(file)
    if there:
        values = _toml(file)
    elif named:
        raise ConfigError(
            f"{file}: no such settings file. Create it, or leave --config out to run with defaults."
        )
    told, settings, sources = judged(values, os.environ)
    source = str(file)
    mistakes = [replace(one, source=sources.get(_variable_of(one.key), source)) for one in told]
    return Reading(settings, tuple(mistakes), file if there else None)


def judged(
    values: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[list[Mistake], Settings, dict[str, str]]:
    """Every mistake of these values under this environment; the settings without them; which environment
    variables count ("PXEBOOT_HTTP__PORT" -> how to name it)."""
    merged = deepcopy(dict(values))
    mistakes, used = _environment(merged, environment)
    typed, settings = _typed(merged)
    mistakes += typed
    wrong = [one.key for one in mistakes]
    # What was taken out is not judged by its default.
    mistakes += [one for one in judge(settings) if not any(_within(one.key, key) for key in wrong)]
    return mistakes, settings, used


def describe() -> Iterator[tuple[str, str, str, str]]:
    """Yield (section, key, default, description) of every setting: what docs/settings.md is made of.

    The section of a list of tables is written `[dhcp.subnets]`, with its brackets: [[dhcp.subnets]].
    """
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from _described(name, section)


def _described(name: str, section: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    tables = []
    for key, entry in section.model_fields.items():
        default = entry.get_default(call_default_factory=True)
        table = _table_of(entry.annotation)
        if table is not None:
            tables.append((f"{name.strip('[]')}.{key}", table))
        yield name, key, _default_text(default), entry.description or ""
    for inner, table in tables:
        yield from _described(f"[{inner}]", table)


def _default_text(default: object) -> str:
    if default is None or default == "" or default is ...:
        return ""
    text = str(default)
    return "" if text == "PydanticUndefined" else text


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """The table of a list of tables."""
    if get_origin(annotation) is list:
        (inner,) = get_args(annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


# --- reading


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(file)!r}: cannot be looked at: {error}. Name another file.") from error


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}. Correct the line it names.") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}.") from error


def _environment(
    values: dict[str, Any], environment: Mapping[str, str]
) -> tuple[list[Mistake], dict[str, str]]:
    """Lay `PXEBOOT_SECTION__KEY` over the file's values."""
    mistakes: list[Mistake] = []
    used: dict[str, str] = {}
    for name, text in sorted(environment.items()):
        if not name.startswith(_PREFIX) or "__" not in name:
            continue
        section, _, key = name.removeprefix(_PREFIX).lower().partition("__")
        field = Settings.model_fields.get(section)
        table = field.annotation if field else None
        known = table.model_fields if isinstance(table, type) and issubclass(table, BaseModel) else {}
        used[name] = f"environment variable {name}"
        if key not in known:
            every = [f"{_PREFIX}{s}__{k}".upper() for s, k, *_ in describe() if not s.startswith("[")]
            remedy = nearest(name, every, "docs/settings.md lists the settings")
            mistakes.append(Mistake(f"{section}.{key}", text, "is no setting", remedy))
            continue
        value: Any = text
        if _is_compound(known[key].annotation):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                wants = 'write it as JSON, e.g. ["10.0.0.1", "10.0.0.2"]'
                mistakes.append(Mistake(f"{section}.{key}", text, "is not JSON", wants))
                continue
        here = values.setdefault(section, {})
        if isinstance(here, dict):
            here[key] = value
    return mistakes, used


def _is_compound(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(_is_compound(part) for part in get_args(annotation))
    return origin in (list, dict)


def _variable_of(key: str) -> str:
    """The environment variable that may have set this key."""
    section, _, rest = key.partition(".")
    name = rest.split(".")[0].split("[")[0]
    return f"{_PREFIX}{section}__{name}".upper()


# --- types


def _typed(values: dict[str, Any]) -> tuple[list[Mistake], Settings]:
    """What has a wrong type or name, and settings made of all the rest."""
    mistakes: list[Mistake] = []
    for _ in range(_ROUNDS):
        try:
            return mistakes, Settings.model_validate(values)
        except ValidationError as error:
            places: set[Place] = set()
            for item in error.errors(include_url=False, include_context=True):
                place = _existing(values, item["loc"])
                if place not in places:
                    mistakes.append(_explain(item, place))
                places.add(place)
            # Later items of a list first, so that earlier places still mean the same.
            for place in sorted(places, key=lambda one: [str(part).zfill(6) for part in one], reverse=True):
                _take_out(values, place)
    return mistakes, Settings()


def _existing(values: Any, place: Sequence[str | int]) -> Place:
    """The part of pydantic's location that leads to something written (it adds names of its own)."""
    found: list[str | int] = []
    here = values
    for part in place:
        known = isinstance(here, dict) and part in here
        if known or (isinstance(here, list) and isinstance(part, int) and part < len(here)):
            here = here[part]
        else:
            if isinstance(here, dict) and isinstance(part, str) and part == place[-1] and found:
                found.append(part)  # a key that is missing
            break
        found.append(part)
    return tuple(found)


def _take_out(values: Any, place: Place) -> None:
    """Remove what is written there. An item of a list of tables becomes an empty table: indexes must stay."""
    here = values
    for part in place[:-1]:
        here = here[part]
    last = place[-1]
    if isinstance(here, dict):
        if last in here:
            del here[last]
        elif last in ("mac", "address"):  # missing: let the rest of the file be judged
            here[last] = ""
    elif isinstance(here, list) and isinstance(last, int):
        tables = place[0] == "dhcp" and place[-2] in ("subnets", "reservations")
        here[last] = ({"mac": "", "address": ""} if place[-2] == "reservations" else {}) if tables else ""


def _key(place: Place) -> str:
    """`("dhcp", "subnets", 1, "pools", 0)` as people write it."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _within(key: str, outer: str) -> bool:
    return key == outer or key.startswith((f"{outer}.", f"{outer}["))


def _explain(item: Any, place: Place) -> Mistake:
    """One error of pydantic's in our words."""
    key, kind = _key(place), item["type"]
    value = item.get("input")
    context = item.get("ctx") or {}
    if kind == "missing":
        return Mistake(key, None, "is missing", "write it, or leave out the whole table")
    if kind == "extra_forbidden":
        return _unknown(place, value)
    remedies = {
        "literal_error": f"write one of {context.get('expected', '')}".replace(" or ", ", "),
        "bool_type": "write true or false",
        "bool_parsing": "write true or false",
        "string_type": "write text, in quotes",
        "string_too_long": f"write at most {context.get('max_length')} characters",
        "list_type": 'write a list, like ["a", "b"]',
        "dict_type": "write a table, like {name = value}",
        "model_type": "write a table",
        "model_attributes_type": "write a table",
        "path_type": "write a path, in quotes",
        "greater_than_equal": f"write {context.get('ge')} or more",
        "greater_than": f"write more than {context.get('gt')}",
        "less_than_equal": f"write {context.get('le')} or less",
    }
    if kind.startswith("int_"):
        remedies[kind] = "write a whole number"
    if kind.startswith("float_") or kind == "finite_number":
        remedies[kind] = "write a number"
    what = {
        "greater_than_equal": "is too small",
        "greater_than": "is too small",
        "less_than_equal": "is too large",
        "string_too_long": "is too long",
    }.get(kind, "cannot be meant")
    return Mistake(key, value, what, remedies.get(kind, str(item["msg"])))


def _unknown(place: Place, value: object) -> Mistake:
    """A name that is none of ours, with the one that looks most like it."""
    *outer, name = place
    if not outer:
        remedy = nearest(
            str(name), Settings.model_fields, f"the sections are {', '.join(Settings.model_fields)}"
        )
        return Mistake(str(name) or '""', None, "is no section", remedy)
    known = list(_fields_at(outer))
    prefix = _key(tuple(outer))
    close = nearest(str(name), known, "")
    remedy = close.replace("did you mean ", f"did you mean {prefix}.") if close else ""
    return Mistake(_key(place), value, "is no setting", remedy or f"{prefix} has {', '.join(known)}")


def _fields_at(place: Sequence[str | int]) -> Iterator[str]:
    """The names a table at this place may have."""
    model: Any = Settings
    for part in place:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        model = _table_of(annotation) or annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return
    yield from model.model_fields


__all__ = ["DEFAULT_FILE", "Reading", "describe", "judged", "load", "read"]
