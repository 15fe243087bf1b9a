"""What the loaders are told: golden texts, and values that try to become commands.

After a change that is meant, `UPDATE_GOLDEN=1 pytest tests/pxeboot/boot` rewrites the golden files (and
fails, so that nobody forgets to look at the difference). Each of them was seen working on firmware:
docs/booting.md.
"""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.boot import BootDecision
from pxeboot.boot.scripts import (
    MenuTexts,
    ScriptContext,
    ScriptError,
    grub_config,
    grub_quote,
    grub_stub,
    ipxe_script,
    ipxe_text,
    ipxe_word,
    menu_texts,
)

GOLDEN = Path(__file__).parent / "golden"
CONTEXT = ScriptContext("http://10.20.0.1", "52:54:00:12:34:01", token="T" * 43, key="ab" * 32)


def decision(action, reason="A reason, with an apostrophe's help.", **more):
    more.setdefault("mode", "task" if action == "agent" else None)
    return BootDecision(action, reason, datetime(2026, 11, 23, tzinfo=UTC), menu_seconds=20, **more)


def compare(texts):
    if os.environ.get("UPDATE_GOLDEN"):
        for name, text in texts.items():
            (GOLDEN / name).write_text(text)
        pytest.fail(f"wrote {', '.join(texts)}")
    for name, text in texts.items():
        assert text == (GOLDEN / name).read_text()


@pytest.mark.parametrize("action", ["local", "menu", "agent", "refuse"])
def test_golden(action):
    compare(
        {
            f"{action}.grub": grub_config(decision(action), CONTEXT),
            f"{action}.ipxe": ipxe_script(decision(action), CONTEXT),
        }
    )


def test_golden_stub():
    compare({"stub.grub": grub_stub("http://10.20.0.1:8080")})


def test_local_boot_by_the_firmware():
    context = ScriptContext("http://10.20.0.1", "m", local_boot="firmware")
    assert "chainloader" not in grub_config(decision("local"), context)


def test_consoles_get_plain_ascii():
    """Seen: iPXE of 2019 shows UTF-8 as line drawing, EDK2's serial console swallows it."""
    context = ScriptContext(
        "http://10.20.0.1", "m", token="t", key="k", texts=MenuTexts(local="Démarrer l’œuvre 漢\t!")
    )
    for script in (grub_config(decision("menu"), context), ipxe_script(decision("menu"), context)):
        assert script.isascii()
        assert "oeuvre ? !" in script
    assert "item --default --key l local Demarrer l'oeuvre ? !" in ipxe_script(decision("menu"), context)


def test_both_menus_offer_the_same_in_the_same_order():
    def places(script):
        texts = CONTEXT.texts
        return [script.index(text + end) for text, end in (
            (texts.title, " "), (texts.local, ""), (texts.register_quick, ""), (texts.register_full, ""),
        )]  # fmt: skip

    for script in (grub_config(decision("menu"), CONTEXT), ipxe_script(decision("menu"), CONTEXT)):
        assert places(script) == sorted(places(script))


def test_texts_are_translated():
    texts = menu_texts(lambda text: f"<{text}>")
    assert all(
        getattr(texts, name) == f"<{getattr(MenuTexts(), name)}>" for name in MenuTexts.__dataclass_fields__
    )


@pytest.mark.parametrize("field", ["token", "key", "mac", "language", "base_url"])
@pytest.mark.parametrize("value", ["a b", "a'b", "a\nboot", "${net0/mac}", "a;b", "$(x)", "é"])
def test_a_value_that_could_be_a_command_is_refused(field, value):
    good = {"base_url": "http://10.20.0.1", "mac": "m", "token": "t", "key": "k"}
    context = ScriptContext(**good | {field: value})
    for render in (grub_config, ipxe_script):
        with pytest.raises(ScriptError):
            render(decision("agent"), context)


def test_the_agent_needs_a_token():
    with pytest.raises(ScriptError):
        grub_config(decision("agent"), ScriptContext("http://10.20.0.1", "m"))


EVIL = [
    "'; halt; '",
    "$root",
    "${cls}",
    "a || exit",
    "a && boot",
    "x ; reboot",
    "# no",
    "-n",
    "\nboot",
    "\\'",
    '"',
    "\x1b[2J",
]


@pytest.mark.parametrize("reason", EVIL)
def test_a_reason_stays_one_line_of_text(reason):
    plain = grub_config(decision("refuse", "."), CONTEXT).count("\n")
    assert grub_config(decision("refuse", reason), CONTEXT).count("\n") == plain
    lines = ipxe_script(decision("refuse", reason), CONTEXT).splitlines()
    assert len(lines) == len(ipxe_script(decision("refuse", "."), CONTEXT).splitlines())
    assert "${" not in "".join(lines)


@given(st.text(max_size=60))
def test_ipxe_text(text):
    said = ipxe_text(text)
    assert said.isprintable()
    assert said.isascii()
    words = said.split(" ")
    assert not {"||", "&&", ";"} & set(words)
    assert not any(word.startswith("#") for word in words)
    assert "${" not in said


@given(st.text(max_size=60))
def test_grub_quote(text):
    quoted = grub_quote(text)
    assert quoted.isprintable()
    # Quoted runs without quotes in them, joined by escaped quotes: nothing else can follow in GRUB's lexer.
    assert re.fullmatch(r"'[^']*'(\\''[^']*')*", quoted)


@pytest.mark.parametrize("word", ["", "a b", "#x", "-x", "${x}", "||", ";", "é", "a\tb"])
def test_not_an_ipxe_word(word):
    with pytest.raises(ScriptError):
        ipxe_word(word)


@pytest.mark.skipif(shutil.which("grub-script-check") is None, reason="needs grub-script-check")
@pytest.mark.parametrize("reason", ["A reason.", *EVIL])
def test_grub_can_parse_it(reason, tmp_path):
    scripts = [grub_stub("http://10.20.0.1")]
    scripts += [grub_config(decision(a, reason), CONTEXT) for a in ("local", "menu", "agent", "refuse")]
    for script in scripts:
        (tmp_path / "grub.cfg").write_text(script)
        subprocess.run(["grub-script-check", tmp_path / "grub.cfg"], check=True)
