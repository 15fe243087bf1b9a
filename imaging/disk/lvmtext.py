"""The text in which LVM2 writes its metadata down (lvm.conf(5)): sections, numbers, strings, lists.

``name { key = 1 other = "text" third = ["pv0", 0] }``; ``#`` begins a comment. Only what LVM writes itself
is read; anything else raises LvmError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from imaging.errors import DiskError

_TOKEN = re.compile(
    r"""\s+ | \#[^\n]*
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<number>-?\d{1,19}(?:\.\d{1,19})?(?![\w.]))
    | (?P<name>[\w.+-]+)
    | (?P<sign>[={}\[\],])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_DEPTH = 8


class LvmError(DiskError):
    """Metadata of LVM that we do not understand; ``str()`` is half a sentence about the physical volume."""

    code = "filesystem-unsupported"


def parse_text(text: str) -> dict[str, Any]:
    """Sections as dicts, lists as lists, numbers as int (or float), strings as str; raises LvmError."""
    return _section(_tokens(text), 0)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise LvmError("its metadata cannot be read")
        at = match.end()
        if match.lastgroup:
            yield match.lastgroup, match.group()


def _section(tokens: Iterator[tuple[str, str]], depth: int) -> dict[str, Any]:
    """Up to the closing brace, at depth 0 up to the end."""
    if depth > _DEPTH:
        raise LvmError("its metadata is nested too deep")
    found: dict[str, Any] = {}
    for kind, text in tokens:
        if depth and text == "}" and kind == "sign":
            return found
        name = _unquoted(text) if kind == "string" else text
        if kind == "sign" or name in found:
            raise LvmError("its metadata cannot be read")
        sign = next(tokens, ("", ""))
        if sign == ("sign", "{"):
            found[name] = _section(tokens, depth + 1)
        elif sign == ("sign", "="):
            found[name] = _value(tokens)
        else:
            raise LvmError("its metadata cannot be read")
    if depth:
        raise LvmError("its metadata is cut short")
    return found


def _value(tokens: Iterator[tuple[str, str]]) -> Any:
    token = next(tokens, ("", ""))
    if token != ("sign", "["):
        return _scalar(token)
    items: list[Any] = []
    for token in tokens:
        if token == ("sign", "]"):
            return items
        if token != ("sign", ","):
            items.append(_scalar(token))
    raise LvmError("its metadata is cut short")


def _scalar(token: tuple[str, str]) -> Any:
    kind, text = token
    if kind == "string":
        return _unquoted(text)
    if kind == "number":
        return float(text) if "." in text else int(text)
    raise LvmError("its metadata cannot be read")


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
