"""One thing the doctor found: how bad, about what, in a sentence, and what to do about it.

Sentence and remedy are templates over `data` (`%(name)s`), so that the same finding is said in English by
`--json`, in the reader's language by a page, and compared with an earlier one without its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Level = Literal["ok", "note", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("ok", "note", "warning", "error")


def N_(text: str) -> str:
    """Mark a text for translation where it stands."""
    return text


def _english(text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says of one subject.

    Attributes:
        check: name of the check, one of `pxeboot.doctor.checks.CHECKS`.
        level: `ok` looked at and fine; `note` worth knowing, or not looked at; `warning` will hurt some
            machines; `error` hurts all of them.
        subject: what it is about: an interface, an address, a file. Never translated.
        template: the sentence, with `%(name)s` for members of `data`.
        remedy_template: what to do, "" when there is nothing to do.
        data: the facts, for scripts and for the templates; strings, numbers, lists of them.
    """

    check: str
    level: Level
    subject: str
    template: str
    remedy_template: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The sentence in English."""
        return self.say()[0]

    @property
    def remedy(self) -> str:
        """The remedy in English."""
        return self.say()[1]

    def say(self, gettext: Callable[[str], str] = _english) -> tuple[str, str]:
        """Sentence and remedy in the language of `gettext`."""
        values = {key: _text(value) for key, value in self.data.items()}
        return tuple(  # type: ignore[return-value]
            (gettext(text) % values) if text else "" for text in (self.template, self.remedy_template)
        )

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same finding as one of an earlier run."""
        return self.check, self.level, self.subject, self.template

    def to_dict(self) -> dict[str, Any]:
        """As JSON; `sentence` and `remedy` are what scripts show."""
        return {
            "check": self.check,
            "level": self.level,
            "subject": self.subject,
            "sentence": self.sentence,
            "remedy": self.remedy,
            "data": dict(self.data),
            "template": self.template,
            "remedy_template": self.remedy_template,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Finding:
        """The finding that `to_dict` wrote. Raises ValueError when it is none."""
        try:
            found = cls(
                str(values["check"]),
                LEVELS[LEVELS.index(values["level"])],
                str(values["subject"]),
                str(values["template"]),
                str(values["remedy_template"]),
                dict(values["data"]),
            )
            found.say()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"this is not a finding: {error}") from error
        return found


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def worst(findings: Iterable[Finding]) -> Level:
    """The highest level among them, `ok` for none."""
    return LEVELS[max((LEVELS.index(found.level) for found in findings), default=0)]


def not_looked(check: str, subject: str, reason: object) -> Finding:
    """What could not be looked at is a finding, too."""
    return Finding(
        check,
        "note",
        subject,
        N_("This could not be looked at: %(reason)s."),
        N_("Run `pxeboot doctor` as root, on the server itself."),
        {"reason": str(reason).rstrip(".")},
    )
