"""Making values safe to write in a loader's language: GRUB's, iPXE's, a kernel's command line (pure).

No name of a host and no translation may become a command; what cannot be said safely raises `ScriptError`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = [
    "WORD",
    "ScriptError",
    "grub_quote",
    "grub_text",
    "grub_word",
    "ipxe_argument",
    "ipxe_text",
    "ipxe_word",
    "one_line",
]


class ScriptError(ValueError):
    """A value cannot be written in the loader's language; the sentence names it."""


# Printable ASCII without what GRUB, iPXE or the kernel's own parser could take for something else.
WORD: Final = re.compile(r"[A-Za-z0-9._:/=,@%+\[\]-]+")
_PLAIN: Final = str.maketrans({"’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "œ": "oe", "ß": "ss"})


def grub_quote(text: str) -> str:
    """`text` as one word of GRUB's language: in single quotes, where nothing is special but the quote
    itself."""
    return "'" + one_line(text).replace("'", "'\\''") + "'"


def grub_text(text: str) -> str:
    """As `grub_quote`, for what people read: to `echo` and `menuentry` a word that begins with a hyphen is an
    option, quoted or not."""
    line = one_line(text)
    return grub_quote(" " + line if line.startswith("-") else line)


def grub_word(text: str) -> str:
    """`text` unchanged if GRUB reads it as one plain word, e.g. an entry's name. Raises `ScriptError`."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", text):
        raise ScriptError(f"{text[:60]!r} cannot be a word of a GRUB configuration.")
    return text


def ipxe_text(text: str) -> str:
    """`text` as the last words of an iPXE `echo --`, `menu --` or `item` line.

    iPXE has no quotes: a line is cut at white space, `||`, `&&` and `;` as words of their own end a command,
    a word that begins with `#` starts a comment, and `${` begins a setting (src/core/exec.c). Each is changed
    as little as will make it plain text.
    """
    words = []
    for word in one_line(text).replace("${", "$(").split():
        if word in ("||", "&&", ";"):
            word = {"||": "|", "&&": "&", ";": ","}[word]
        words.append("'" + word if word.startswith("#") else word)
    return " ".join(words)


def ipxe_word(text: str) -> str:
    """`text` unchanged if iPXE reads it as one plain word. Raises `ScriptError`."""
    if not text or text.startswith(("#", "-")) or not re.fullmatch(r"[!-~]+", text) or "${" in text:
        raise ScriptError(f"{text[:60]!r} cannot be a word of an iPXE script.")
    if text in ("||", "&&", ";"):
        raise ScriptError(f"{text!r} would end the iPXE command.")
    return text


def ipxe_argument(text: str) -> str:
    """As `ipxe_word`, for a word after a kernel's URL: iPXE takes none there for an option, so it may begin
    with a hyphen."""
    ipxe_word(text.lstrip("-") or "x")
    return text


def one_line(text: str) -> str:
    """Printable ASCII on one line, accents dropped.

    iPXE up to 2019 (QEMU's ROM) shows UTF-8 as line-drawing characters, and EDK2 drops on its serial
    console what is not ASCII; the two menus must look alike everywhere.
    """
    text = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    text = "".join(c for c in text if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else " " if c.isspace() else "?" for c in text)
