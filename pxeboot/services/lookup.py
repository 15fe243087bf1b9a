"""Finding things by what people type, and saying what comes near when there is no such thing."""

from __future__ import annotations

import base64
import difflib
import json
import re
import uuid as uuidlib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlmodel import Session, col, select

from pxeboot.db.models import BootEntry, Group, Host, HostMac, Image
from pxeboot.errors import Invalid, NotFound

# RFC 1123 §2.1: a host name's label, because the name becomes the host name of the deployed system.
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
GROUP_NAME = re.compile(r"[^\W_][\w .-]{0,62}")
IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
TEMPLATE = re.compile(r"[A-Za-z0-9-]*#{1,6}[A-Za-z0-9-]*")
_UUID = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}")


def normal_mac(text: str) -> str | None:
    """`52-54-00-AA-BB-CC`, `5254.00aa.bbcc` … as `52:54:00:aa:bb:cc`; None when it is no MAC address."""
    hexes = re.sub(r"[:.-]", "", text.strip().lower())
    return ":".join(_pairs(hexes)) if re.fullmatch(r"[0-9a-f]{12}", hexes) else None


def _pairs(text: str) -> Iterable[str]:
    return (text[i : i + 2] for i in range(0, len(text), 2))


def checked_mac(text: str) -> str:
    """A MAC address of a single machine in our spelling. Invalid otherwise."""
    mac = normal_mac(text)
    if mac is None:
        raise Invalid(f"{text!r} is not a MAC address; write it like 52:54:00:12:34:56.", field="macs")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise Invalid(f"{mac} is not the address of one machine (group or null address).", field="macs")
    return mac


def normal_uuid(text: str) -> str:
    """An SMBIOS UUID in lower case with hyphens; "" for none, nonsense and the vendors' fillers."""
    value = text.strip().lower()
    if not _UUID.fullmatch(value):
        return ""
    digits = value.replace("-", "")
    # Boards without a UUID of their own carry all zeros or all ones, or the well-known
    # "03000200-0400-0500-…".
    if len(set(digits)) <= 1 or digits.startswith("03000200040005000006000700080009"):
        return ""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def uuid_readings(text: str) -> tuple[str, ...]:
    """An SMBIOS UUID as it may have been written down, the spelling given first; () for none.

    SMBIOS 2.6 and later store the first three fields little-endian. Who does not know that (firmware that
    copies the 16 bytes, tools told the wrong version) reads them the other way round.
    """
    given = normal_uuid(text)
    if not given:
        return ()
    other = str(uuidlib.UUID(bytes_le=uuidlib.UUID(given).bytes))
    return tuple(dict.fromkeys((given, other)))


def by_uuid(session: Session, text: str) -> Sequence[Host]:
    """The hosts with this SMBIOS UUID in either reading, at most four (boards of one batch may share one)."""
    readings = uuid_readings(text)
    if not readings:
        return []
    return session.exec(select(Host).where(col(Host.uuid).in_(readings)).order_by(Host.name).limit(4)).all()


def checked_name(text: str, kind: str) -> str:
    """A name that fits `kind` (host, group, image, user). Invalid with the rule otherwise."""
    name = text.strip()
    pattern, rule = {
        "host": (HOST_NAME, "letters, digits and inner hyphens, at most 63 (it becomes the host name)"),
        "group": (
            GROUP_NAME,
            "letters, digits, spaces, '.', '_' and '-', at most 63, starting with a letter or digit",
        ),
        "image": (
            IMAGE_NAME,
            "letters, digits, '.', '_' and '-', at most 63, starting with a letter or digit",
        ),
        "user": (
            IMAGE_NAME,
            "letters, digits, '.', '_' and '-', at most 63, starting with a letter or digit",
        ),
    }[kind]
    if not pattern.fullmatch(name):
        raise Invalid(f"{text!r} cannot name a {kind}: use {rule}.", field="name")
    return name


