"""The language of what people read: gettext catalogues, English where there is no translation.

Domain `pxeboot`, catalogues under `pxeboot/locale/<language>/LC_MESSAGES`; `scripts/setup` compiles them.
"""

from __future__ import annotations

import functools
import gettext
from pathlib import Path

DOMAIN = "pxeboot"
LOCALES = Path(__file__).resolve().parent / "locale"
LANGUAGES = ("en", "fr")


@functools.cache
def translations(language: str) -> gettext.NullTranslations:
    """The catalogue of a language; English (no translation) when there is none."""
    return gettext.translation(DOMAIN, LOCALES, languages=[language], fallback=True)


def choose(accept_language: str, user: str = "", setting: str = "en") -> str:
    """A reader's language: their own choice, else the browser's (RFC 9110 §12.5.4), else the setting."""
    if user in LANGUAGES:
        return user
    wishes = []
    for position, part in enumerate(accept_language.split(",")[:20]):
        tag, _, weight = part.strip().partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        wishes.append((-quality, position, tag.split("-")[0].lower()))
    for quality, _, tag in sorted(wishes):
        if quality < 0 and tag in LANGUAGES:
            return tag
    return setting if setting in LANGUAGES else "en"
