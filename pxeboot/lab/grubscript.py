"""Reads the part of GRUB's script language that boot configurations use, far enough to say what would be
booted (pure).

Simple commands, ``set``, ``menuentry … { … }`` and variables are followed. Conditions and loops are read as
if each command succeeded at once: of several kernels the first counts. Source: GRUB manual, "Shell-like
scripting".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pxeboot.lab.errors import LabError

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+|\?))")
_KEYWORDS = frozenset({"if", "then", "elif", "else", "while", "until", "do", "!"})


@dataclass
class Entry:
    """One thing that can be booted: its title, the kernel's arguments (None: no ``linux`` command) and
    initrds; or the configuration that it goes on with.
    """

    title: str
    id: str = ""
    kernel: str | None = None
    arguments: tuple[str, ...] = ()
    initrd: tuple[str, ...] = ()
    config: str = ""

    @property
    def command_line(self) -> str | None:
        """What the kernel would find in /proc/cmdline, without BOOT_IMAGE."""
        return None if self.kernel is None else " ".join(self.arguments)

    @property
    def parameters(self) -> dict[str, str]:
        """The ``key=value`` arguments of the kernel."""
        return dict(a.partition("=")[::2] for a in self.arguments if "=" in a)


@dataclass
class Script:
    """A configuration: what it does at once (``direct``) and its menu (``entries``), with its variables."""

    direct: Entry
    entries: list[Entry] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def chosen(self) -> Entry | None:
        """What boots when nobody touches a key; None when the menu waits for ever (``timeout`` unset or
        -1).
        """
        if not self.entries:
            return self.direct
        timeout = self.variables.get("timeout", "-1")
        if not re.fullmatch(r"\d+", timeout):
            return None
        default = self.variables.get("default", "0")
        for index, entry in enumerate(self.entries):
            if default in (str(index), entry.title, entry.id):
                return entry
        return self.entries[0]


def words_of(text: str, variables: Mapping[str, str]) -> Iterator[list[str]]:
    """The simple commands of a script as lists of words; ``{`` and ``}`` come as commands of their own.

    Quotes, backslashes, comments and variables (unknown ones are empty) are resolved as GRUB's lexer does.
    Raises LabError at an unfinished quote.
    """
    position, command, word = 0, list[str](), ""
    in_word = False

    def expand(match: re.Match[str]) -> str:
        return variables.get(match[1] or match[2], "")

    while position < len(text):
        character = text[position]
        if character in " \t\r\n;{}":
            if in_word:
                command.append(word)
                word, in_word = "", False
            if character in "\n;{}" and command:
                yield command
                command = []
            if character in "{}":
                yield [character]
            position += 1
        elif character == "#" and not in_word:
            end = text.find("\n", position)
            position = len(text) if end < 0 else end
        elif character == "\\":
            if (
                text[position + 1 : position + 2] != "\n"
            ):  # a backslash at the end of a line joins it with the next
                word += text[position + 1 : position + 2]
                in_word = True
            position += 2
        elif character == "'":
            end = text.find("'", position + 1)
            if end < 0:
                raise LabError("the boot script ends inside a quote")
            word, in_word, position = word + text[position + 1 : end], True, end + 1
        elif character == '"':
            match = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(text, position)
            if match is None:
                raise LabError("the boot script ends inside a quote")
            pieces = re.split(r"(\\[\\\"$]|\\\n)", match[1])  # odd ones are escapes
            word += "".join(
                (p[1:] if p[1:] != "\n" else "") if i % 2 else _VARIABLE.sub(expand, p)
                for i, p in enumerate(pieces)
            )
            in_word, position = True, match.end()
        elif character == "$" and (match := _VARIABLE.match(text, position)):
            value = expand(match)
            word, in_word, position = word + value, in_word or bool(value), match.end()
        else:
            word, in_word, position = word + character, True, position + 1
    if in_word:
        command.append(word)
    if command:
        yield command


def parse(text: str, variables: Mapping[str, str] | None = None) -> Script:
    """Read a configuration; ``variables`` are those the loader has set. Raises LabError when it cannot be
    read.
    """
    known = dict(variables or {})
    script = Script(Entry(""), [], known)
    stack: list[Entry | None] = [script.direct]
    waiting: Entry | None = None  # a menuentry whose "{" has not come yet
    for words in words_of(text, known):
        while words and words[0] in _KEYWORDS:
            words = words[1:]
        if not words:
            continue
        name, arguments = words[0], words[1:]
        if name == "{":
            stack.append(waiting)
            waiting = None
        elif name == "}":
            if len(stack) == 1:
                raise LabError("the boot script closes a brace that is not open")
            stack.pop()
        elif name == "menuentry":
            waiting = _menu_entry(arguments)
            script.entries.append(waiting)
        elif name == "set" and arguments:
            key, _, value = arguments[0].partition("=")
            if len(stack) == 1:
                known[key] = value
        elif stack[-1] is not None:
            _follow(stack[-1], name, arguments)
    if len(stack) != 1:
        raise LabError("the boot script ends inside a brace")
    return script


def _menu_entry(arguments: list[str]) -> Entry:
    entry = Entry(arguments[0] if arguments else "")
    for option, value in zip(arguments[1:], [*arguments[2:], ""], strict=False):
        if option == "--id":
            entry.id = value
        elif option.startswith("--id="):
            entry.id = option[5:]
    return entry


def _follow(entry: Entry, name: str, arguments: list[str]) -> None:
    if name in ("linux", "linuxefi") and arguments and entry.kernel is None:
        entry.kernel, entry.arguments = arguments[0], tuple(arguments[1:])
    elif name in ("initrd", "initrdefi") and not entry.initrd:
        entry.initrd = tuple(arguments)
    elif name == "configfile" and arguments and not entry.config:
        entry.config = arguments[0]
