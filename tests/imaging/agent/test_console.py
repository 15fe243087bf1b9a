"""Consoles: lines out, answers in, in two languages."""

import ast
import os
import pty
import re
import time
from gettext import GNUTranslations
from io import BytesIO, StringIO
from pathlib import Path

import pytest

from imaging.agent import i18n
from imaging.agent.console import AnswerTimeout, Console, Terminal, open_consoles
from tests.imaging.agent.conftest import Typist

AGENT = Path(i18n.__file__).parent


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def test_an_answer_and_a_default() -> None:
    typist = Typist("pc-17\n\n")
    assert typist.console.ask("Registration: name", "b204-01", soon()) == "pc-17"
    assert typist.console.ask("Registration: name", "b204-01", soon()) == "b204-01"
    assert typist.screen.startswith("Registration: name [b204-01]: ")


def test_nobody_answers_within_the_time_limit() -> None:
    typist = Typist(hang_up=False)
    start = time.monotonic()
    with pytest.raises(AnswerTimeout):
        typist.console.ask("name", "", soon(0.2))
    assert 0.2 <= time.monotonic() - start < 20


def test_a_closed_console_is_not_waited_for() -> None:
    start = time.monotonic()
    with pytest.raises(AnswerTimeout):
        Typist("").console.ask("name", "", soon(60))
    assert time.monotonic() - start < 30


def test_a_choice_by_number_by_text_and_wrongly() -> None:
    typist = Typist("9\nnonsense\n2\nB204\n\n")
    choices = ["none", "B204", "B205"]
    assert typist.console.choose("Registration: group", choices, 0, soon()) == 2
    assert typist.screen.count("Please type a number from 0 to 2.") == 2
    assert typist.console.choose("Registration: group", choices, 0, soon()) == 1
    assert typist.console.choose("Registration: group", choices, 0, soon()) == 0


def test_control_characters_typed_or_sent_by_a_noisy_line_are_dropped() -> None:
    assert Typist("\x1b\x00pc\x07-1 \r\n").console.ask("name", "", soon()) == "pc-1"


def test_an_answer_on_one_console_shows_on_the_other() -> None:
    here, there = Typist(hang_up=False), Typist("pc-2\n", hang_up=False)
    both = Console([*here.console._terminals, *there.console._terminals])
    assert both.ask("name", "x", soon()) == "pc-2"
    assert here.screen == "name [x]: pc-2\n"


def test_a_serial_console_gets_lines_a_screen_gets_a_bar() -> None:
    reader, writer = os.pipe()
    log = StringIO()
    console = Console([Terminal("tty0", None, writer, bar=True)], log)
    console.progress("receive", 50, 100, "http=1MB")
    console.say("Next line")
    drawn = os.read(reader, 4096).decode()
    assert "[###############...............]  50 %" in drawn
    assert drawn.endswith("\r\x1b[KNext line\n")  # the bar is wiped, not written over
    assert "agent: progress stage=receive percent=50 http=1MB" in log.getvalue()


def test_a_console_that_takes_nothing_holds_nobody() -> None:
    _reader, writer = os.pipe()
    os.set_blocking(writer, False)
    console = Console([Terminal("ttyS0", None, writer, bar=False)])
    start = time.monotonic()
    console.say("x" * 200_000)  # more than a pipe holds, and nobody reads
    assert time.monotonic() - start < 30


def test_the_kernel_names_the_consoles(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "ttyS0").symlink_to(os.ttyname(follower))
    (tmp_path / "active").write_text("tty0 ttyS0\n")
    console = open_consoles(None, str(tmp_path / "active"), str(dev))  # tty0 is not there: left out
    console.say("pxeboot agent")
    assert os.read(leader, 100) == b"pxeboot agent\r\n"
    os.write(leader, b"pc-1\r")
    assert console.ask("name", "", soon()) == "pc-1"


# -- languages --


def messages() -> set[str]:
    """Every msgid in the agent's source."""
    found = set()
    for path in AGENT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                argument = node.args[0]
                if isinstance(argument, ast.Constant):
                    found.add(str(argument.value))
    return found


def test_every_message_has_a_french_one_with_the_same_fields() -> None:
    catalogue = i18n.parse_po((AGENT / "locale/fr/LC_MESSAGES/pxeboot-agent.po").read_text("utf-8"))
    assert messages() - set(catalogue) == set()
    assert set(catalogue) - messages() - {""} <= {"Registration: group", "Registration: image"}
    for english, french in catalogue.items():
        if english:
            assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", french))


def test_french_without_a_compiled_catalogue() -> None:
    i18n.use("fr")
    assert i18n.gettext("none") == "aucun"
    i18n.use("tlh")
    assert i18n.gettext("none") == "none"


def test_a_compiled_catalogue_is_what_gettext_reads() -> None:
    po = (
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "a"\nmsgstr "é"\n\n'
        '#, fuzzy\nmsgid "b"\nmsgstr "faux"\n\nmsgid ""\n"c "\n"d"\nmsgstr "e "\n"f"\n'
    )
    translations = GNUTranslations(BytesIO(i18n.compile_po(po)))
    assert [translations.gettext(word) for word in ("a", "b", "c d")] == ["é", "b", "e f"]
