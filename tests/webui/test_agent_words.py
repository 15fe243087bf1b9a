"""What an agent said in its language, read in another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imaging.agent import i18n
from imaging.agent.hearing import Facts, why_deaf
from webui.agent_words import reworded

DEAF = Facts("239.192.7.9", "eth0", member=True, arrived=0, sent=500, seconds=4, before=False)


def said(facts: Facts, language: str) -> str:
    i18n.use(language)
    try:
        return why_deaf(facts)
    finally:
        i18n.use("en")


@pytest.mark.parametrize(
    "changes",
    [{}, {"before": True}, {"member": False}, {"arrived": 480}, {"sent": 0}, {"sent": None}],
)
def test_each_reason_is_read_in_either_language(changes: dict[str, object]) -> None:
    facts = replace(DEAF, **changes)  # type: ignore[arg-type]
    english, french = said(facts, "en"), said(facts, "fr")
    assert english != french
    assert reworded(french, "en") == english
    assert reworded(english, "fr") == french
    assert (reworded(english, "en"), reworded(french, "fr")) == (english, french)


def test_sentences_one_after_the_other() -> None:
    both = f"{said(DEAF, 'en')} Neighbours have given nothing for a while."
    assert (
        reworded(both, "fr") == f"{said(DEAF, 'fr')} Les machines voisines n'ont rien donné depuis un moment."
    )


@pytest.mark.parametrize("strange", ["", "memory", "The fan is loud.", "<b>{host}.", "x" * 600])
def test_what_it_does_not_know_stays_as_it_came(strange: str) -> None:
    assert reworded(strange, "fr") == strange
