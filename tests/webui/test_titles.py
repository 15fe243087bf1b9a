"""Titles of operations in the reader's language."""

from __future__ import annotations

from typing import Any

import pytest

from pxeboot import i18n
from pxeboot.services.task_kinds import REQUESTS
from webui.titles import TITLES, title_text
from webui.words import translated


def context(language: str) -> Any:
    return {"gettext": i18n.translations(language).gettext}


@pytest.mark.parametrize(
    ("title", "french"),
    [
        ("Deploy linux@3 to B204", "Déployer linux@3 sur B204"),
        ("Deploy linux@3 to pc1 and 4 more", "Déployer linux@3 sur pc1 et 4 autres"),
        ("Reset B204 to linux@3", "Réinitialiser B204 à linux@3"),
        ("Reset B204", "Réinitialiser B204"),
        ("Wipe pc1", "Effacer pc1"),
        ("Something else", "Something else"),
    ],
)
def test_a_title(title: str, french: str) -> None:
    assert title_text(context("fr"), title) == french
    assert title_text(context("en"), title) == title


def test_every_kind_has_its_title() -> None:
    assert {asked.title for asked in REQUESTS.values()} <= set(TITLES)


def test_no_word_is_no_word() -> None:
    """gettext has the catalogue's header for it."""
    assert translated(context("fr"), {"healthy": ""}, "healthy") == ""
