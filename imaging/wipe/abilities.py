"""What a disk says it can do to forget its content, and which method follows from it. Pure.

Sources: ACS-4 (SECURITY feature set, words 128 and 89, 90 as hdparm prints them), NVM Express Base 1.4 and
2.0 (Identify Controller: OACS, FNA, SANICAP; Identify Namespace: DLFEAT; Sanitize Status log page).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from imaging.errors import ImagingError

_MINUTES = re.compile(r"(\d+)min for (ENHANCED )?SECURITY ERASE UNIT")
_HIDDEN = re.compile(r"max sectors\s*=\s*(\d+)/(\d+)")


class WipeRefused(ImagingError):
    """The method that was asked for cannot be used on this disk; ``str()`` says why and what to do."""

    code = "wipe-refused"


@dataclass(frozen=True, slots=True)
class AtaSecurity:
    """The SECURITY feature set of an ATA disk; minutes are its own estimate, 0 = none given."""

    supported: bool = False
    enabled: bool = False
    locked: bool = False
    frozen: bool = False
    minutes: int = 0


@dataclass(frozen=True, slots=True)
class Nvme:
    """What an NVMe controller can do. ``format_all``: a format reaches all namespaces, not one."""

    format: bool = False
    format_all: bool = False
    sanitize_block: bool = False
    sanitize_crypto: bool = False


@dataclass(frozen=True, slots=True)
class Abilities:
    """All of one disk. ``others``: namespaces of the same controller that are not to be wiped."""

    ata: AtaSecurity | None = None
    nvme: Nvme | None = None
    others: tuple[str, ...] = ()
    discard: bool = False
    zeros_after_discard: bool = False
    rotational: bool = False


def parse_hdparm(text: str) -> AtaSecurity | None:
    """The security part of ``hdparm -I``; None when the disk has none.

    Its lines read ``not<tab>frozen`` or ``<tab>frozen``.
    """
    part = text.partition("\nSecurity:")[2]
    if not part:
        return None
    words = set()
    for line in part.splitlines()[1:]:
        # "not\tfrozen" begins at the margin or after a tab, by version; anything else ends the part.
        if not line[:1].isspace() and not line.startswith("not"):
            break
        words.add(" ".join(line.split()))
    times = {bool(found[2]): int(found[1]) for found in _MINUTES.finditer(part)}
    return AtaSecurity(
        supported="supported" in words,
        enabled="enabled" in words,
        locked="locked" in words,
        frozen="frozen" in words,
        minutes=times.get(False, 0),
    )


def zeros_after_trim(text: str) -> bool:
    """Does ``hdparm -I`` promise zeros after TRIM (ACS-4 word 69 bit 5)?"""
    return any(line.strip() == "*\tDeterministic read ZEROs after TRIM" for line in text.splitlines())


def hidden_sectors(text: str) -> int:
    """Sectors that a Host Protected Area hides, from ``hdparm -N``: they are out of reach of all methods
    but the disk's own."""
    found = _HIDDEN.search(text)
    return max(0, int(found[2]) - int(found[1])) if found else 0


def parse_id_ctrl(text: str) -> Nvme | None:
    """From ``nvme id-ctrl -o json``; None when that is not understood."""
    data = _object(text)
    if "oacs" not in data:
        return None
    oacs, fna, sanicap = (_int(data.get(key)) for key in ("oacs", "fna", "sanicap"))
    return Nvme(
        format=bool(oacs & 0b10),
        format_all=bool(fna & 0b11),
        sanitize_block=bool(sanicap & 0b10),
        sanitize_crypto=bool(sanicap & 0b01),
    )


def zeros_when_deallocated(text: str) -> bool:
    """Does ``nvme id-ns -o json`` say that deallocated blocks read as zeros (DLFEAT bits 2:0 = 1)?"""
    return _int(_object(text).get("dlfeat")) & 0b111 == 1


@dataclass(frozen=True, slots=True)
class Sanitizing:
    """The state of a sanitize operation; ``share`` 0 to 1."""

    running: bool
    failed: bool
    share: float


def parse_sanitize_log(text: str) -> Sanitizing:
    """From ``nvme sanitize-log -o json``, whose status is ``(2) in progress`` under a name that varies."""
    data = _object(text)
    # One object named after the device.
    inner = data if "sprog" in data else next((v for v in data.values() if isinstance(v, dict)), {})
    status, state = inner.get("sstat"), 0
    if isinstance(status, dict):
        for value in status.values():
            if isinstance(value, str) and (found := re.match(r"\((\d)\)", value)):
                state = int(found[1])
    else:
        state = _int(status) & 0b111
    return Sanitizing(state == 2, state == 3, min(1.0, _int(inner.get("sprog")) / 65535))


#: The most thorough first: what also reaches blocks that the disk has put aside.
_AUTO = ("nvme-sanitize", "nvme-format", "ata-secure-erase")
_FROZEN = (
    "its ATA security is frozen by the firmware: switch the machine off and on, let it sleep and wake, or "
    'look for "security freeze lock" in its firmware\'s set-up; or choose overwrite'
)


def why_not(method: str, able: Abilities) -> str:
    """Why a method cannot be used, as the end of a sentence with a way out; "" when it can."""
    if method == "overwrite":
        return ""
    if method == "discard":
        return "" if able.discard else "it does not take discards (TRIM): choose overwrite"
    if method == "ata-secure-erase":
        if able.ata is None or not able.ata.supported:
            return "it has no ATA security: choose auto or overwrite"
        return _FROZEN if able.ata.frozen else ""
    if able.nvme is None:
        return "it is no NVMe disk: choose auto or overwrite"
    if method == "nvme-sanitize":
        if not (able.nvme.sanitize_block or able.nvme.sanitize_crypto):
            return "its controller cannot sanitize: choose nvme-format or overwrite"
        whole = True
    else:
        if not able.nvme.format:
            return "its controller cannot format: choose overwrite"
        whole = able.nvme.format_all
    if whole and able.others:
        return f"it would take {', '.join(able.others)} along: choose all disks, or overwrite"
    return ""


def choose(method: str, able: Abilities, *, fallback: bool) -> tuple[tuple[str, ...], list[str]]:
    """(methods to try in this order, notes for the record). Raises WipeRefused.

    ``auto``: all that can be used, the most thorough first, and overwriting at last.
    """
    if method == "auto":
        reasons = {each: why_not(each, able) for each in _AUTO}
        notes = []
        if able.ata is not None and able.ata.frozen:
            notes.append("ATA security is frozen by the firmware, so the disk was overwritten instead.")
        return (*(each for each in _AUTO if not reasons[each]), "overwrite"), notes
    reason = why_not(method, able)
    if not reason:
        return (method, "overwrite") if fallback and method != "overwrite" else (method,), []
    if fallback:
        return ("overwrite",), [
            f"{method} could not be used: {reason.partition(':')[0]}; overwritten instead."
        ]
    raise WipeRefused(f"The disk cannot be wiped by {method}, because {reason}.")


def spares_remain(method: str, able: Abilities) -> bool:
    """Whether blocks that a flash disk has put aside keep old data after this method."""
    return method in ("overwrite", "discard") and not able.rotational


def promises_zeros(method: str, able: Abilities) -> bool:
    """Does the disk have to read as zeros afterwards?

    ATA's normal erase writes zeros (ACS-4 §7.47); NVMe leaves open what is read after a format or sanitize
    unless deallocated blocks read as zeros, and even then only a discard promises to deallocate.
    """
    if method in ("overwrite", "ata-secure-erase"):
        return True
    return method == "discard" and able.zeros_after_discard


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
