"""What agents say, in the reader's language.

An agent speaks the language of its site, to the console of its machine and to us. Its own catalogue tells
which sentence that was, so that a page shows it in another language, too; what is not in there stays as it
came.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from imaging.agent.i18n import DOMAIN, LOCALE_DIR, parse_po

_NAME: Final = re.compile(r"\{(\w+)\}")
_LEAST: Final = 12  # letters of its own, or everything would be that sentence
_ROOM: Final = 500  # what an agent sends of a sentence: one that was cut off is not known again


@lru_cache(maxsize=1)
def _catalogues() -> dict[str, dict[str, str]]:
    """By language: English sentence → its translation."""
    found = {}
    for source in sorted(Path(LOCALE_DIR).glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
        entries = parse_po(source.read_text(encoding="utf-8"))
        found[source.parent.parent.name] = {key: value for key, value in entries.items() if key}
    return found


@lru_cache(maxsize=1)
def _known() -> list[tuple[re.Pattern[str], str]]:
    """How to know a sentence again in any language, and what it is in English; longer ones first."""
    texts = {text for catalogue in _catalogues().values() for text in catalogue}
    wordings = [(text, text) for text in texts]
    wordings += [(said, text) for each in _catalogues().values() for text, said in each.items()]
    wordings.sort(key=lambda pair: (-len(_NAME.sub("", pair[0])), pair))
    return [
        (_pattern(said), text)
        for said, text in wordings
        if said.endswith(".") and len(_NAME.sub("", said)) >= _LEAST
    ]


def _pattern(said: str) -> re.Pattern[str]:
    """Its text with anything in the place of each `{name}`."""
    parts = _NAME.split(said)
    seen: set[str] = set()
    made = ""
    for place, part in enumerate(parts):
        if place % 2 == 0:
            made += re.escape(part)
        elif part in seen:
            made += f"(?P={part})"
        else:
            seen.add(part)
            made += f"(?P<{part}>.+?)"
    return re.compile(made + r"(?:\s+|$)")


@lru_cache(maxsize=4096)
def reworded(sentences: str, language: str) -> str:
    """One sentence of an agent, or several, in this language as far as its catalogue has them."""
    if len(sentences) >= _ROOM:
        return sentences
    translation = _catalogues().get(language, {})
    told, at = [], 0
    while at < len(sentences):
        for pattern, text in _known():
            if match := pattern.match(sentences, at):
                said = translation.get(text, text)
                told.append(_NAME.sub(lambda name: match.groupdict().get(name[1], name[0]), said))
                at = match.end()
                break
        else:
            return sentences
    return " ".join(told)
