"""Words for people, in their language: gettext domain ``pxeboot-agent``, English when there is no catalogue.

The ``.po`` file is the source. A compiled ``.mo`` beside it is used when it is at least as new; otherwise the
``.po`` is compiled in memory, so that a checkout speaks French without a build step.
"""

from __future__ import annotations

import ast
import os
import struct
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gettext import NullTranslations

DOMAIN = "pxeboot-agent"
LOCALE_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "locale")

_translations: NullTranslations | None = None


def use(lang: str) -> None:
    """Speak ``lang`` (``fr``, ``en``, …) from now on; an unknown language means English."""
    global _translations
    _translations = _load(lang)


def gettext(message: str) -> str:
    """The message in the language chosen by ``use``, or as it is."""
    return _translations.gettext(message) if _translations is not None else message


def _load(lang: str) -> NullTranslations | None:
    if lang == "en" or not lang.isalpha():
        return None
    folder = os.path.join(LOCALE_DIR, lang, "LC_MESSAGES")
    source, compiled = os.path.join(folder, f"{DOMAIN}.po"), os.path.join(folder, f"{DOMAIN}.mo")
    from gettext import GNUTranslations

    try:
        if not os.path.exists(source) or os.path.getmtime(compiled) >= os.path.getmtime(source):
            with open(compiled, "rb") as file:
                return GNUTranslations(file)
    except (OSError, UnicodeDecodeError):
        pass
    try:
        with open(source, encoding="utf-8") as text:
            return GNUTranslations(BytesIO(compile_po(text.read())))
    except (OSError, ValueError, SyntaxError):
        return None


def parse_po(text: str) -> dict[str, str]:
    """msgid → msgstr of a PO file without plurals and contexts; untranslated and fuzzy entries are left
    out.
    """
    entries: dict[str, str] = {}
    parts: dict[str, str] = {}
    field = ""
    fuzzy = False

    def close() -> None:
        if parts.get("msgstr") and not (fuzzy and parts.get("msgid")):
            entries[parts.get("msgid", "")] = parts["msgstr"]
        parts.clear()

    for line in [*text.splitlines(), ""]:
        line = line.strip()
        if not line:
            close()
            field, fuzzy = "", False
        elif line.startswith("#,"):
            fuzzy = "fuzzy" in line
        elif line.startswith(("msgid ", "msgstr ")):
            field, _, rest = line.partition(" ")
            parts[field] = ast.literal_eval(rest)
        elif line.startswith('"') and field:
            parts[field] += ast.literal_eval(line)
    return entries


def compile_po(text: str) -> bytes:
    """The MO file (GNU gettext manual, "The Format of GNU MO Files") of a PO file's text."""
    entries = sorted((key.encode(), value.encode()) for key, value in parse_po(text).items())
    ids, strings = bytearray(), bytearray()
    table: list[tuple[int, int, int, int]] = []
    for key, value in entries:
        table.append((len(key), len(ids), len(value), len(strings)))
        ids += key + b"\0"
        strings += value + b"\0"
    start_ids = 28 + 16 * len(entries)
    start_strings = start_ids + len(ids)
    out = struct.pack("<7I", 0x950412DE, 0, len(entries), 28, 28 + 8 * len(entries), 0, 0)
    out += b"".join(struct.pack("<2I", length, start_ids + at) for length, at, _, _ in table)
    out += b"".join(struct.pack("<2I", length, start_strings + at) for _, _, length, at in table)
    return out + bytes(ids) + bytes(strings)
