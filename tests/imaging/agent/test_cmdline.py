"""Boot parameters from the kernel command line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging.agent.cmdline import parse
from imaging.agent.errors import AgentError

TOKEN = "A" * 43
WHOLE = (
    f"BOOT_IMAGE=/vmlinuz quiet pxeboot.url=http://10.0.0.1:8080/ pxeboot.token={TOKEN} "
    f"pxeboot.key={'ab' * 32} pxeboot.mac=52-54-00-AA-BB-CC "
    "pxeboot.mode=register-full pxeboot.lang=fr console=ttyS0"
)


def test_all_words() -> None:
    words = parse(WHOLE)
    assert words.url == "http://10.0.0.1:8080"
    assert (words.token, words.key, words.mac) == (TOKEN, b"\xab" * 32, "52:54:00:aa:bb:cc")
    assert (words.mode, words.lang) == ("register-full", "fr")


def test_mode_and_language_have_defaults() -> None:
    words = parse(WHOLE.replace("pxeboot.mode=register-full pxeboot.lang=fr", ""))
    assert (words.mode, words.lang) == ("task", "en")


@pytest.mark.parametrize("name", ["url", "token", "key", "mac"])
def test_a_missing_word_is_named(name: str) -> None:
    with pytest.raises(AgentError, match=rf"lacks pxeboot\.{name}"):
        parse(WHOLE.replace(f"pxeboot.{name}=", "other="))


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("http://10.0.0.1", "ftp://10.0.0.1", "url"),
        (TOKEN, "short", "token"),
        ("ab" * 32, "ab", "key"),
        ("AA-BB-CC", "AA", "mac"),
        ("register-full", "wipe", "mode"),
    ],
)
def test_a_malformed_word_is_named(old: str, new: str, name: str) -> None:
    with pytest.raises(AgentError, match=rf"pxeboot\.{name} .* malformed") as caught:
        parse(WHOLE.replace(old, new))
    assert TOKEN not in caught.value.sentence
    assert "short" not in caught.value.sentence


@given(st.text())
def test_nothing_but_agent_errors_comes_out(text: str) -> None:
    with pytest.raises(AgentError):
        parse(f"pxeboot.url={text} {text}")