def checked_template(text: str) -> str:
    """A name template with one run of #, e.g. `B204-##`. Invalid otherwise."""
    if not TEMPLATE.fullmatch(text) or len(text) > 60 or not HOST_NAME.fullmatch(text.replace("#", "0")):
        raise Invalid(
            f"{text!r} is not a name template: write letters, digits and hyphens "
            "around one run of #, like B204-##.",
            field="name_template",
        )
    return text


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence naming what comes near, else what there is."""
    known = sorted(names)
    if not known:
        return "There is none yet."
    lower = {item.lower(): item for item in known}
    near = [lower[item] for item in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Known: {', '.join(known[:5])}" + (" …" if len(known) > 5 else "") + "."


def host(session: Session, key: str | int) -> Host:
    """The host row of a name, id, MAC or UUID. NotFound(host)."""
    text = str(key).strip()
    found = session.exec(select(Host).where(Host.name == text)).first()
    if found is None and (mac := normal_mac(text)):
        found = session.exec(select(Host).join(HostMac).where(HostMac.mac == mac)).first()
    if found is None and text.isdigit() and len(text) < 18:
        found = session.get(Host, int(text))
    if found is None and (same := by_uuid(session, text)):
        if len(same) > 1:
            names = ", ".join(row.name for row in same)
            raise NotFound("host", text, f"Several hosts share this UUID: {names}; use a name.")
        found = same[0]
    if found is None:
        raise NotFound("host", text, nearest(text, session.exec(select(Host.name)).all()))
    return found


def group(session: Session, key: str | int) -> Group:
    """The group row of a name or id. NotFound(group)."""
    text = str(key).strip()
    found = session.exec(select(Group).where(Group.name == text)).first()
    if found is None and text.isdigit() and len(text) < 18:
        found = session.get(Group, int(text))
    if found is None:
        raise NotFound("group", text, nearest(text, session.exec(select(Group.name)).all()))
    return found


def image(session: Session, key: str | int) -> Image:
    """The image row of a name or id. NotFound(image)."""
    text = str(key).strip()
    found = session.exec(select(Image).where(Image.name == text)).first()
    if found is None and text.isdigit() and len(text) < 18:
        found = session.get(Image, int(text))
    if found is None:
        raise NotFound("image", text, nearest(text, session.exec(select(Image.name)).all()))
    return found


def entry(session: Session, key: str | int) -> BootEntry:
    """The boot entry of a name or id. NotFound(boot entry)."""
    text = str(key).strip()
    found = session.exec(select(BootEntry).where(BootEntry.name == text)).first()
    if found is None and text.isdigit() and len(text) < 18:
        found = session.get(BootEntry, int(text))
    if found is None:
        raise NotFound("boot entry", text, nearest(text, session.exec(select(BootEntry.name)).all()))
    return found


def checked_limit(limit: int) -> int:
    """1..500. Invalid otherwise."""
    if not 1 <= limit <= 500:
        raise Invalid(f"limit = {limit} is out of range; choose 1 to 500.", field="limit")
    return limit


def make_cursor(*position: Any) -> str:
    """An opaque cursor: the sort key of the last row."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def read_cursor(cursor: str, *types: type) -> list[Any]:
    """The position in a cursor of ours. Invalid for anything else."""
    try:
        position = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(position, list) or [type(value) for value in position] != list(types):
            raise ValueError
        for value in position:
            if isinstance(value, int) and abs(value) >= 1 << 63:  # more than SQLite takes
                raise ValueError
            str(value).encode()
    except (ValueError, RecursionError) as error:
        raise Invalid("This cursor is not one of ours; start again without it.", field="cursor") from error
    return position


def like(text: str) -> str:
    """A LIKE pattern (escape character backslash) that finds `text` anywhere."""
    escaped = text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    return f"%{escaped}%"


def names_of(
    session: Session, model: type[Group] | type[Image] | type[Host], ids: set[int]
) -> dict[int, str]:
    """Names by id."""
    if not ids:
        return {}
    rows = session.exec(select(model.id, model.name).where(col(model.id).in_(ids))).all()
    return {id: name for id, name in rows if id is not None}
