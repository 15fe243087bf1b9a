"""Rendering administrators' templates with a host's variables, on the server, in a sandbox.

Templates are written by administrators; what they are filled with comes from machines too (a serial number,
a product's name), so a template that makes XML or shell writes `{{ host.serial|e }}` or `|sh`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pxeboot.errors import Invalid

MAX_TEMPLATE = 256 << 10
MAX_RENDERED = 512 << 10

_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True
)
_environment.filters["sh"] = lambda value: shlex.quote(str(value))
_environment.globals = {"range": _environment.globals["range"]}


def check(text: str, what: str) -> None:
    """Invalid with line and reason when the text is no template."""
    try:
        _environment.parse(text)
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        raise Invalid(f"{what}{where}: {error.message or 'this is no template'}.", field="content") from error


def render(text: str, variables: Mapping[str, Any], what: str) -> str:
    """The text filled in. Invalid, naming `what`, for a variable that does not exist or too much text."""
    if "{" not in text:
        return text
    pieces, length = [], 0
    try:
        for piece in _environment.from_string(text).generate(**variables):
            pieces.append(piece)
            length += len(piece)
            if length > MAX_RENDERED:
                raise Invalid(f"{what} makes more than {MAX_RENDERED >> 10} KiB of text: correct it.")
    except Invalid:
        raise
    # A template may fail with any exception of the values it touches.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise Invalid(f"{what} cannot be filled in: {reason}.", field="content") from error
    return "".join(pieces)
