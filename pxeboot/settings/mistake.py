"""One mistake in the configuration: key, value, what is wrong with it, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pxeboot.errors import ConfigError

Level = Literal["error", "warning"]
_LONGEST: Final = 80


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something to correct, or (`warning`) something that may not be meant.

    Attributes:
        key: as people write it, `dhcp.subnets[1].pools[0]`; "" when it is about no single key.
        value: what is written there, None when nothing is.
        what: what is wrong, continuing "KEY = VALUE …".
        remedy: what to do, a clause without a full stop.
        level: whether the daemon refuses to run with it.
        source: the file or environment variable that says it; filled in by who has read it.
    """

    key: str
    value: object
    what: str
    remedy: str
    level: Level = "error"
    source: str = ""

    @property
    def sentence(self) -> str:
        """All of it, for people, without the source."""
        said = "" if self.value is None else f" = {shown(self.value)}"
        end = "" if self.remedy.endswith((".", "?", "!")) else "."
        return f"{self.key}{said} {self.what}; {self.remedy}{end}".strip()

    def to_dict(self) -> dict[str, Any]:
        """For scripts."""
        value = self.value if isinstance(self.value, str | int | float | bool | None) else shown(self.value)
        return {
            "level": self.level,
            "source": self.source,
            "key": self.key,
            "value": value,
            "what": self.what,
            "remedy": self.remedy,
        }


def shown(value: object) -> str:
    """A value as it fits into a sentence."""
    try:
        text = repr(value)
    except RecursionError:
        text = "…"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """A remedy: the known word that looks most like this one, else `otherwise`."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else otherwise


def refuse(mistakes: Sequence[Mistake]) -> None:
    """Raise ConfigError with every error among the mistakes, one a line; warnings raise nothing."""
    errors = [mistake for mistake in mistakes if mistake.level == "error"]
    if errors:
        lines = [f"{one.source}: {one.sentence}" if one.source else one.sentence for one in errors]
        data = [
            {"field": one.key, "msg": one.sentence, "source": one.source, "remedy": one.remedy}
            for one in errors
        ]
        raise ConfigError("\n".join(lines), errors=data)
